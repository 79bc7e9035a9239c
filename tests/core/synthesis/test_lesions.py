import numpy as np
import pytest

from core.structures import parts_of
from core.synthesis.balls import Shape, ball_depth_mm
from core.synthesis.claims import KINDS
from core.synthesis.lesions import INSERTERS, insert_findings
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.synthesis.scene import Scene, offsets_mm
from core.volume import Grid

SHAPE = PhantomConfig(shape=(72, 56, 72), spacing_mm=(4.5, 4.5, 4.5), lesions=(), noise_hu=5.0)


@pytest.fixture(scope="module")
def chest():
    return build_phantom(SHAPE)


def scene_of(chest):
    return Scene(chest.volume.hu.astype(np.float32), chest.masks.labels.copy(), chest.volume.grid)


def painted(chest, kind, seeds=range(6)):
    """Scene and finding of the first seed that fits."""
    for seed in seeds:
        scene = scene_of(chest)
        finding = INSERTERS[kind](scene, np.random.default_rng(seed))
        if finding is not None:
            return scene, finding
    raise AssertionError(f"{kind} never fitted into the phantom")


def test_every_kind_has_an_inserter():
    assert set(INSERTERS) == set(KINDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_finding_changes_the_ct_where_its_mask_says(chest, kind):
    scene, finding = painted(chest, kind)
    before = chest.volume.hu.astype(np.float32)
    changed = np.abs(scene.hu - before) > 3
    assert finding.mask.any()
    assert finding.claim.kind == kind
    if kind == "cardiomegaly":  # moves the surroundings too
        assert finding.mask.sum() > chest.masks.mask("heart").sum()
        return
    if kind == "pacemaker lead":  # the generator and its streaks are not the lead
        assert np.median(scene.hu[finding.mask]) > 800
        return
    margin = 4  # voxels of soft edge, compressed lung or tree-like spread
    where = np.argwhere(finding.mask)
    low, high = np.maximum(where.min(axis=0) - margin, 0), where.max(axis=0) + margin + 1
    outside = changed.copy()
    if kind == "pneumothorax":  # the lung that has shrunk is denser
        outside &= ~chest.masks.mask("lung")
    outside[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = False
    assert outside.sum() < 0.1 * changed.sum()
    assert changed[finding.mask].mean() > 0.15


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.place != "organ"])
def test_side_and_lobe_of_the_claim_are_where_the_mask_lies(chest, kind):
    _, finding = painted(chest, kind)
    named = np.zeros(256, bool)
    for organ in finding.claim.organs:
        side = organ.rsplit("_", 1)[-1]
        named[list(parts_of(f"lung_{side}" if organ.startswith("pleura") else organ))] = True
    at_root = KINDS[kind].place == "paired"  # half outside of its lung
    assert named[chest.masks.labels][finding.mask].mean() > (0.0 if at_root else 0.8)
    x_mm = chest.volume.grid.to_mm(np.argwhere(finding.mask)).T[0] - SHAPE.centre_mm[0]
    if finding.claim.laterality == "left":
        assert (x_mm < 5).all()
    if finding.claim.laterality == "right":
        assert (x_mm > -5).all()


@pytest.mark.parametrize("kind", ["solid nodule", "mass", "cavitary nodule"])
def test_the_stated_diameter_is_that_of_the_mask(chest, kind):
    scene, finding = painted(chest, kind)
    extent = np.ptp(np.argwhere(finding.mask), axis=0) + 1
    assert finding.claim.size_mm == pytest.approx(extent.max() * 4.5, abs=max(9.0, 0.45 * finding.claim.size_mm))


def test_fluid_lies_at_the_back_and_air_at_the_front(chest):
    lung_y = chest.volume.grid.to_mm(np.argwhere(chest.masks.mask("lung")))[:, 1].mean()
    for kind, sign in (("pleural effusion", -1), ("pneumothorax", 1)):
        scene, finding = painted(chest, kind)
        centre = finding.centre_mm(chest.volume.grid)
        assert sign * (centre[1] - lung_y) > 0
        assert set(np.unique(scene.labels[finding.mask])) <= parts_of("pleura")


def test_densities_are_those_of_the_tissue(chest):
    for kind, low, high in (("pleural effusion", -15, 35), ("mass", -60, 110), ("pneumothorax", -1010, -900)):
        scene, finding = painted(chest, kind)
        assert low < np.median(scene.hu[finding.mask]) < high


def test_several_findings_leave_each_other_visible(chest):
    for seed in range(4):
        scene = scene_of(chest)
        kinds = ["pleural effusion", "solid nodule", "consolidation", "mass"]
        found = insert_findings(scene, kinds, np.random.default_rng(seed))
        fluid = [f.mask for f in found if f.claim.kind == "pleural effusion"]
        others = [f.mask for f in found if f.claim.kind != "pleural effusion"]
        assert all(not (mask & fluid[0]).any() for mask in others)


def test_the_same_generator_gives_the_same_ct(chest):
    first, second = scene_of(chest), scene_of(chest)
    for scene in (first, second):
        insert_findings(scene, ["mass", "emphysema", "lymph node"], np.random.default_rng(3))
    np.testing.assert_array_equal(first.hu, second.hu)


def test_nothing_is_painted_where_there_is_no_lung():
    body = build_phantom(PhantomConfig(shape=(40, 30, 40), spacing_mm=(9.0, 9.0, 9.0), has_chest=False))
    scene = Scene(body.volume.hu.astype(np.float32), body.masks.labels.copy(), body.volume.grid)
    assert insert_findings(scene, list(KINDS), np.random.default_rng(0)) == []
    np.testing.assert_array_equal(scene.hu, body.volume.hu)


def test_spicules_radiate_to_all_sides_and_stay_thin():
    body = Scene(
        np.zeros((60, 40, 24), np.float32),
        np.ones((60, 40, 24), np.uint8),
        Grid((60, 40, 24), np.diag([1, 1.5, 2.5, 1])),
    )
    box = (slice(0, 60), slice(0, 40), slice(0, 24))
    for seed in range(4):
        depth = ball_depth_mm(body, box, np.array([30, 20, 12]), Shape(10.0, 0.0, 0, 24), np.random.default_rng(seed))
        offset = offsets_mm(body, box, np.array([30, 20, 12]))
        distance = np.sqrt((offset**2).sum(axis=0))
        assert distance[depth < 0].max() < 25
        far = (depth < 0) & (distance > 14)
        shell = (distance > 14) & (distance < 18)
        assert 0.001 < far.sum() / shell.sum() < 0.3
        assert all((offset[axis][far] * sign > 5).any() for axis in range(3) for sign in (-1, 1))
