"""Reading the golden numbers of the published ASAP code."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

FIXTURES = Path(os.environ.get("ASAP_FIXTURES", Path(__file__).resolve().parents[4] / "shared" / "fixtures"))


def in_float32(path: Path) -> dict[str, Tensor]:
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in load_file(path).items()}


@dataclass
class Golden:
    """One variant: its description, weights, inputs and expected tensors."""

    about: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]
    gradients: dict[str, Tensor]
    compared: set[str] = field(default_factory=set)

    def check(self, name: str, got: Tensor) -> None:
        """Compare with what is stored: all of it, or the first studies, or every n-th entry of an axis."""
        rule, want = self.about["tolerance"], self.expected[name]
        self.compared.add(name)
        if name == "k":  # empty slots have no number of their own
            real = torch.arange(want.shape[1]) < torch.tensor(self.about["sentence_counts"])[:, None]
            got, want = got[real], want[real]
        if not want.is_floating_point() or name in rule["exact"]:
            assert torch.equal(got.to(want.dtype), want), name
            return
        if name.endswith("_loss"):
            atol, rtol = rule["losses"]["atol"], rule["losses"]["rtol"]
        else:
            atol, rtol = rule["atol"].get(name, 1e-5), 1e-4
        got = thin_out(got.detach().float(), want.shape) if "_sample" in name else got.detach().float()
        torch.testing.assert_close(got, want.float(), atol=atol, rtol=rtol, msg=lambda m: f"{name}: {m}")


def thin_out(whole: Tensor, shape: torch.Size) -> Tensor:
    """The first studies (B, ...) of a tensor, and of every other axis each n-th entry, as many as are stored."""
    steps = [
        next(s for s in range(1, n + 1) if -(-n // s) == m) for n, m in zip(whole.shape[1:], shape[1:], strict=True)
    ]
    return whole[(slice(shape[0]), *(slice(None, None, step) for step in steps))]


def list_variants(fixtures: Path, method: str = "asap") -> list[str]:
    """Names of the JSON files in the folder that describe a run of this method."""
    files = sorted((fixtures / "asap").glob("*.json"))
    return [path.stem for path in files if json.loads(path.read_text())["method"] == method]


def check_gradient_norms(found: dict[str, Tensor], norms: dict[str, float], rtol: float) -> None:
    """Norms of every gradient; those that cancel but for rounding noise (key biases) count as nothing."""
    noise = 1e-6 * max(norms.values())
    for name, norm in norms.items():
        gap = abs(float(found[name].norm()) - norm)
        assert gap <= rtol * norm + noise, f"{name}: its gradient has norm {float(found[name].norm())}, not {norm}"


def load_golden(folder: Path, variant: str) -> Golden:
    about = json.loads((folder / f"{variant}.json").read_text())
    files = about["files"]
    inputs = in_float32(folder / files["inputs"])
    inputs["image"] = in_float32(folder / files["volumes"])["image"][: len(about["sentence_counts"])]
    inputs |= {k: torch.from_numpy(v) for k, v in np.load(folder / files["masks"]).items()}
    return Golden(
        about,
        in_float32(folder / files["weights"]),
        inputs,
        load_file(folder / files["expected"]),
        load_file(folder / files["gradients"]),
    )
