"""Heat stays in the organ, lobe and side that a sentence names, whatever the axes of the file."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest

from core.anatomy.masks import OrganMasks
from core.grounding.canvas import middle_plane
from core.grounding.engine import PatchFeatures
from core.grounding.query import query_of
from core.grounding.readout import ground_sentences, heat_on_source, make_canvas, peak_on_source, raw_heat_on_source
from core.report.parse import parse_report
from core.resample import target_grid
from core.structures import BY_NAME
from core.volume import Volume

RIGHT_SPOT_MM = np.array([42.0, -22.0, -34.0])
"""In the right lower lobe; the brightest of all."""
LEFT_SPOT_MM = np.array([-42.0, -22.0, -34.0])
"""In the left lower lobe, less bright."""
LAYOUTS = [("RAS", 0), ("LPS", 0), ("PIR", 0), ("LAS", 0), ("LPS", 9)]


@dataclass
class SpotEngine:
    """Patches near two points answer every sentence that claims something, the right one the more."""

    sign: int = 1
    """-1: the two points exchanged, as in a mirrored patient."""
    name: str = "spots"
    needs_masks: bool = False

    def embed_volume(self, volume, masks=None, progress=None):
        grid = target_grid(np.zeros(3), (16, 14, 14), np.full(3, 12.0))
        voxels = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
        places = grid.to_mm(voxels) * [self.sign, 1, 1]
        warmth = [
            bright * np.exp(-(np.linalg.norm(places - spot, axis=-1) ** 2) / 400)
            for bright, spot in ((0.9, RIGHT_SPOT_MM), (0.6, LEFT_SPOT_MM))
        ]
        cosine = np.maximum(*warmth).astype(np.float32)
        vectors = np.stack([cosine, np.sqrt(1 - cosine**2)], axis=-1)
        return PatchFeatures(vectors, grid, np.ones(grid.shape, bool), np.array([0, 1], np.float32), self.name)

    def embed_sentences(self, sentences):
        return np.array([[1, 0]] * len(sentences), np.float32)

    def embed_report(self, sentences):
        return self.embed_sentences(["all"])[0]

    def presence_probability(self, score, negated_score):
        return 0.5


def label_of(x, y, z):
    """Structure at patient mm: lungs of two lobes, heart, liver, spine, sternum, left kidney; the body around them."""
    lung = (np.abs(x) > 14) & (np.abs(x) < 66) & (np.abs(y) < 44) & (z > -52) & (z < 56)
    part = np.where(z > -4, "upper", "lower")
    side = np.where(x < 0, "left", "right")
    name = np.where((np.abs(x) < 74) & (np.abs(y) < 60), "body", "")
    name = np.where(lung, np.char.add(np.char.add("lung_", part), np.char.add("_lobe_", side)), name)
    name = np.where((np.abs(x + 8) < 14) & (y > 0) & (y < 34) & (np.abs(z + 12) < 20), "heart", name)
    name = np.where((x > 0) & (x < 60) & (np.abs(y) < 44) & (z < -56), "liver", name)
    name = np.where((x < -30) & (x > -54) & (y < -16) & (y > -40) & (z < -56), "kidney_left", name)
    name = np.where((np.abs(x) < 9) & (y < -34) & (y > -54), "spine", name)
    name = np.where((np.abs(x) < 9) & (y > 46) & (y < 58), "sternum", name)
    numbers = {"": 0} | {one: BY_NAME[one].number for one in np.unique(name) if one}
    return np.vectorize(numbers.get)(name).astype(np.uint8)


def case_stored_as(axes, tilt_deg=0.0, without=(), instead="body"):
    """A CT of 2.0 x 2.5 x 4.0 mm voxels in some axes, and its masks without some structures."""
    sizes, steps = {"R": 80, "A": 60, "S": 44}, {"R": 2.0, "A": 2.5, "S": 4.0}
    same = {"L": "R", "P": "A", "I": "S"}
    shape = tuple(sizes[same.get(letter, letter)] for letter in axes)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, letter in enumerate(axes):
        row = "RAS".index(same.get(letter, letter))
        affine[row, axis] = steps["RAS"[row]] * (1 if letter in "RAS" else -1)
    affine[:3, 3] = -(affine[:3, :3] @ ((np.array(shape) - 1) / 2))
    assert nib.aff2axcodes(affine) == tuple(axes)
    angle = np.radians(tilt_deg)
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    volume = Volume.from_source(np.zeros(shape, np.int16), tilt @ affine)
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in volume.shape], indexing="ij"), axis=-1)
    labels = label_of(*np.moveaxis(volume.grid.to_mm(voxels), -1, 0))
    for name in without:
        labels[labels == BY_NAME[name].number] = BY_NAME[instead].number
    return volume, OrganMasks(labels, "test")


def find(text, axes="RAS", tilt_deg=0.0, engine=None, **missing):
    """One sentence in that patient: its grounding, the canvas, the CT."""
    volume, masks = case_stored_as(axes, tilt_deg, **missing)
    engine = engine or SpotEngine()
    features = engine.embed_volume(volume)
    canvas = make_canvas(volume, features, masks)
    return ground_sentences(engine, features, canvas, [query_of(parse_report(text).sentences[0])])[0], canvas, volume


@pytest.mark.parametrize(("axes", "tilt_deg"), LAYOUTS)
def test_the_peak_of_a_lobe_lies_in_it_and_the_raw_one_where_it_is_brightest(axes, tilt_deg):
    found, _, volume = find("There is a nodule in the left lower lobe.", axes, tilt_deg)
    assert np.linalg.norm(found.peak_ras_mm - LEFT_SPOT_MM) < 6
    assert np.linalg.norm(found.raw_peak_ras_mm - RIGHT_SPOT_MM) < 6
    assert found.constraint.words == "kept inside: left lower lobe"
    for heat, spot in (
        (heat_on_source(found, volume), LEFT_SPOT_MM),
        (raw_heat_on_source(found, volume), RIGHT_SPOT_MM),
    ):
        peak = volume.source.to_mm(peak_on_source(heat, found, volume))
        assert np.linalg.norm(peak - spot) < 7  # the canvas has voxels of 4 mm
        assert heat.dtype == np.float32
        assert 0 <= heat.min() < heat.max() <= 1
    lit = volume.source.to_mm(np.argwhere(heat_on_source(found, volume) > 0))
    assert lit[:, 0].max() < 0
    assert lit[:, 2].max() < -4 + 8  # nothing of the upper lobe, to within a voxel of the canvas and one of the CT


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_a_mirrored_patient_with_mirrored_words_has_the_mirrored_peak(axes):
    left, _, _ = find("There is a nodule in the left lung.", axes)
    right, _, _ = find("There is a nodule in the right lung.", axes, engine=SpotEngine(sign=-1))
    assert np.allclose(np.array(left.peak_ras_mm) * [-1, 1, 1], right.peak_ras_mm, atol=4.1)
    assert left.peak_ras_mm[0] < 0 < right.peak_ras_mm[0]


@pytest.mark.parametrize(
    ("sentence", "side"),
    [
        ("Left-sided pleural effusion.", "left"),
        ("Right-sided pleural effusion.", "right"),
        ("Left axillary lymph node.", "left"),
        ("Right axillary lymph node.", "right"),
        ("A lesion of the left kidney.", "left"),
        ("Elevated left hemidiaphragm.", "left"),
        ("Elevated right hemidiaphragm.", "right"),
    ],
)
@pytest.mark.parametrize("axes", ["RAS", "LPS"])
def test_a_side_keeps_the_heat_on_it_in_unions_and_without_an_organ(sentence, side, axes):
    found, canvas, _ = find(sentence, axes)
    lit = canvas.grid.to_mm(np.argwhere(found.map.heat > 0))[:, 0]
    assert (lit < 0).all() if side == "left" else (lit > 0).all()
    assert (found.peak_ras_mm[0] < 0) == (side == "left")
    assert found.constraint.side == side


LEFT_LOBES = ("lung_upper_lobe_left", "lung_lower_lobe_left")


@pytest.mark.parametrize(
    ("missing", "kind", "words"),
    [
        ({}, "organ", "kept inside: left lower lobe"),
        (
            {"without": LEFT_LOBES, "instead": "lung_left"},
            "stand-in",
            "no mask of left lower lobe: kept to the left lung",
        ),
        ({"without": LEFT_LOBES}, "side", "no mask of left lower lobe: kept to the left half"),
        ({"without": LEFT_LOBES[1:]}, "side", "no mask of left lower lobe: kept to the left half"),
    ],
)
def test_a_lobe_without_a_mask_falls_back_to_its_lung_then_to_its_half_and_says_so(missing, kind, words):
    found, _, _ = find("There is a nodule in the left lower lobe.", **missing)
    assert (found.constraint.kind, found.constraint.words) == (kind, words)
    assert np.linalg.norm(found.peak_ras_mm - LEFT_SPOT_MM) < 6


def test_without_any_masks_the_side_still_counts():
    volume, _ = case_stored_as("LPS")
    engine = SpotEngine()
    features = engine.embed_volume(volume)
    query = query_of(parse_report("There is a nodule in the left lower lobe.").sentences[0])
    (found,) = ground_sentences(engine, features, make_canvas(volume, features, None), [query])
    assert found.constraint.words == "no mask of left lower lobe: kept to the left half"
    assert np.linalg.norm(found.peak_ras_mm - LEFT_SPOT_MM) < 6


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("There is a nodule.", "not constrained: no organ named"),
        ("The pancreas is normal.", "not constrained: no mask of pancreas"),
    ],
)
def test_what_keeps_the_heat_nowhere_is_said_and_changes_nothing(sentence, words):
    found, _, _ = find(sentence)
    assert (found.constraint.kind, found.constraint.words) == ("none", words)
    assert np.array_equal(found.map.heat, found.map.anywhere)
    assert found.peak_ras_mm == found.raw_peak_ras_mm


@pytest.mark.parametrize(("sentence", "organ"), [("The liver is normal.", "liver"), ("Heart size is normal.", "heart")])
@pytest.mark.parametrize("axes", ["RAS", "LPS"])
def test_a_normal_organ_is_lit_whole_and_nothing_else(sentence, organ, axes):
    found, canvas, _ = find(sentence, axes)
    inside = canvas.mask(organ)
    assert found.is_lit_whole
    assert found.map.heat[inside].min() >= 0.5
    assert found.map.heat[~inside].max() == 0
    assert inside[canvas.grid.nearest_voxel(found.peak_ras_mm)]


def test_clear_lungs_light_both_lungs():
    found, canvas, _ = find("The lungs are clear.")
    lungs = canvas.mask("lung")
    assert found.map.heat[lungs].min() >= 0.5
    assert found.map.heat[canvas.mask("heart", "liver", "spine")].max() == 0


def test_no_effusion_lights_the_rim_of_both_lungs_and_points_at_nothing():
    found, canvas, _ = find("No pleural effusion.")
    assert found.is_lit_whole
    assert found.constraint.words == (
        "no mask of left pleura, right pleura: kept to the rim of the left lung, the rim of the right lung"
    )
    at = {side: canvas.grid.nearest_voxel(mm) for side, mm in (("left", (-40, -42, -20)), ("right", (40, -42, -20)))}
    middle = canvas.grid.nearest_voxel((-40, 0, 26))
    assert all(found.map.heat[voxel] >= 0.5 for voxel in at.values())
    assert found.map.heat[middle] == 0


def test_a_hot_spot_beside_the_organ_does_not_shine_in():
    found, canvas, _ = find("There is a cyst in the liver.")  # the brightest patch lies 22 mm above the liver
    lit = found.map.heat > 0
    assert canvas.mask("liver")[canvas.grid.nearest_voxel(found.peak_ras_mm)]
    assert not (lit & canvas.mask("lung")).any()
    assert found.map.heat[~canvas.mask("liver")].max() <= found.map.heat[canvas.mask("liver")].max()


def test_a_cold_organ_still_shows_where_the_sentence_lies_best():
    found, canvas, _ = find("There is a nodule in the left upper lobe.")  # both warm patches lie in lower lobes
    lobe = canvas.mask("lung_upper_lobe_left")
    assert 0.05 < (found.map.heat[lobe] > 0).mean() < 0.5
    assert found.peak_ras_mm[2] < 12  # towards the patch below it


def test_the_middle_plane_follows_a_patient_who_lies_askew():
    volume, masks = case_stored_as("RAS")
    engine = SpotEngine()
    canvas = make_canvas(volume, engine.embed_volume(volume), masks)
    assert np.allclose(middle_plane(canvas), (0, 0, 0), atol=0.6)
    turned = np.radians(8)
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]]
    tilt[0, 3] = 15.0
    moved = Volume.from_source(np.zeros(volume.shape, np.int16), tilt @ volume.affine)
    canvas = make_canvas(moved, engine.embed_volume(moved), OrganMasks(masks.labels, "test"))
    a, b, _ = middle_plane(canvas)
    assert a == pytest.approx(15.0, abs=2.0)
    assert b == pytest.approx(-np.tan(turned), abs=0.03)
