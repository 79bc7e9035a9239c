import numpy as np

from core.anatomy.body_wall import fill_hulls, find_body_wall
from core.anatomy.frame import Frame
from core.volume import Grid


def trunk():
    """A round body of fat with a shell of muscle around a cavity: 60 mm radius, muscle 34 to 44 mm, cavity below."""
    shape = (64, 64, 10)
    x, y, _ = np.indices(shape) * 2.0 - 63.0
    radius = np.hypot(x, y)
    hu = np.select([radius < 34, radius < 44, radius < 60], [40, 60, -100], -1000).astype(np.int16)
    frame = Frame(hu, np.ones(shape, bool), Grid(shape, np.diag([2.0, 2.0, 2.0, 1.0])))
    return frame, radius


def test_fat_and_muscle_are_told_apart_outside_the_cavity():
    frame, radius = trunk()
    wall = find_body_wall(frame, radius < 60, radius < 34)
    fat, muscle = wall["subcutaneous_fat"], wall["skeletal_muscle"]
    assert (fat == ((radius >= 44) & (radius < 60))).mean() > 0.99
    ring = (radius >= 36) & (radius < 44)  # a hull drawn on every second voxel takes part of the border
    assert muscle[ring].mean() > 0.95
    assert not muscle[radius < 34].any()


def test_skin_is_no_muscle():
    frame, radius = trunk()
    hu = np.where((radius >= 56) & (radius < 60), 20, frame.hu).astype(np.int16)
    wall = find_body_wall(frame._replace(hu=hu), radius < 60, radius < 34)
    assert not wall["skeletal_muscle"][radius > 58].any()
    assert wall["skeletal_muscle"][radius > 56].mean() < 0.2


def test_slices_without_organs_have_no_wall():
    frame, radius = trunk()
    inner = (radius < 34) & (np.arange(10) < 5)[None, None, :]
    wall = find_body_wall(frame, radius < 60, inner)
    assert wall["subcutaneous_fat"][:, :, :5].any()
    assert not wall["subcutaneous_fat"][:, :, 5:].any()


def test_a_hull_closes_the_gap_between_ribs():
    mask = np.zeros((40, 40, 2), bool)
    mask[[4, 34], 4:36, 0] = True
    hull = fill_hulls(mask)
    assert hull[20, 20, 0]
    assert not hull[:, :, 1].any()
    assert not hull[1, 20, 0]


def test_a_row_of_voxels_has_a_hull():
    mask = np.zeros((20, 20, 3), bool)
    mask[4:9, 10, 0] = True
    mask[6, 6, 1] = True
    hull = fill_hulls(mask)
    assert hull[4:9, 10, 0].all()
    assert not hull[12:, :, 0].any()
    assert hull[6, 6, 1]
