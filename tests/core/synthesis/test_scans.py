"""What surrounds and records the patient: contrast phases, table, arms, field of view, kernel, slices, noise."""

from dataclasses import replace

import numpy as np
import pytest

from core.structures import BY_NAME
from core.synthesis.contrast import PHASES, recontrast
from core.synthesis.patients import Patient, ViewConfig, find_body, vary_patient
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.synthesis.scanner import NO_SCAN, ScanConfig, degrade
from core.synthesis.scene import Scene
from core.synthesis.surroundings import NO_SURROUNDINGS, SurroundingsConfig, surround
from core.volume import Grid

STILL = ViewConfig(
    (66, 50, 62), 5.5, 0, 0, 0, 0, 0, 0, 0, 0, False, 0, 0, NO_SURROUNDINGS, NO_SCAN
)  # the patient as scanned


@pytest.fixture(scope="module")
def patient():
    phantom = build_phantom(PhantomConfig(shape=(64, 46, 58), spacing_mm=(5.5, 5.5, 5.5), lesions=(), noise_hu=0.0))
    return Patient("p", phantom.volume.hu, phantom.masks.labels, phantom.volume.grid)


@pytest.fixture
def scene(patient):
    return vary_patient(patient, STILL, np.random.default_rng(0))


def only(**what):
    """Surroundings with one thing drawn for certain."""
    return replace(NO_SURROUNDINGS, **{f"{name}_chance": chance for name, chance in what.items()})


def test_a_scan_without_variation_is_the_scene(scene):
    before = scene.hu.copy()
    degrade(scene, STILL, np.random.default_rng(0))
    np.testing.assert_allclose(scene.hu, before, atol=1e-3)


def test_phases_light_vessels_in_their_order(patient):
    start, aorta, lung = vary_patient(patient, STILL, np.random.default_rng(1)), [], []
    for seed in range(40):
        view = Scene(start.hu.copy(), start.labels, start.grid)
        recontrast(view, np.random.default_rng(seed))
        aorta.append(float(np.median(view.hu[view.mask("aorta")])))
        lung.append(float(np.median(view.hu[view.mask("lung")])))
    assert min(aorta) < 70  # plain
    assert max(aorta) > 220  # arterial
    assert np.ptp(lung) < 10
    assert sum(phase.chance for phase in PHASES.values()) == pytest.approx(1.0)


def test_contrast_washes_out_of_vessels_that_no_label_names(patient):
    view = vary_patient(patient, STILL, np.random.default_rng(1))
    view.hu[view.mask("aorta", "heart")] = 320.0
    nameless = view.labels == BY_NAME["body"].number
    heart = np.argwhere(view.mask("heart"))
    near = np.zeros_like(nameless)
    near[tuple(slice(a, b) for a, b in zip(heart.min(axis=0), heart.max(axis=0), strict=True))] = True
    vessel = nameless & near
    view.hu[vessel] = 320.0
    for seed in range(40):
        copy = Scene(view.hu.copy(), view.labels, view.grid)
        recontrast(copy, np.random.default_rng(seed))
        assert abs(np.median(copy.hu[vessel]) - np.median(copy.hu[copy.mask("aorta")])) < 330
        if np.median(copy.hu[copy.mask("aorta")]) < 60:
            assert np.median(copy.hu[vessel]) < 60
            return
    raise AssertionError("no plain phase in 40 draws")


def test_padding_holds_no_label_and_stays_padding(patient):
    view = replace(STILL, around=only(circle=1.0, cut=1.0), noise_hu=30.0, scan=ScanConfig())
    view = replace(view, around=replace(view.around, circle_mm=(110.0, 115.0)))
    scene = vary_patient(patient, view, np.random.default_rng(3))
    assert scene.is_seen is not None
    degrade(scene, view, np.random.default_rng(3))
    assert (scene.hu[~scene.is_seen] == -1024).all()
    assert (scene.labels[~scene.is_seen] == 0).all()
    lung = scene.grid.to_mm(np.argwhere(scene.mask("lung")))
    middle = patient.lungs_centre_mm
    assert np.hypot(*(lung[:, :2] - middle[:2]).T).max() < 135  # the circle and its largest shift


def test_a_table_lies_behind_the_back_and_before_a_prone_chest(patient):
    for prone, behind in ((0.0, -1), (1.0, 1)):
        view = replace(STILL, around=only(clear=1.0, table=1.0, prone=prone))
        scene = vary_patient(patient, view, np.random.default_rng(0))
        table = (scene.labels == 0) & (scene.hu > -960)
        body_y = np.argwhere(scene.labels > 0)[:, 1]
        table_y = np.argwhere(table)[:, 1]
        assert scene.is_prone == bool(prone)
        assert len(table_y) > 50
        assert (np.median(table_y) - np.median(body_y)) * behind > 0.3 * np.ptp(body_y)


def test_arms_lie_outside_of_the_body_on_both_sides(patient):
    wide = replace(STILL, shape=(96, 50, 62), around=only(arms=1.0))
    plain = vary_patient(patient, replace(wide, around=NO_SURROUNDINGS), np.random.default_rng(2))
    scene = vary_patient(patient, wide, np.random.default_rng(2))
    arms = (plain.labels == 0) & (scene.hu > 0) & (plain.hu < -500)
    x = np.argwhere(arms)[:, 0]
    lungs = np.argwhere(plain.mask("lung"))[:, 0]
    assert (x < lungs.min()).any()
    assert (x > lungs.max()).any()
    assert scene.hu[arms].max() > 400  # bone


def test_thick_slices_blur_along_z_only():
    hu = np.full((20, 20, 40), -800.0, np.float32)
    hu[10, 10, 20] = 1200.0
    scene = Scene(hu, np.ones(hu.shape, np.uint8), Grid(hu.shape, np.diag([1.0, 1.5, 2.0, 1.0])))
    view = replace(STILL, scan=replace(NO_SCAN, thick_chance=1.0, thickness_mm=(8.0, 8.0)))
    degrade(scene, view, np.random.default_rng(0))
    assert scene.hu[10, 10].max() < 0
    np.testing.assert_allclose(np.delete(scene.hu, 10, axis=0), -800, atol=0.5)
    assert scene.hu.sum() + 800 * hu.size == pytest.approx(2000, rel=0.2)


def test_low_dose_streaks_run_from_side_to_side():
    hu = np.zeros((60, 40, 30), np.float32)
    scene = Scene(hu, np.ones(hu.shape, np.uint8), Grid(hu.shape, np.diag([2.0, 2.0, 2.0, 1.0])))
    degrade(scene, replace(STILL, scan=replace(NO_SCAN, streak_chance=1.0, streak_hu=40.0)), np.random.default_rng(0))
    along = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in ((hu[1:], hu[:-1]), (hu[:, 1:], hu[:, :-1]))]
    assert along[0] > 0.8
    assert abs(along[1]) < 0.2
    assert hu[:, :, 25:].std() > 1.5 * hu[:, :, 8:14].std()


def test_the_body_is_found_without_its_table():
    hu = np.full((40, 40, 10), -1000, np.int16)
    hu[10:30, 12:28] = 40
    hu[16:24, 18:22] = -850  # lung
    hu[5:35, 6:8] = 100  # table
    body = find_body(hu)
    assert body[20, 20].all()
    assert not body[20, 6:8].any()
    assert body.sum() == pytest.approx(20 * 16 * 10, rel=0.05)


def test_surroundings_of_an_empty_scene_do_nothing():
    hu = np.full((12, 12, 12), -1000.0, np.float32)
    scene = Scene(hu, np.zeros(hu.shape, np.uint8), Grid(hu.shape, np.eye(4)))
    drawn = surround(scene, SurroundingsConfig(1, 1, 1, 1, (20.0, 30.0), 1, 0.3, 0), np.random.default_rng(0))
    assert drawn.is_seen is None
    assert (drawn.hu == -1000).all()
