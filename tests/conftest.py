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


@pytest.fixture(scope="session")
def tiny_assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An assets folder whose bundled engine is tiny and untrained, and whose samples are the shipped ones."""
    from tiny_engine import write_tiny_engine

    folder = tmp_path_factory.mktemp("assets")
    write_tiny_engine(folder / "models" / "bundled")
    (folder / "sample").symlink_to(Path(__file__).resolve().parents[1] / "assets" / "sample")
    return folder
