import numpy as np
import pytest

from core.errors import ConfigError
from core.synthesis.phantom import DEFAULT_LESIONS, PhantomConfig, PhantomLesion, build_phantom

COARSE = {"shape": (72, 52, 84), "spacing_mm": (5.0, 5.0, 4.0), "noise_hu": 5.0}


@pytest.fixture(scope="module")
def phantom():
    return build_phantom(PhantomConfig(**COARSE))


@pytest.mark.parametrize(("orientation", "tilt"), [("RAS", 0.0), ("LPS", 0.0), ("PIR", 0.0), ("LPS", 12.0)])
def test_a_lesion_is_at_its_millimetres_however_the_scan_lies(orientation, tilt):
    config = PhantomConfig(**COARSE, orientation=orientation, tilt_deg=tilt)
    phantom = build_phantom(config)
    assert phantom.volume.source.orientation == orientation
    expected = np.array(config.centre_mm) + DEFAULT_LESIONS[0].centre_mm
    truth = phantom.lesions[0]
    np.testing.assert_allclose(truth.centre_mm, expected, atol=1e-3)
    np.testing.assert_allclose(phantom.volume.grid.to_mm(np.argwhere(truth.mask)).mean(axis=0), expected, atol=2.0)
    assert phantom.volume.hu[phantom.volume.grid.nearest_voxel(truth.centre_mm)] == pytest.approx(45, abs=25)


def test_measures_are_those_of_the_formula(phantom):
    ball_ml = phantom.lesions[0].mask.sum() * phantom.volume.grid.voxel_ml
    assert ball_ml == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.15)
    effusion = phantom.lesions[2]
    assert effusion.claim.laterality == "right"
    assert effusion.centre_mm[0] > PhantomConfig().centre_mm[0]


def test_organs_have_their_densities_and_sides(phantom):
    hu, masks = phantom.volume.hu, phantom.masks
    assert np.median(hu[masks.mask("lung")]) == pytest.approx(-850, abs=30)
    assert np.median(hu[masks.mask("trachea")]) == pytest.approx(-1000, abs=15)
    assert np.median(hu[masks.mask("spine")]) > 250
    assert hu[0, 0, 0] < -950
    centroids = {
        name: phantom.volume.grid.to_mm(np.argwhere(masks.mask(name))).mean(axis=0)
        for name in (
            "lung_left",
            "lung_right",
            "heart",
            "liver",
            "spine",
            "lung_upper_lobe_left",
            "lung_lower_lobe_left",
        )
    }
    assert centroids["lung_left"][0] < centroids["heart"][0] < centroids["lung_right"][0]
    assert centroids["liver"][2] < centroids["heart"][2]
    assert centroids["spine"][1] < centroids["heart"][1]
    assert centroids["lung_upper_lobe_left"][2] > centroids["lung_lower_lobe_left"][2]


def test_the_report_names_what_was_painted(phantom):
    said = {(s.finding, s.laterality) for s in phantom.report.statements if s.existence == "present"}
    assert said == {("Lung nodule", "left"), ("Lung nodule", "right"), ("Pleural effusion", "right")}


def test_a_body_without_a_chest_has_no_air_inside():
    phantom = build_phantom(PhantomConfig(**COARSE, has_chest=False))
    assert phantom.volume.hu[phantom.masks.labels > 0].min() > -300
    assert not phantom.masks.mask("lung").any()
    assert phantom.lesions == ()


def test_impossible_settings_say_what_to_do():
    with pytest.raises(ConfigError, match="three letters such as LPS"):
        PhantomConfig(orientation="LRS")
    with pytest.raises(ConfigError, match="move it into one"):
        build_phantom(PhantomConfig(**COARSE, lesions=(PhantomLesion("solid nodule", (0.0, 28.0, -45.0), 12.0),)))
