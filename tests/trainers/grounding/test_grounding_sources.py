"""What a list, a folder, an annotation export or a segmentation of channels holds, and what each refuses and why."""

import csv
import json
import re

import nibabel as nib
import numpy as np
import pytest
from ball_cases import BALL_MM, SENTENCE, write_chest

from core.annotation.export import export_annotations
from core.annotation.regions import span_box
from core.annotation.store import AnnotationStore
from core.errors import ConfigError, StudyError
from core.reading.study import open_study
from trainers.grounding.real_lesions import LESIONS, ListLesionsConfig, list_lesions
from trainers.grounding.sources import ListConfig, collect_cases


def collect(path, false=0, **where):
    return collect_cases((path,), ListConfig(**where), false, 0)


def centre_of(case, number=0):
    """Patient mm of the middle of a sentence's mask."""
    opened = case.open()
    mask = opened.truths[number].read(opened.volume)
    return opened.volume.grid.to_mm(np.argwhere(mask).mean(axis=0))


def write_rows(path, *rows):
    path.write_text(json.dumps(rows))
    return path


def ball_row(**more):
    return {"ct": "a/ct.nii.gz", "mask": "a/ball.nii.gz", "sentence": SENTENCE} | more


@pytest.fixture
def chest(tmp_path):
    write_chest(tmp_path / "a")
    return tmp_path


def test_rows_of_one_ct_are_one_case_with_all_their_sentences(chest):
    rows = [
        ball_row(finding="my nodule", sentence=[SENTENCE, "Left lung: nodule."], masks="a/organs.nii.gz", patient="p"),
        ball_row(organ=["heart"], side="right"),
        {"ct": "a/ct.nii.gz", "sentence": "There is a right pleural effusion.", "present": False},
    ]
    (case,), problems = collect(write_rows(chest / "list.json", *rows))
    opened = case.open()
    assert (case.name, case.patient, problems) == ("a", "p", [])
    assert [truth.sentence.finding for truth in opened.truths] == ["my nodule", "my nodule", "Lung nodule"]
    assert opened.truths[0].sentence.organs == ("lung_left",)
    assert (opened.truths[2].sentence.organs, opened.truths[2].sentence.side) == (("heart",), "right")
    assert [question.is_true for question in opened.questions] == [True, True, True, False]
    assert opened.masks.names() == ["body", "lung_left", "lung_right"]
    assert np.linalg.norm(centre_of(case) - BALL_MM) < 2


def test_csv_and_folders_hold_the_same_case(chest):
    with (chest / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [["ct", "sentence", "mask", "masks"], ["a/ct.nii.gz", SENTENCE, "a/ball.nii.gz", "a/organs.nii.gz"]]
        )
    (from_list,), _ = collect(chest)
    (chest / "cases.csv").unlink()
    (chest / "a" / "false.txt").write_text("There is a mass in the right lung.\n")
    for root in (chest, chest / "a"):
        (from_folder,), problems = collect(root)
        assert (from_folder.name, problems) == ("a", [])
        assert np.allclose(centre_of(from_folder), centre_of(from_list))
        assert [question.is_true for question in from_folder.open().questions] == [True, False]
        assert from_folder.open().masks is not None


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAL"])
def test_a_mask_of_the_same_voxels_along_other_axes_is_turned(tmp_path, axes):
    write_chest(tmp_path / "a", "LPS")
    write_chest(tmp_path / "b", axes)
    (case,), problems = collect(write_rows(tmp_path / "list.json", ball_row(mask="b/ball.nii.gz")))
    assert problems == []
    assert np.linalg.norm(centre_of(case) - BALL_MM) < 2


@pytest.mark.parametrize(("labels", "share"), [("", 1.0), ("2", 0.0), (">=2", 0.0), ("1 7", 1.0), (">=1", 1.0)])
def test_labels_choose_voxels(chest, labels, share):
    (case,), _ = collect(write_rows(chest / "list.json", ball_row(labels=labels)))
    opened = case.open()
    whole = nib.load(chest / "a" / "ball.nii.gz").get_fdata().sum()
    assert opened.truths[0].read(opened.volume).sum() == share * whole


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ball_row(mask="a/nothing.nii.gz"), "nothing.nii.gz does not exist"),
        (ball_row(mask="a/short.nii.gz"), "not on the grid of its CT: found 52 x 38 x 25 voxels"),
        (ball_row(mask="a/moved.nii.gz"), "not on the grid of its CT"),
        (ball_row(mask="a/mirrored.nii.gz"), "not on the grid of its CT"),
        (ball_row(mask="a/four.nii.gz"), r"shape \(52, 38, 26, 2\); expected one 3-D mask"),
        (ball_row(mask="a/ball.txt"), "cannot be read as NIfTI"),
        (ball_row(mask=""), "No mask is named"),
        (ball_row(sentence=" "), "expected words of a report"),
        (ball_row(organ="left lobe"), "no structure 'left'"),
        (ball_row(side="up"), "The side is 'up'"),
        (ball_row(labels="two"), "labels of a mask are 'two'"),
        (ball_row(present="maybe"), "present is 'maybe'"),
        (ball_row(present=False), "false of the CT, but has the mask"),
    ],
)
def test_a_bad_row_is_left_out_with_its_reason(chest, row, reason):
    image = nib.load(chest / "a" / "ball.nii.gz")
    ball, affine = np.asarray(image.dataobj), image.affine
    moved = affine.copy()
    moved[0, 3] += 3.0
    for name, array, place in (
        ("short", ball[:, :, 1:], affine),
        ("moved", ball, moved),
        ("mirrored", ball, np.diag([-1.0, 1, 1, 1]) @ affine @ np.diag([1.0, -1, 1, 1])),
        ("four", np.stack([ball, ball], axis=-1), affine),
    ):
        nib.save(nib.Nifti1Image(array, place), chest / "a" / f"{name}.nii.gz")
    (case,), (problem,) = collect(write_rows(chest / "list.json", ball_row(sentence="A good nodule."), row))
    assert [truth.sentence.text for truth in case.open().truths] == ["A good nodule."]
    assert re.search(reason, problem.reason)


def test_cases_are_called_by_their_ct_or_its_folder_and_never_the_same(chest):
    for name in ("b/x", "b/y", "c"):
        write_chest(chest / name)
    (chest / "c" / "ct.nii.gz").rename(chest / "c" / "p7.nii.gz")
    (chest / "d" / "x").mkdir(parents=True)
    (chest / "b" / "x" / "ct.nii.gz").rename(chest / "d" / "x" / "ct_2mm.nii.gz")
    places = ["a/ct.nii.gz", "b/y/ct.nii.gz", "c/p7.nii.gz", "d/x/ct_2mm.nii.gz"]
    cases, _ = collect(write_rows(chest / "list.json", *(ball_row(ct=place) for place in places)))
    assert [case.name for case in cases] == ["a", "y", "p7", "x"]
    write_chest(chest / "e" / "x")
    places.append("e/x/ct.nii.gz")
    cases, _ = collect(write_rows(chest / "list.json", *(ball_row(ct=place) for place in places)))
    assert [case.name for case in cases][3:] == ["d/x/ct_2mm.nii.gz", "e/x/ct.nii.gz"]


def test_a_missing_ct_leaves_out_its_case_only(chest):
    rows = [ball_row(), ball_row(ct="b/ct.nii.gz")]
    cases, (problem,) = collect(write_rows(chest / "list.json", *rows))
    assert [case.name for case in cases] == ["a"]
    assert (problem.case, problem.sentence) == ("b", "")
    assert "b/ct.nii.gz does not exist" in problem.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "is no list of cases|lists nothing"),
        ('{"some": "thing"}', "is no list of cases"),
        ('[{"ct": "a", "sentence": "b", "maks": "c"}]', "unknown: maks"),
        ('[{"ct": "a"}]', "missing: sentence"),
    ],
)
def test_a_file_that_is_no_list_is_refused(tmp_path, text, reason):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        collect(tmp_path / "list.json")


def test_places_that_hold_no_cases_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        collect(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="neither cases.json nor cases.csv"):
        collect(tmp_path)


def test_a_folder_tells_which_finding_lacks_its_sentences(chest):
    (chest / "a" / "ball.txt").unlink()
    cases, problems = collect(chest)
    assert cases == []
    assert "ball.txt does not exist" in problems[0].reason


def test_false_sentences_come_from_cases_with_other_findings(chest):
    write_chest(chest / "b")
    rows = [ball_row(), ball_row(ct="b/ct.nii.gz", mask="b/ball.nii.gz", sentence="A mass in the left lung.")]
    path = write_rows(chest / "list.json", *rows)
    for cases, _ in (collect(path, false=3), collect(path, false=3)):
        asked = [[(q.sentence.finding, q.is_true) for q in case.open().questions] for case in cases]
        assert asked == [[("Lung nodule", True), ("lung mass", False)], [("lung mass", True), ("Lung nodule", False)]]


@pytest.fixture
def export(chest):
    """The annotation export of a chest on which two people drew, and where it lies."""
    volume = open_study(chest / "a" / "ct.nii.gz").volume
    store = AnnotationStore(f"sqlite:///{chest / 'notes.sqlite'}")
    store.describe_case(volume.content_hash, "ct.nii.gz", volume.source)
    for author, low in (("ann", BALL_MM - 10), ("bob", BALL_MM + [20, -10, -10])):
        store.add_region(volume.content_hash, (1, SENTENCE), span_box(low, low + 20, volume), author)
    export_annotations(store, chest / "export")
    store.close()
    return chest / "export"


@pytest.mark.parametrize("root", ["", "a", "a/ct.nii.gz"])
def test_an_annotation_export_finds_its_ct_and_joins_what_was_drawn(chest, export, root):
    (case,), problems = collect(export, ct_root=chest / root)
    assert problems == []
    assert np.linalg.norm(centre_of(case) - (BALL_MM + [15, 0, 0])) < 4
    (of_ann,), _ = collect(export / "annotations.json", ct_root=chest / root, author="ann")
    assert np.linalg.norm(centre_of(of_ann) - BALL_MM) < 4
    assert case.open().truths[0].sentence.organs == ("lung_left",)


def test_an_annotation_export_without_its_ct_says_so(chest, export, tmp_path_factory):
    with pytest.raises(ConfigError, match="expected --ct-root"):
        collect(export)
    other = write_chest(tmp_path_factory.mktemp("other") / "c", "RAS")
    hu = nib.load(other / "ct.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(hu.dataobj) + 1, hu.affine), other / "ct.nii.gz")
    cases, (problem,) = collect(export, ct_root=other)
    assert cases == []
    assert "is not below" in problem.reason
    _, (problem,) = collect(export, ct_root=chest, author="eve")
    assert "No region was drawn by eve" in problem.reason


def write_rex(folder, axes, array, affine, findings=("A nodule in the left lung.", "Emphysema in the right lung.")):
    """A list like ReXGroundingCT's with one CT."""
    write_chest(folder / "train_7_a_1", axes)
    (folder / "train_7_a_1" / "ct.nii.gz").rename(folder / "train_7_a_1.nii.gz")
    (folder / "segmentations").mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), folder / "segmentations" / "train_7_a_1.nii.gz")
    item = {"name": "train_7_a_1.nii.gz", "findings": {str(n): text for n, text in enumerate(findings)}}
    (folder / "dataset.json").write_text(json.dumps({"val": [item | {"categories": {"0": "2d", "1": "1c"}}]}))
    return folder / "dataset.json"


def ball_of(folder, axes):
    image = nib.load(write_chest(folder / "made", axes) / "ball.nii.gz")
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize(
    "layout", ["channels first", "channels first, placed", "channels last", "labels", "labels RAS"]
)
def test_channels_and_labels_lie_where_their_finding_does(tmp_path, axes, layout):
    ball, affine = ball_of(tmp_path, axes)
    other = np.roll(ball, 6, axis=list(nib.aff2axcodes(affine)).index("S" if "S" in axes else "I"))
    array, place = {
        "channels first": (np.stack([ball * 3, other]), np.eye(4)),
        "channels first, placed": (np.stack([ball, other]), affine),
        "channels last": (np.stack([ball, other], axis=-1), affine),
        "labels": (ball + 2 * other, affine),
        "labels RAS": (ball + 2 * other, affine),
    }[layout]
    if layout == "labels RAS":
        turned = nib.as_closest_canonical(nib.Nifti1Image(array, place))
        array, place = np.asarray(turned.dataobj), turned.affine
    path = write_rex(tmp_path, axes, array.astype(np.uint8), place)
    (case,), problems = collect(path)
    assert problems == []
    assert (case.name, case.patient) == ("train_7_a_1", "train_7")
    assert np.linalg.norm(centre_of(case) - BALL_MM) < 2
    assert abs(np.linalg.norm(centre_of(case, 1) - BALL_MM) - 36) < 2  # six slices of 6 mm away
    assert [truth.sentence.finding for truth in case.open().truths] == ["Lung nodule", "Emphysema"]


def test_a_segmentation_that_does_not_fit_is_refused(tmp_path):
    ball, affine = ball_of(tmp_path, "LPS")
    for array, reason in (
        (np.stack([ball] * 3), "expected (2, 52, 38, 26), one channel for each of 2 findings"),
        (np.stack([ball.T, ball.T]), "another order"),
        (ball[:, :, 1:], "expected (2, 52, 38, 26)"),
    ):
        cases, problems = collect(write_rex(tmp_path, "LPS", array, np.eye(4)))
        assert cases == []
        assert reason in problems[0].reason
    moved = affine.copy()
    moved[2, 3] += 12
    _, problems = collect(write_rex(tmp_path, "LPS", ball, moved))
    assert "not on the grid of its CT" in problems[0].reason
    (case,), _ = collect(write_rex(tmp_path, "LPS", ball * 5, affine))
    with pytest.raises(StudyError, match="labels up to 5, the list 2 findings"):
        centre_of(case)


def test_ct_rate_folders_and_splits_are_known(tmp_path):
    ball, _ = ball_of(tmp_path, "LPS")
    path = write_rex(tmp_path, "LPS", np.stack([ball, ball]), np.eye(4))
    nested = tmp_path / "rate" / "dataset" / "train_fixed" / "train_7" / "train_7_a"
    nested.mkdir(parents=True)
    (tmp_path / "train_7_a_1.nii.gz").rename(nested / "train_7_a_1.nii.gz")
    (case,), _ = collect(path, ct_root=tmp_path / "rate", split="val")
    assert np.linalg.norm(centre_of(case) - BALL_MM) < 2
    _, (problem,) = collect(path)
    assert "Give --ct-root" in problem.reason
    with pytest.raises(ConfigError, match="no split 'test'; expected one of: val"):
        collect(path, split="test")


@pytest.mark.real_ct
def test_the_list_of_real_lesions_opens_and_lies_in_the_left_lung(shared, tmp_path):
    config = ListLesionsConfig(shared / "data" / "ct", tmp_path / "lesions.json", ("LIDC-IDRI-0001", "LUNG1-001"))
    cases, problems = collect(write_rows(config.out, *list_lesions(config)))
    assert problems == []
    assert [len(case.open().truths) for case in cases] == [3, 3]
    assert all(centre_of(case)[0] < 0 for case in cases)
    with pytest.raises(ConfigError, match="holds none of the CTs"):
        list_lesions(ListLesionsConfig(tmp_path, tmp_path / "x.json"))
    assert len({lesion.case for lesion in LESIONS}) == len(LESIONS)
