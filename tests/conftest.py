"""Shared test setup: where the companion data lies, and small things many tests build."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("ASAP_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The companion data folder; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"companion data folder {SHARED} is absent (set ASAP_SHARED)")
    return SHARED
