import pytest
import torch
from torch.nn import functional as F

from core.errors import ConfigError
from core.tasks.windows import place_windows, slide_network


def test_windows_as_published(golden):
    told, kernel = golden["slide"], golden.tensors["slide.kernel"]
    padding = [size // 2 for size in kernel.shape[2:]]

    def network(windows):
        return F.conv3d(windows, kernel, padding=padding)

    for at_once in (1, 5):
        answer = slide_network(network, golden.tensors["slide.volume"], told["roi"], told["overlap"], at_once)
        torch.testing.assert_close(answer, golden.tensors["slide.expected"], rtol=0, atol=1e-5)


def test_the_last_window_ends_with_the_axis():
    assert place_windows(10, 4, 0.5) == [0, 2, 4, 6]
    assert place_windows(9, 4, 0.5) == [0, 2, 4, 5]
    assert place_windows(4, 4, 0.75) == [0]


def test_answers_of_overlapping_windows_are_averaged():
    """Windows [0, 1, 2] and [1, 2, 3] tell their own first voxel: 0 and 1, and their mean where they overlap."""
    volume = torch.arange(4.0).reshape(1, 1, 4, 1, 1)
    answer = slide_network(lambda x: x[:, :, :1].expand_as(x), volume, (3, 1, 1), overlap=0.7)
    assert answer.flatten().tolist() == [0, 0.5, 0.5, 1]


def test_a_volume_thinner_than_the_window_keeps_its_shape():
    volume = torch.rand(1, 1, 2, 5, 3)
    answer = slide_network(lambda x: x * 2, volume, (4, 4, 6), overlap=0.5)
    torch.testing.assert_close(answer, volume * 2)


def test_an_overlap_of_one_is_refused():
    with pytest.raises(ConfigError, match="overlap"):
        slide_network(lambda x: x, torch.zeros(1, 1, 4, 4, 4), (2, 2, 2), overlap=1.0)
