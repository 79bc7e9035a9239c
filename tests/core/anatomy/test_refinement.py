import numpy as np

from core.anatomy.refinement import lies_within


def chest():
    """Two lungs as boxes (x grows to the right) with a mediastinum between them."""
    left, right = (np.zeros((60, 30, 30), bool) for _ in range(2))
    left[4:24, 4:26, 4:26] = True
    right[36:56, 4:26, 4:26] = True
    return left, right


def test_a_tumour_at_the_chest_wall_lies_within_its_lung():
    left, right = chest()
    wall = np.zeros_like(left)
    wall[4:9, 10:20, 10:20] = True
    assert lies_within(left & ~wall, "lung_left")[wall].all()
    other = np.zeros_like(right)
    other[50:56, 10:20, 10:20] = True
    assert lies_within(right & ~other, "lung_right")[other].all()


def test_the_hilum_and_the_mediastinum_do_not():
    left, right = chest()
    hilum = np.zeros_like(left)
    hilum[18:24, 10:20, 10:20] = True
    assert not lies_within(left & ~hilum, "lung_left")[hilum].any()
    assert not lies_within(right, "lung_right")[24:36].any()


def test_the_dome_of_the_liver_does_not():
    _, right = chest()
    dome = np.zeros_like(right)
    dome[42:50, 10:20, 4:12] = True
    assert not lies_within(right & ~dome, "lung_right")[dome].any()
