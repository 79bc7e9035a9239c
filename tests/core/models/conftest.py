"""Where the golden numbers of the published code lie."""

from pathlib import Path

import pytest
from asap_golden import FIXTURES


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Folder of golden numbers; tests that need it are skipped where it is absent."""
    if not FIXTURES.is_dir():
        pytest.skip(f"golden numbers {FIXTURES} are absent (set ASAP_FIXTURES)")
    return FIXTURES
