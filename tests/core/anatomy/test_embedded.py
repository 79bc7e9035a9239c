import nibabel as nib
import nibabel.orientations as nio
import numpy as np
import pytest
from ellipsoid_chest import axis_grid

from core.anatomy.embedded import EmbeddedConfig, EmbeddedSegmenter
from core.anatomy.masks import OrganMasks
from core.anatomy.measure import orientation_check
from core.errors import Cancelled, ConfigError
from core.resample import resample
from core.structures import BY_NAME
from core.volume import Grid, Volume

QUICK = EmbeddedConfig(edge_mm=4.0)
ORGANS = ("lung_left", "lung_right", "heart", "aorta", "spine", "liver", "trachea", "kidney_left", "spinal_cord")


@pytest.fixture(scope="module")
def segmenter(organ_net):
    return EmbeddedSegmenter(organ_net, QUICK)


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def turned_copy(volume, axes):
    """The same CT stored along other axes: (Volume)."""
    order = nio.axcodes2ornt(axes)
    stored = nio.apply_orientation(volume.hu, order)
    return Volume.from_source(stored, volume.affine @ nio.inv_ornt_aff(order, volume.hu.shape))


def oblique_copy(volume):
    """The same CT on a grid turned by 20 degrees about z and 8 about x, anisotropic, axes in LPS order."""
    turn = nib.eulerangles.euler2mat(z=np.radians(20), x=np.radians(8))
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-2.5, -2.5, 4.0])
    shape = (176, 150, 96)
    affine[:3, 3] += volume.grid.centre_mm - Grid(shape, affine).centre_mm
    hu = np.rint(resample(volume.hu, volume.grid, Grid(shape, affine), fill=-1024)).astype(np.int16)
    return Volume.from_source(hu, affine)


@pytest.mark.parametrize("view", ["PIR", "oblique"])
def test_organs_are_found_at_their_place_whatever_the_grid(segmenter, sample_chest, view):
    """The sample trained the network: this is about places, not about how good the masks are elsewhere."""
    volume, truth = sample_chest
    patient = oblique_copy(volume) if view == "oblique" else turned_copy(volume, view)
    masks = segmenter.segment(patient)
    assert masks.labels.shape == patient.shape
    wanted = OrganMasks(truth, "truth")
    for name in ORGANS:
        found_mm = patient.grid.to_mm(np.argwhere(masks.mask(name)).mean(0))
        wanted_mm = volume.grid.to_mm(np.argwhere(wanted.mask(name)).mean(0))
        assert np.linalg.norm(found_mm - wanted_mm) < 12.0, name
    labels = resample(masks.labels, patient.grid, volume.grid, "nearest")
    labels[labels == BY_NAME["pulmonary_artery"].number] = BY_NAME["heart"].number  # which the sample's masks take in
    back = OrganMasks(labels, "embedded")
    for name, least in (("lung_left", 0.93), ("lung_right", 0.93), ("heart", 0.75), ("liver", 0.85)):
        assert dice(back.mask(name), wanted.mask(name)) > least, name
    assert orientation_check(masks, patient.grid).kind == "ok"


def test_the_body_wall_lies_outside_the_chest(segmenter, sample_chest):
    volume, truth = sample_chest
    masks = segmenter.segment(volume)
    wanted = OrganMasks(truth, "truth")
    fat, muscle = masks.mask("subcutaneous_fat"), masks.mask("skeletal_muscle") | masks.mask("autochthon_left")
    assert fat.sum() * volume.grid.voxel_ml > 1000
    assert -130 < volume.hu[fat].mean() < -70
    assert 10 < volume.hu[muscle].mean() < 90
    inner = wanted.mask("lung") | wanted.mask("heart")
    assert (fat & inner).sum() < 0.002 * fat.sum()
    assert dice(muscle & wanted.mask("autochthon_left"), wanted.mask("autochthon_left")) > 0.7


def test_a_mirrored_header_is_noticed(segmenter, sample_chest):
    volume, _ = sample_chest
    masks = segmenter.segment(Volume.from_source(volume.hu, np.diag([-1.0, 1, 1, 1]) @ volume.affine))
    assert any("mirrored" in note for note in masks.notes)
    assert orientation_check(masks).kind == "suspicious"


def test_a_dense_mass_in_a_lung_belongs_to_the_lung(segmenter, sample_chest):
    volume, truth = sample_chest
    lung = OrganMasks(truth, "truth").mask("lung_upper_lobe_right")
    places = np.argwhere(lung)
    centre = places[np.argmin(np.abs(places - places.mean(0)).sum(1))]
    offset = (np.indices(volume.shape).T - centre) * np.array(volume.grid.spacing_mm)
    mass = ((offset**2).sum(-1).T < 22**2) & lung
    masks = segmenter.segment(Volume.from_source(np.where(mass, 40, volume.hu).astype(np.int16), volume.affine))
    assert (masks.mask("lung_right") & mass).sum() > 0.7 * mass.sum()


def test_no_thorax_is_invented_in_an_abdomen_with_bowel_gas(segmenter):
    affine, shape = axis_grid(3.0, z_mm=(-150.0, 150.0))
    mm = np.indices(shape) * 3.0 + affine[:3, 3][:, None, None, None]
    noise = np.random.default_rng(1).normal(0, 12, shape)
    hu = np.where((mm[0] / 160) ** 2 + (mm[1] / 105) ** 2 < 1, 40.0, -1000.0)
    hu[(mm[0] / 20) ** 2 + ((mm[1] + 70) / 20) ** 2 < 1] = 250
    for x in (-70.0, 70.0):  # two loops of gas where lungs would be
        hu[((mm[0] - x) / 40) ** 2 + ((mm[1] - 20) / 35) ** 2 + (mm[2] / 90) ** 2 < 1] = -990
    masks = segmenter.segment(Volume.from_source((hu + noise).astype(np.int16), affine))
    assert masks.names() == ["body", "spine"]
    assert {"lung_left", "lung_right", "heart", "liver"} <= set(masks.missing)
    assert any("does not look like a chest CT" in note for note in masks.notes)


@pytest.mark.parametrize("shape", [(40, 40, 30), (64, 64, 1), (1, 1, 1), (3, 200, 2)])
@pytest.mark.parametrize("value", [-1024, 0])
def test_an_image_without_a_patient_gives_a_reason_and_no_crash(segmenter, shape, value):
    volume = Volume.from_source(np.full(shape, value, np.int16), np.diag([2.0, 2.0, 3.0, 1.0]))
    masks = segmenter.segment(volume)
    assert masks.labels.shape == shape
    assert "lung_left" in masks.missing
    assert not masks.mask("lung").any()


def test_noise_is_no_patient(segmenter):
    hu = np.random.default_rng(2).integers(-1024, 3000, (50, 50, 40)).astype(np.int16)
    masks = segmenter.segment(Volume.from_source(hu, np.diag([4.0, 4.0, 4.0, 1.0])))
    assert "heart" in masks.missing


def test_progress_rises_and_cancel_is_obeyed(segmenter, sample_chest):
    volume, _ = sample_chest
    seen = []

    def cancel(fraction, _):
        seen.append(fraction)
        if fraction > 0.3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        segmenter.segment(volume, cancel)
    assert seen == sorted(seen)


def test_an_edge_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="1 to 6 mm"):
        EmbeddedConfig(edge_mm=20.0)
