"""Fixtures of the organ tests."""

import pytest
from ellipsoid_chest import axis_grid, build_chest

from core.anatomy.atlas import Atlas


@pytest.fixture(scope="session")
def chest_atlas():
    """The ellipsoid chest as an atlas."""
    chest = build_chest(*axis_grid(3.0))
    return Atlas(chest.volume, chest.labels)
