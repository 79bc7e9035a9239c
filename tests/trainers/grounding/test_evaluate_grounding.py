"""The command as a whole: files, exit codes, going on where it stopped."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from ball_cases import BALL_MM, SENTENCE, write_chest
from model_folders import write_run
from PIL import Image
from tiny_engine import write_tiny_engine

from core.synthesis.patients import Patient
from core.synthesis.phantom import PhantomConfig, build_phantom
from trainers.evaluate_grounding import run
from trainers.patients import write_patient

QUICK = ["--interval.draws", "30", "--organs", "none"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_engine(folder)
    return str(folder)


@pytest.fixture
def chests(tmp_path):
    """A list of two chests stored along different axes, and one whose CT is not there."""
    rows = []
    for name, axes in (("a", "LPS"), ("b", "PIR")):
        write_chest(tmp_path / name, axes)
        rows.append({"ct": f"{name}/ct.nii.gz", "mask": f"{name}/ball.nii.gz", "masks": f"{name}/organs.nii.gz"})
        rows[-1] |= {"sentence": SENTENCE, "finding": f"finding {name}"}
    (tmp_path / "good.json").write_text(json.dumps(rows))
    (tmp_path / "bad.json").write_text(json.dumps([*rows, {"ct": "c/ct.nii.gz", "sentence": SENTENCE, "mask": "x"}]))
    return tmp_path


def call(chests, engine, *words, cases="good.json"):
    return run(["--cases", str(chests / cases), "--out", str(chests / "out"), "--engine", engine, *QUICK, *words])


def test_results_are_complete_and_of_all_cases(chests, engine, capsys):
    assert call(chests, engine) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["cases"], answer["sentences"], answer["left_out"]) == (2, 2, 0)
    told = json.loads((chests / "out" / "metrics.json").read_text())
    assert list(told["per_finding"]) == ["finding a", "finding b"]
    assert told["overall"]["constrained"]["voxel_auroc"]["n"] == 2
    assert told["config"]["judge"]["tolerance_mm"] == 10
    assert told["presence"]["overall"]["false"] == 2
    rows = list(csv.DictReader((chests / "out" / "sentences.csv").open()))
    assert [row["case"] for row in rows] == ["a", "b"]
    for name in ("raw_peak_x_mm", "raw_voxel_auroc", "constrained_dice_best"):  # the same patient along other axes
        assert float(rows[0][name]) == pytest.approx(float(rows[1][name]), abs=0.01)
    assert "| finding a | 1 |" in (chests / "out" / "summary.md").read_text()
    assert len(list(csv.DictReader((chests / "out" / "presence.csv").open()))) == 4


def test_heat_and_masks_come_back_on_the_grid_of_the_ct(chests, engine):
    assert call(chests, engine, "--save-heat") == 0
    for name in ("a", "b"):
        ct = nib.load(chests / name / "ct.nii.gz")
        for kind, dtype in (("raw", np.float32), ("constrained", np.float32), ("mask", np.uint8)):
            image = nib.load(chests / "out" / "heat" / f"{name}_01_{kind}.nii.gz")
            assert image.shape == ct.shape
            assert np.allclose(image.affine, ct.affine, atol=1e-4)
            assert image.get_data_dtype() == dtype
        heat = nib.load(chests / "out" / "heat" / f"{name}_01_constrained.nii.gz")
        warm = nib.affines.apply_affine(heat.affine, np.argwhere(heat.get_fdata() > 0))
        assert warm[:, 0].max() < 10  # kept to the left lung


def test_pictures_show_the_worst_and_no_more_than_asked_for(chests, engine):
    assert call(chests, engine, "--pictures", "1") == 0
    (picture,) = (chests / "out" / "pictures").iterdir()
    assert json.loads((chests / "out" / "metrics.json").read_text())["pictures"] == [picture.name]
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    outline = np.argwhere((pixels == (0, 255, 255)).all(axis=-1))
    first = outline[outline[:, 1] < pixels.shape[1] // 3]  # the axial plane through the ball
    columns = first[:, 1].mean() - pixels.shape[1] / 6
    assert columns * 1.5 == pytest.approx(-BALL_MM[0], abs=4)  # the patient's left is on the right


@pytest.mark.parametrize("recipe", ["fvlm", "asg"])
def test_engines_of_other_recipes_are_judged_too(chests, recipe):
    (chests / recipe).mkdir()
    write_run(chests / recipe, recipe)
    assert call(chests, str(chests / recipe), "--limit", "1", "--false-sentences", "0") == 0
    told = json.loads((chests / "out" / "metrics.json").read_text())
    assert told["engine"] == recipe
    assert 0 <= told["overall"]["raw"]["voxel_auroc"]["value"] <= 1


def test_an_engine_that_needs_organs_says_so_of_each_case_without(chests, capsys):
    (chests / "fvlm").mkdir()
    write_run(chests / "fvlm", "fvlm")
    row = {"ct": "a/ct.nii.gz", "mask": "a/ball.nii.gz", "sentence": SENTENCE}
    (chests / "bare.json").write_text(json.dumps([row]))
    assert call(chests, str(chests / "fvlm"), cases="bare.json") == 2
    assert "there are no organ masks" in capsys.readouterr().err


def test_one_bad_case_is_listed_and_stops_nothing(chests, engine, capsys):
    assert call(chests, engine, cases="bad.json") == 1
    told = json.loads((chests / "out" / "metrics.json").read_text())
    assert told["counts"]["cases"] == 2
    assert told["left_out"][0]["case"] == "c"
    assert "does not exist" in told["left_out"][0]["reason"]
    assert "## Left out\n\n- c: " in (chests / "out" / "summary.md").read_text()
    assert "left out: c" in capsys.readouterr().err


def test_an_empty_mask_leaves_out_its_sentence(chests, engine):
    image = nib.load(chests / "a" / "ball.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), chests / "a" / "ball.nii.gz")
    assert call(chests, engine) == 1
    (problem,) = json.loads((chests / "out" / "metrics.json").read_text())["left_out"]
    assert problem["reason"].startswith("ball.nii.gz: The mask is empty")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--cases", "good.json", "--engine", "nobody"], "There is no engine 'nobody'"),
        (["--cases", "nowhere.json"], "nowhere.json does not exist"),
        (["--synthetic", "a"], "is no patient of the data engine"),
        ([], "There is nothing to judge"),
        (["--cases", "good.json", "--threshold", "1.5"], "threshold is 1.5"),
        (["--cases", "good.json", "--out", "a"], "holds other files"),
    ],
)
def test_a_mistake_is_told_in_one_line(chests, engine, words, reason, capsys, monkeypatch):
    monkeypatch.chdir(chests)
    assert run(["--out", "out", "--engine", engine, *QUICK, *words]) == 2
    told = capsys.readouterr()
    assert reason in told.err.splitlines()[-1]
    assert told.out == ""


def test_nothing_judged_is_an_error(chests, engine, capsys):
    (chests / "b" / "ct.nii.gz").unlink()
    (chests / "a" / "ct.nii.gz").write_bytes(b"no image")
    assert call(chests, engine) == 2
    assert "Nothing was judged" in capsys.readouterr().err


def test_a_stopped_evaluation_goes_on_with_what_is_left(chests, engine, capsys, monkeypatch):
    import trainers.grounding.evaluation as evaluation

    assert call(chests, engine, "--limit", "1") == 0
    first = json.loads((chests / "out" / "metrics.json").read_text())
    judged = []
    monkeypatch.setattr(
        evaluation,
        "judge_case",
        lambda engine, case, *rest, judge=evaluation.judge_case: judged.append(case.name) or judge(engine, case, *rest),
    )
    assert call(chests, engine, "--resume") == 0
    assert judged == ["b"]
    whole = json.loads((chests / "out" / "metrics.json").read_text())
    assert whole["per_finding"]["finding a"] == first["per_finding"]["finding a"]
    assert sorted(whole["pictures"]) == ["a_01.png", "b_01.png"]
    (chests / "a" / "ball.nii.gz").write_bytes((chests / "a" / "organs.nii.gz").read_bytes())
    assert call(chests, engine, "--resume") == 0
    assert judged == ["b", "a"]  # its mask changed
    assert call(chests, engine, "--resume", "--threshold", "0.25") == 2
    assert "other settings" in capsys.readouterr().err
    assert call(chests, engine, "--limit", "1") == 0
    assert judged == ["b", "a", "a"]


def test_synthetic_findings_are_painted_judged_and_asked_for(tmp_path, engine):
    phantom = build_phantom(PhantomConfig(shape=(56, 42, 48), spacing_mm=(6.0, 6.0, 6.0), lesions=()))
    patient = Patient("held", phantom.volume.hu, phantom.masks.labels, phantom.volume.grid, ("mass",))
    write_patient(patient, tmp_path / "held")
    words = ["--synthetic", str(tmp_path / "held"), "--count", "2", "--seed", "5", "--pictures", "0"]
    words += ["--study.view.shape", "48", "40", "44", "--study.view.spacing-mm", "7", "--study.findings", "2", "3"]
    assert run([*words, "--out", str(tmp_path / "out"), "--engine", engine, *QUICK]) == 0
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert told["counts"]["cases"] == 2
    assert told["counts"]["sentences"] >= 2
    asked = list(csv.DictReader((tmp_path / "out" / "presence.csv").open()))
    assert {row["is_there"] for row in asked} == {"0", "1"}
    assert not any(row["finding"] == "mass" and row["is_there"] == "0" for row in asked)  # the patient may have one
