import numpy as np
import pytest

from core.anatomy.shapes import close, components, fill_solid, grow, shrink, touching


@pytest.fixture
def cube():
    mask = np.zeros((20, 20, 20), bool)
    mask[5:15, 5:15, 5:15] = True
    return mask


def test_grow_by_one_adds_the_six_faces(cube):
    assert grow(cube, 1.0).sum() == 10**3 + 6 * 10**2


def test_shrink_by_one_removes_one_layer(cube):
    assert shrink(cube, 1.0).sum() == 8**3


def test_a_mask_cut_by_the_border_is_not_shrunk_there():
    mask = np.zeros((10, 10, 10), bool)
    mask[:5] = True
    assert shrink(mask, 1.0).sum() == 4 * 10 * 10


def test_close_fills_a_slit_and_leaves_the_outside(cube):
    slit = cube.copy()
    slit[9:11, :, 5:15] = False
    closed = close(slit, 2.0)
    assert closed[9:11, 7:13, 7:13].all()
    assert not (closed & ~cube).any()


def test_fill_solid_fills_a_cavity_but_no_bay(cube):
    holed = cube.copy()
    holed[9, 9, 9] = False
    holed[9, 9, 13:] = False
    filled = fill_solid(holed)
    assert filled[9, 9, 9]
    assert not filled[9, 9, 14]


def test_touching_keeps_only_parts_with_a_seed(cube):
    two = cube.copy()
    two[0, 0, 0] = True
    seed = np.zeros_like(two)
    seed[7, 7, 7] = True
    assert (touching(two, seed) == cube).all()
    assert len(components(two)[1]) == 3


@pytest.mark.parametrize("operation", [grow, shrink, close])
def test_nothing_stays_nothing(operation):
    assert not operation(np.zeros((4, 4, 4), bool), 2.0).any()
