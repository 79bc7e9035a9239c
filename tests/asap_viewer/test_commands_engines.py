"""Every command that takes an engine, with one that compares organs; untrained and small."""

import json

import nibabel as nib
import numpy as np
import pytest
from model_folders import write_run

from asap_viewer.commands.line import run_line
from core.export.nifti import write_nifti, write_on_source
from core.findings import CT_RATE_LABELS
from core.structures import BY_NAME
from core.synthesis.phantom import PhantomConfig, build_phantom

SENTENCES = ("There is a nodule in the left lower lobe.", "The heart is not enlarged.", "The liver is normal.")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for kind in ("fvlm", "ecamp", "visd"):
        write_run(folder / f"my_{kind}", kind)
    return folder


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("case")
    phantom = build_phantom(PhantomConfig((60, 44, 56), (6.0, 6.0, 6.0), "PIR"))
    write_nifti(folder / "ct.nii.gz", phantom.volume.to_source(phantom.volume.hu), phantom.volume.source)
    write_on_source(folder / "masks.nii.gz", phantom.masks.labels, phantom.volume)
    (folder / "report.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    rows = ["study_id,findings,volume", f"one,{SENTENCES[0]},ct.nii.gz", f"two,{SENTENCES[1]},"]
    (folder / "reports.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture
def say(capfd, models, monkeypatch):
    """Run a command line; its exit code, JSON document or None, and stderr."""
    monkeypatch.setenv("ASAP_MODELS", str(models))

    def run_it(*arguments):
        code = run_line([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, json.loads(out) if code == 0 else None, err

    return run_it


def test_findings_write_how_far_organs_are_from_normal(say, case, tmp_path):
    ct, masks = case / "ct.nii.gz", ("--masks", case / "masks.nii.gz")
    out = tmp_path / "new" / "normality.nii.gz"
    code, found, err = say("findings", ct, *masks, "--engine", "my_visd", "--normality", out)
    assert code == 0, err
    assert len(found["findings"]) == 18
    drawn, labels = nib.load(out), nib.load(case / "masks.nii.gz")
    np.testing.assert_allclose(drawn.affine, labels.affine, atol=1e-4)
    values = np.asarray(drawn.dataobj)
    heart = values[np.asarray(labels.dataobj) == BY_NAME["heart"].number]
    assert 0 < heart.max() <= found["normality"]["organs"]["heart"]["highest"] + 1e-6
    code, _, err = say("findings", ct, *masks, "--engine", "my_fvlm", "--normality", tmp_path / "none" / "x.nii.gz")
    assert (code, "no model of normal organs" in err) == (2, True)
    assert not (tmp_path / "none").exists()


def test_ground_findings_and_ask(say, case, tmp_path):
    ct, more = case / "ct.nii.gz", ("--masks", case / "masks.nii.gz", "--engine", "my_fvlm")
    code, found, err = say("ground", ct, "--report", case / "report.txt", "--out", tmp_path / "heat", *more)
    assert code == 0, err
    assert [one["support"] for one in found["sentences"]][2] == "cannot tell"  # fVLM has no liver
    for at, one in enumerate(found["sentences"], start=1):
        heat = np.asarray(nib.load(tmp_path / f"heat/sentence_{at:02d}.nii.gz").dataobj)
        assert heat.shape == nib.load(ct).shape
        assert (heat.min(), heat.max() <= 1, heat.any()) == (0, True, at != 3)
        assert all(np.isfinite(one["peak_ras_mm"]))
    code, found, err = say("findings", ct, *more)
    assert code == 0, err
    told = {one["name"]: one["probability"] for one in found["findings"]}
    assert tuple(told) == CT_RATE_LABELS
    assert told["Medical material"] == 0.5
    assert all(0 <= value <= 1 for value in told.values())
    code, found, err = say("ask", ct, "Is there a pleural effusion?", *more)
    assert code == 0, err
    assert {"answer", "confidence", "evidence", "abstained"} <= set(found)


def test_index_finds_organs_for_an_engine_that_needs_them(say, case, tmp_path):
    arguments = ("--reports", case / "reports.csv", "--volumes", case, "--engine", "my_fvlm")
    code, built, err = say("index", "build", "--out", tmp_path / "index", *arguments)
    assert code == 0, err
    assert (built["engine"], built["reports"], built["volumes"], built["skipped"]) == ("my_fvlm", 2, 1, 0)
    code, found, err = say("index", "search", tmp_path / "index", "--text", SENTENCES[1], "-k", 2)
    assert code == 0, err
    assert {one["study_id"]: one["score"] for one in found["results"]}["two"] == pytest.approx(1, abs=1e-3)
    code, found, err = say("index", "search", tmp_path / "index", "--ct", case / "ct.nii.gz", "-k", 2)
    assert code == 0, err
    assert {one["study_id"] for one in found["results"]} <= {"one", "two"}


def test_engines_tells_what_runs_and_how_to_get_the_rest(say):
    code, found, _ = say("engines")
    assert code == 0
    states = {one["name"]: one for one in found["engines"]}
    assert states["my_fvlm"]["can_run"]
    assert "not defined for this recipe" in states["my_ecamp"]["lacks"]
    for name in ("asap", "fvlm", "visd"):
        assert f"trainers.import_weights --source {name}" in states[name]["lacks"]


@pytest.mark.parametrize("name", ["my_ecamp", "fvlm", "visd", "asap", "colipri", "nothing"])
def test_an_engine_that_cannot_run_is_one_line(say, case, tmp_path, name):
    code, _, err = say(
        "ground", case / "ct.nii.gz", "--report", case / "report.txt", "--out", tmp_path / "x", "--engine", name
    )
    assert code == 2
    assert err.count("\n") == 1
