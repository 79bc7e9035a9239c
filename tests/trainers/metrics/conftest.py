"""Golden numbers of the published evaluations, wherever ASAP_FIXTURES says."""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.torch import load_file

FIXTURES = Path(os.environ.get("ASAP_FIXTURES", Path(__file__).resolve().parents[4] / "shared" / "fixtures"))


class Golden(NamedTuple):
    """Numbers and what they were computed from."""

    expected: dict
    tensors: dict
    atol: float  # of numbers that come from float32
    exact: float  # of numbers that come from texts

    def __getitem__(self, group):
        return self.expected[group]

    def near(self, value):
        return pytest.approx(value, rel=0, abs=self.atol, nan_ok=True)

    def same(self, value):
        return pytest.approx(value, rel=0, abs=self.exact)


@pytest.fixture(scope="session")
def golden() -> Golden:
    path = FIXTURES / "metrics" / "metrics.json"
    if not path.is_file():
        pytest.skip(f"golden numbers {path} are absent (set ASAP_FIXTURES)")
    told = json.loads(path.read_text())
    stated = [float(number) for number in re.findall(r"\d(?:\.\d+)?e-\d+", told["tolerance"])]
    tensors = load_file(path.parent / told["files"]["inputs"])
    return Golden(told["expected"], tensors, max(stated[:1], default=1e-6), min(stated, default=1e-9))


@pytest.fixture(scope="session")
def batch(golden) -> int:
    """Studies in a batch of the published evaluation loop."""
    return int(re.search(r"batches of (\d+)", golden["cls.multilabel"]["note"]).group(1))
