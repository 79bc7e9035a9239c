"""Padding is raised in place, and what it was comes back on demand, one value or many."""

import numpy as np
import pytest

from core.padding import raise_padding
from core.volume import Volume


@pytest.mark.parametrize("lows", [(-3024, -3024), (-3024, -1025)])
def test_padding_is_raised_in_place_and_comes_back(lows):
    stored = np.array([[[lows[0], -1024, 40], [-1023, lows[1], 0], [3, 2, 1]]], np.int16)
    values = stored.copy()
    padding = raise_padding(values)
    assert padding is not None
    assert padding.lowest == -3024
    assert values.tolist() == [[[-1024, -1024, 40], [-1023, -1024, 0], [3, 2, 1]]]
    assert raise_padding(values) is None
    assert padding.put_back(values).tolist() == stored.tolist()
    assert values.min() == -1024  # the raised array is left alone


def test_a_volume_without_padding_is_itself_as_stored():
    volume = Volume.from_source(np.zeros((2, 3, 4), np.int16), np.eye(4))
    assert volume.as_stored() is volume
