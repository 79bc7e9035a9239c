"""Reading the golden numbers of the published ASAP code."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor


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

    def check(self, name: str, got: Tensor) -> None:
        atol = self.about["tolerance"]["atol"].get(name, 1e-5)
        torch.testing.assert_close(
            got.detach().float(), self.expected[name].float(), atol=atol, rtol=1e-4, msg=lambda m: f"{name}: {m}"
        )


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
