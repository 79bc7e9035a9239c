"""What sentences of a generated study mean, in voxels."""

from dataclasses import replace

import numpy as np
import pytest

from core.structures import parts_of
from core.synthesis.claims import KINDS, Claim, mirror_claim
from core.synthesis.lesions import INSERTERS, MULTIPLE, insert_findings
from core.synthesis.patients import MIRROR, Patient, ViewConfig
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.synthesis.scene import Finding, Scene, smooth_noise
from core.synthesis.sentences import write_sentence
from core.synthesis.statement import Statement
from core.synthesis.studies import StudyConfig, SyntheticStudy, make_study
from core.volume import Grid

VIEW = ViewConfig((44, 36, 44), 7.5)
HU_RANGES = {
    "solid nodule": (-350, 110),
    "ground-glass nodule": (-760, -380),
    "mass": (-60, 120),
    "consolidation": (-250, 100),
    "ground-glass opacity": (-800, -350),
    "pleural effusion": (-20, 40),
    "pericardial effusion": (-20, 45),
    "pneumothorax": (-1020, -900),
    "emphysema": (-1010, -800),
    "lymph node": (0, 120),
    "liver cyst": (-15, 30),
    "coronary calcification": (120, 1300),
    "aortic calcification": (150, 1500),
    "sternal wires": (300, 3000),
    "pacemaker lead": (300, 3000),
}


@pytest.fixture(scope="module")
def chest():
    return build_phantom(PhantomConfig(shape=(90, 70, 90), spacing_mm=(3.6, 3.6, 3.6), lesions=(), noise_hu=5.0))


@pytest.fixture(scope="module")
def patient():
    phantom = build_phantom(PhantomConfig(shape=(64, 46, 58), spacing_mm=(5.5, 5.5, 5.5), lesions=(), noise_hu=5.0))
    return Patient("p", phantom.volume.hu, phantom.masks.labels, phantom.volume.grid)


def scene_of(chest):
    return Scene(chest.volume.hu.astype(np.float32), chest.masks.labels.copy(), chest.volume.grid)


@pytest.mark.parametrize("kind", sorted(HU_RANGES))
def test_the_middle_of_a_finding_has_the_density_of_its_kind(chest, kind):
    low, high = HU_RANGES[kind]
    medians = []
    for seed in range(4):
        scene = scene_of(chest)
        finding = INSERTERS[kind](scene, np.random.default_rng(seed))
        if finding is not None:
            medians.append(float(np.median(scene.hu[finding.mask])))
    assert medians
    assert all(low <= median <= high for median in medians), medians


def test_calcium_shines_where_it_fills_a_voxel(chest):
    for seed in range(4):
        scene = scene_of(chest)
        finding = INSERTERS["calcified nodule"](scene, np.random.default_rng(seed))
        assert 150 < scene.hu[finding.mask].max() < 1000


def test_fluid_lies_on_the_side_that_gravity_pulls_to(chest):
    for prone in (False, True):
        scene = replace(scene_of(chest), is_prone=prone)
        lung_y = np.argwhere(scene.mask("lung"))[:, 1].mean()
        finding = INSERTERS["pleural effusion"](scene, np.random.default_rng(1))
        assert (np.argwhere(finding.mask)[:, 1].mean() > lung_y) == prone


def test_several_nodules_take_lobes_of_their_own(chest):
    for seed in range(4):
        found = insert_findings(scene_of(chest), ["solid nodule"] * 3, np.random.default_rng(seed))
        lobes = [finding.claim.organs for finding in found]
        assert len(set(lobes)) == len(lobes) > 1


def test_a_sentence_means_the_finding_that_its_words_fit():
    grid, masks = Grid((10, 10, 10), np.eye(4)), []
    for at in (1, 4, 7):
        mask = np.zeros((10, 10, 10), bool)
        mask[at] = True
        masks.append(mask)
    lobes = ("lung_upper_lobe_left", "lung_lower_lobe_left", "lung_lower_lobe_right")
    sizes = (8.0, 12.0, 12.0)
    claims = [Claim("solid nodule", "present", (lobe,), "", size) for lobe, size in zip(lobes, sizes, strict=True)]
    findings = tuple(Finding(claim, mask) for claim, mask in zip(claims, masks, strict=True))
    scene = Scene(np.zeros((10, 10, 10), np.float32), np.zeros((10, 10, 10), np.uint8), grid)
    study = SyntheticStudy("s", scene, findings, None)

    def meant(organs=(), size=None, existence="present"):
        fact = Statement("", "Lung nodule", existence, organs, "", size, "solid nodule")
        return [place for place in range(3) if study.region(fact)[masks[place]].all()]

    assert meant(("lung_upper_lobe_left",)) == [0]
    assert meant(("lung_left",)) == [0, 1]
    assert meant(("lung_left",), 12.0) == [1]
    assert meant((), 12.0) == [1, 2]
    assert meant() == [0, 1, 2]
    assert meant(("lung_left",), existence="absent") == []


def test_what_is_denied_has_no_voxels_and_what_is_said_has(patient):
    denied = 0
    for seed in range(8):
        study = make_study(patient, StudyConfig(VIEW, several_chance=1.0), np.random.default_rng(seed))
        painted = {finding.claim.kind for finding in study.findings}
        for statement in study.report.statements:
            for fact in statement.facts:
                alone = fact._replace(also=())
                if fact.existence == "absent" and fact.kind != "normal":
                    denied += 1
                    assert fact.kind not in painted
                    assert not study.region(alone).any()
                else:
                    assert study.region(alone).any()
        for label, is_present in study.report.labels.items():
            named = {f.finding for s in study.report.statements for f in s.facts if f.existence == "present"}
            assert is_present == (label in named)
    assert denied > 5


def test_a_mirrored_study_has_mirrored_words_and_masks(patient):
    """A finding painted into the mirror image lies in the lobe that its sentence names, on that side of the image."""
    seen = set()
    for seed in range(12):
        view = replace(VIEW, mirror_chance=1.0)
        study = make_study(patient, StudyConfig(view, (2, 4)), np.random.default_rng(seed))
        left_x = np.argwhere(study.scene.mask("lung_left"))[:, 0].mean()
        right_x = np.argwhere(study.scene.mask("lung_right"))[:, 0].mean()
        assert left_x < right_x  # x grows to the patient's right
        for finding in study.findings:
            side = finding.claim.laterality
            if side in ("left", "right"):
                x = np.argwhere(finding.mask)[:, 0].mean()
                assert (x < (left_x + right_x) / 2) == (side == "left")
                seen.add(side)
    assert seen == {"left", "right"}


def test_mirrored_claims_say_what_mirrored_labels_hold():
    claim = Claim("mass", "present", ("lung_upper_lobe_right",), "right", 40.0)
    mirrored = mirror_claim(claim)
    number = next(iter(parts_of(claim.organs[0])))
    assert parts_of(mirrored.organs[0]) == {int(MIRROR[number])}
    assert write_sentence(mirrored, "prose", np.random.default_rng(3)).laterality in ("left", "")


def test_the_same_draw_is_the_same_study_and_another_is_another(patient):
    one, two, three = (
        make_study(patient, StudyConfig(VIEW, (1, 3)), np.random.default_rng([7, number])) for number in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.scene.hu, two.scene.hu)
    assert one.report == two.report
    assert (one.scene.hu != three.scene.hu).any()


def test_a_missing_structure_costs_its_kinds_and_nothing_else(chest):
    scene = scene_of(chest)
    lungs = scene.mask("lung")
    scene.labels[~lungs] = 0
    before = scene.hu.copy()
    needs_more = [kind for kind, entry in KINDS.items() if entry.place == "organ"]
    for kind in needs_more:
        assert INSERTERS[kind](scene, np.random.default_rng(0)) is None, kind
    np.testing.assert_array_equal(scene.hu, before)
    for kind in sorted(MULTIPLE):
        assert any(INSERTERS[kind](scene_of(chest), np.random.default_rng(seed)) for seed in range(4)), kind


def test_noise_is_as_strong_at_any_scale_and_smooth_at_a_large_one():
    for scale in (1.0, 3.0, 9.0):
        field = smooth_noise((60, 50, 40), scale, np.random.default_rng(0))
        assert field.shape == (60, 50, 40)
        assert 0.6 < field.std() < 1.4
    assert np.abs(np.diff(field, axis=1)).mean() < 0.2


def test_nodes_lie_at_every_station_between_the_lungs(chest):
    places = []
    for seed in range(12):
        scene = scene_of(chest)
        finding = INSERTERS["lymph node"](scene, np.random.default_rng(seed))
        if finding is not None:
            assert not (finding.mask & chest.masks.mask("lung")).any()
            places.append(finding.centre_mm(scene.grid) - chest.volume.grid.to_mm(np.zeros(3)))
    trachea = np.argwhere(chest.masks.mask("trachea"))
    fork = chest.volume.grid.to_mm([*trachea[:, :2].mean(axis=0), trachea[:, 2].min()])
    fork = fork - chest.volume.grid.to_mm(np.zeros(3))
    below = [place[2] < fork[2] for place in places]
    assert any(below)
    assert not all(below)
