"""What is sent to the browser lies where it lay before."""

import numpy as np
import pytest

from asap_viewer.layers import ct_layers, first_factors, heat_layer, label_layer, structure_table
from core.anatomy.masks import OrganMasks
from core.structures import BY_NAME
from core.volume import Grid, Volume

SPACING = np.diag([0.7, 0.7, 1.0, 1.0])


def unpack(layer) -> np.ndarray:
    """(X, Y, Z) as the browser indexes the bytes."""
    from isal import igzip

    kind = "<i2" if layer.blob.raw_bytes == 2 * np.prod(layer.grid.shape) else "u1"
    return np.frombuffer(igzip.decompress(layer.blob.gzipped()), kind).reshape(layer.grid.shape[::-1]).T


@pytest.mark.parametrize(
    ("shape", "spacing", "factors"),
    [
        ((256, 256, 256), (1, 1, 1), (1, 1, 1)),
        ((512, 512, 300), (0.7, 0.7, 1.0), (2, 2, 1)),
        ((512, 512, 133), (0.7, 0.7, 2.5), (2, 1, 1)),
        ((512, 512, 600), (0.7, 0.7, 0.6), (2, 2, 2)),
    ],
)
def test_the_finest_axis_is_halved_first(shape, spacing, factors):
    found = first_factors(Grid(shape, np.diag([*spacing, 1.0])))
    assert found == factors
    assert np.prod(np.array(shape) // found) <= 20_000_000


def test_reduced_volume_has_block_means_at_their_places():
    hu = np.random.default_rng(0).integers(-1000, 1000, (20, 18, 12)).astype(np.int16)
    volume = Volume.from_source(hu, np.diag([-0.7, -0.7, 1.0, 1.0]))
    layers = ct_layers(volume, first_voxels=2000)
    factors = tuple(a // b for a, b in zip(volume.shape, layers.first.grid.shape, strict=True))
    assert factors == (2, 2, 1)
    block = volume.hu[4:6, 6:8, 3]
    assert unpack(layers.first)[2, 3, 3] == round(float(block.mean()))
    assert np.allclose(layers.first.grid.to_mm([2, 3, 3]), volume.grid.to_mm([4.5, 6.5, 3]))
    assert np.array_equal(unpack(layers.full), volume.hu)


def test_small_volume_is_sent_whole_at_once():
    volume = Volume.from_source(np.zeros((8, 8, 8), np.int16), SPACING)
    layers = ct_layers(volume)
    assert layers.full is None
    prop = layers.prop(lambda blob: "somewhere", "a title")
    assert prop["full"] is None
    assert prop["labels"] is None
    assert prop["volume"]["url"] == "somewhere"


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_heat_peak_stays_at_its_millimetres(signs):
    volume = Volume.from_source(np.zeros((60, 50, 40), np.int16), np.diag([*(np.array(signs) * [1.5, 2.0, 3.0]), 1.0]))
    coarse = Grid((12, 11, 10), np.diag([9.0, 9.0, 12.0, 1.0]))
    coarse.affine[:3, 3] = volume.grid.centre_mm - np.diag(coarse.affine)[:3] * 5
    heat = np.zeros(coarse.shape)
    heat[7, 3, 6] = 1.0
    layer = heat_layer(heat, coarse, volume)
    value = unpack(layer)
    assert value.dtype == np.uint8
    weight = value / value.sum()
    place = layer.grid.to_mm(np.stack(np.meshgrid(*map(np.arange, value.shape), indexing="ij"), -1))
    assert np.abs((place * weight[..., None]).sum((0, 1, 2)) - coarse.to_mm([7, 3, 6])).max() < 0.5


def test_labels_are_sent_voxel_by_voxel_and_named():
    volume = Volume.from_source(np.zeros((10, 9, 8), np.int16), SPACING)
    labels = np.zeros((10, 9, 8), np.uint8)
    labels[1, 2, 3] = BY_NAME["liver"].number
    labels[4:6] = BY_NAME["lung_left"].number
    masks = OrganMasks(labels, "by hand")
    assert np.array_equal(unpack(label_layer(masks, volume)), labels)
    rows = structure_table(masks, {"liver": {"volume_ml": 0.5}})
    assert [row["name"] for row in rows] == ["lung_left", "liver"]  # lungs come before the abdomen
    assert rows[0]["spoken"] == "left lung"
    assert rows[1]["volume_ml"] == 0.5
