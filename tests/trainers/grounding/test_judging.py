"""Heat is judged in millimetres of the patient, whatever the axes, the spacing and the tilt of the file."""

from dataclasses import replace

import numpy as np
import pytest
from ball_cases import BALL_MM, RADIUS_MM, HeatEngine, inverted, open_chest, perfect

from core.errors import StudyError
from core.volume import Grid
from trainers.grounding.cases import Truth, read_as_page
from trainers.grounding.judging import JudgeConfig, judge_case
from trainers.grounding.regions import cut_region

STORED = [("RAS", 0.0), ("LPS", 0.0), ("PIR", 0.0), ("SAL", 0.0), ("LPS", 12.0)]


def judge(engine, axes="LPS", tilt_deg=0.0, tolerance_mm=10.0, **chest):
    case, opened = open_chest(axes, tilt_deg, **chest)
    judged = judge_case(engine, case, opened, JudgeConfig(tolerance_mm))
    return judged, judged.seen[0].row


@pytest.mark.parametrize(("axes", "tilt_deg"), STORED)
def test_perfect_heat_finds_the_ball_along_any_axes(axes, tilt_deg):
    judged, row = judge(HeatEngine(perfect), axes, tilt_deg)
    for reading in (row.raw, row.constrained):
        assert reading.hit == 1
        assert reading.wrong_side == 0
        assert reading.voxel_auroc > 0.998
        assert reading.dice_best > 0.85
        assert 0 < reading.chance < 0.1
        peak = [reading.peak_x_mm, reading.peak_y_mm, reading.peak_z_mm]
        assert np.linalg.norm(peak - BALL_MM) < 5
    assert row.raw.voxel_auroc_in_organ > 0.99
    assert row.raw.heat_in_organ > 0.6
    assert row.volume_ml == pytest.approx(4 / 3 * np.pi * 1.4**3, rel=0.1)
    assert (row.finding, row.organs, row.side) == ("Lung nodule", ("lung_left",), "left")
    assert judged.warnings == ()


@pytest.mark.parametrize(("axes", "tilt_deg"), STORED)
def test_inverted_heat_misses_the_ball_along_any_axes(axes, tilt_deg):
    _, row = judge(HeatEngine(inverted), axes, tilt_deg)
    for reading in (row.raw, row.constrained):
        assert reading.hit == 0
        assert reading.distance_mm > 30
    assert row.raw.voxel_auroc < 0.002
    assert row.raw.voxel_auroc_in_organ < 0.01
    assert row.raw.dice_fixed == 0
    assert row.raw.wrong_side == 1
    assert row.constrained.wrong_side == 0  # kept to the left lung


def test_a_mirrored_grid_changes_the_side():
    judged, row = judge(HeatEngine(lambda points: perfect(points * [-1, 1, 1])), is_mirrored=True)
    assert row.raw.hit == 1
    assert row.raw.wrong_side == 1
    assert "mask lies on the right. Is the mask mirrored?" in judged.warnings[0].reason


@pytest.mark.parametrize(("off_mm", "is_hit"), [(5.0, 1), (18.0, 0)])
@pytest.mark.parametrize("direction", np.eye(3).tolist())
def test_the_tolerance_is_millimetres_from_the_finding_in_every_direction(off_mm, is_hit, direction):
    point = BALL_MM + (RADIUS_MM + off_mm) * np.array(direction)  # voxels are up to 6 mm long, the heat's 4 mm

    def near_point(points):
        return np.exp(-np.linalg.norm(points - point, axis=-1) / 60)

    _, row = judge(HeatEngine(near_point, cell_mm=4.0), tolerance_mm=12.0)
    assert row.raw.hit == is_hit


def test_distances_are_exact_with_unequal_and_turned_spacing():
    affine = np.array([[0, 0, 5.0, 10], [-1.0, 0, 0, 20], [0, 2.0, 0, 30], [0, 0, 0, 1]])
    grid = Grid((10, 8, 6), affine)
    mask = np.zeros(grid.shape, bool)
    mask[4:6, 3, 2] = True
    region = cut_region(mask, grid)
    inside = grid.to_mm((5, 3, 2))
    assert region.distances_mm(inside)[0] == 0
    assert region.distances_mm(inside + [7.0, 0, 0])[0] == pytest.approx(7)
    assert region.distances_mm(inside + [0, -3.0, 4.0])[0] == pytest.approx(5)
    assert region.distances_mm(inside + [7.0, 0, 0], most_mm=6.9)[0] == np.inf
    assert region.middle_mm.tolist() in (grid.to_mm((4, 3, 2)).tolist(), inside.tolist())
    assert region.volume_ml == pytest.approx(0.02)
    with pytest.raises(StudyError, match="empty"):
        cut_region(np.zeros(grid.shape, bool), grid)


def test_a_sentence_without_organ_is_free_and_one_without_side_has_no_wrong_side():
    case, opened = open_chest()
    loose = replace(opened.truths[0], sentence=read_as_page("There is a nodule."))
    judged = judge_case(HeatEngine(perfect), case, replace(opened, truths=(loose,)), JudgeConfig())
    row = judged.seen[0].row
    assert row.raw == pytest.approx(row.constrained, nan_ok=True)
    assert np.isnan([row.raw.wrong_side, row.raw.heat_in_organ, row.raw.voxel_auroc_in_organ]).all()


def test_without_organ_masks_the_whole_scan_is_judged():
    case, opened = open_chest()
    judged = judge_case(HeatEngine(perfect), case, replace(opened, masks=None), JudgeConfig())
    row = judged.seen[0].row
    assert row.constrained.hit == 1
    assert row.kept.startswith("no mask of left lung")
    assert row.constrained.wrong_side == 0  # the middle of the body is known all the same


def test_flat_heat_is_no_better_than_chance():
    _, row = judge(HeatEngine(lambda points: np.full(points.shape[:-1], 0.3)))
    assert row.raw.voxel_auroc == pytest.approx(0.5, abs=0.01)


def test_an_unusable_mask_leaves_out_its_sentence_only():
    case, opened = open_chest()
    empty = Truth(read_as_page("A mass is seen in the right lung."), "empty.nii.gz", lambda v: np.zeros(v.shape, bool))
    judged = judge_case(HeatEngine(perfect), case, replace(opened, truths=(empty, *opened.truths)), JudgeConfig())
    assert len(judged.seen) == 1
    assert judged.problems[0].sentence.startswith("A mass")
    assert "empty.nii.gz: The mask is empty" in judged.problems[0].reason


def test_questions_are_read_alone_and_true_ones_score_higher_where_heat_is():
    judged, _ = judge(HeatEngine(perfect))
    true, false = judged.answers
    assert (true.is_there, false.is_there) == (True, False)
    assert true.score > false.score + 0.2  # the false one is kept to the right lung
    assert true.margin > 0
