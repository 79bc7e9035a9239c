"""Commands that run a model, on the phantom: real engines, small and untrained. Geometry is tested, opinions not."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch

from asap_viewer.commands.line import run_line
from core.export.nifti import write_nifti, write_on_source
from core.findings import CT_RATE_LABELS
from core.grounding.asap_engine import EngineSpec
from core.grounding.view import ViewConfig
from core.models.asap import ASAP
from core.models.asap_config import tiny
from core.models.checkpoint import config_to_json, save_weights
from core.models.tokens import train_wordpiece
from core.structures import BY_NAME, BY_NUMBER
from core.synthesis.phantom import PhantomConfig, build_phantom

ENGINE = "untrained"
HEART = BY_NAME["heart"].number
SENTENCES = ("There is a nodule in the left lower lobe.", "No pleural effusion.", "The heart is not enlarged.")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of weights as ASAP_MODELS names it, with one untrained model in it."""
    folder = tmp_path_factory.mktemp("models")
    model = folder / ENGINE
    model.mkdir()
    tokenizer = train_wordpiece(list(SENTENCES), 200)
    torch.manual_seed(0)
    config = tiny(tokenizer.vocab_size)
    save_weights(model / "model.safetensors", ASAP(config), {"config": config_to_json(config)})
    (model / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    view = ViewConfig((9.0, 9.0, 18.0), (32, 32, 16), (8, 8, 4), subdivisions=2)
    (model / "engine.json").write_text(config_to_json(EngineSpec(ENGINE, view)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Orientation -> folder with ct.nii.gz and masks.nii.gz of one phantom, stored in that orientation."""
    found = {}
    for axes in ("LPS", "RAS", "PIR"):
        folder = tmp_path_factory.mktemp(axes)
        phantom = build_phantom(PhantomConfig((60, 44, 56), (6.0, 6.0, 6.0), axes))
        write_nifti(folder / "ct.nii.gz", phantom.volume.to_source(phantom.volume.hu), phantom.volume.source)
        write_on_source(folder / "masks.nii.gz", phantom.masks.labels, phantom.volume)
        (folder / "report.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
        found[axes] = folder
    return found


@pytest.fixture
def run(capfd, models, monkeypatch):
    """Run a command line that must succeed and return its JSON document."""
    monkeypatch.setenv("ASAP_MODELS", str(models))

    def run_it(*arguments):
        code = run_line([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert code == 0, err
        return json.loads(out)

    return run_it


def ground(run, case, out, *more):
    arguments = ("--report", case / "report.txt", "--masks", case / "masks.nii.gz", "--engine", ENGINE)
    return run("ground", case / "ct.nii.gz", "--out", out, *arguments, *more)


def test_heat_maps_lie_on_the_grid_of_the_file(run, cases, tmp_path):
    case = cases["PIR"]
    found = ground(run, case, tmp_path / "heat")
    assert json.loads((tmp_path / "heat/grounding.json").read_text(encoding="utf-8")) == found
    assert found["engine"] == ENGINE
    ct = nib.load(case / "ct.nii.gz")
    for at, sentence in enumerate(found["sentences"]):
        assert (sentence["index"], sentence["text"]) == (at + 1, SENTENCES[at])
        image = nib.load(tmp_path / f"heat/sentence_{at + 1:02d}.nii.gz")
        heat = np.asarray(image.dataobj)
        assert image.get_data_dtype() == np.float32
        assert heat.shape == ct.shape
        np.testing.assert_allclose(image.affine, ct.affine, atol=1e-4)
        assert 0.0 <= heat.min() <= heat.max() <= 1.0
        peak = nib.affines.apply_affine(ct.affine, sentence["peak_voxel"])
        np.testing.assert_allclose(peak, sentence["peak_ras_mm"], atol=0.01)
        assert heat[tuple(sentence["peak_voxel"])] == pytest.approx(heat.max(), abs=1e-3)
        assert sum(sentence["organs"].values()) <= 1.001


def test_a_copy_stored_otherwise_has_its_peaks_at_the_same_millimetres(run, cases, tmp_path):
    peaks = {
        axes: [one["peak_ras_mm"] for one in ground(run, case, tmp_path / axes)["sentences"]]
        for axes, case in cases.items()
    }
    np.testing.assert_allclose(peaks["RAS"], peaks["LPS"], atol=0.1)
    np.testing.assert_allclose(peaks["PIR"], peaks["LPS"], atol=0.1)


def test_a_second_run_replaces_the_first_and_spares_other_files(run, cases, tmp_path):
    out = tmp_path / "heat"
    ground(run, cases["LPS"], out)
    (out / "mine.txt").write_text("keep", encoding="utf-8")
    short = tmp_path / "short.txt"
    short.write_text(SENTENCES[0], encoding="utf-8")
    ground(run, cases["LPS"], out, "--report", short)
    left = ["grounding.json", "mine.txt", "raw_sentence_01.nii.gz", "sentence_01.nii.gz"]
    assert sorted(path.name for path in out.iterdir()) == left


@pytest.mark.parametrize("axes", ["LPS", "PIR"])
def test_heat_stays_in_the_named_organ_and_the_raw_heat_lies_beside_it(run, cases, tmp_path, axes):
    found = ground(run, cases[axes], tmp_path / "heat")["sentences"]
    words = [one["constraint"]["words"] for one in found]
    assert words[0] == "kept inside: left lower lobe"
    assert "pleura" in words[1]
    assert words[2] == "kept inside: heart"
    assert [one["lit_whole"] for one in found] == [False, True, True]
    labels = np.asarray(nib.load(cases[axes] / "masks.nii.gz").dataobj)
    for one, name in ((found[0], "lung_lower_lobe_left"), (found[2], "heart")):
        assert BY_NUMBER[int(labels[tuple(one["peak_voxel"])])].name == name
    raw = nib.load(tmp_path / "heat" / found[2]["raw"]["file"])
    heat = np.asarray(raw.dataobj)
    np.testing.assert_allclose(raw.affine, nib.load(cases[axes] / "ct.nii.gz").affine, atol=1e-4)
    assert raw.get_data_dtype() == np.float32
    assert 0.0 <= heat.min() <= heat.max() <= 1.0
    assert heat[tuple(found[2]["raw"]["peak_voxel"])] == pytest.approx(heat.max(), abs=1e-3)
    kept = np.asarray(nib.load(tmp_path / "heat" / found[2]["file"]).dataobj)
    assert kept[labels == HEART].min() > 0.1  # lit whole; 0.5 before it is brought to the file's voxels
    assert (heat > 0).sum() > (heat[labels == HEART] > 0).sum()  # the raw heat knows no heart


def test_findings_are_the_18_in_order(run, cases):
    case = cases["LPS"]
    found = run("findings", case / "ct.nii.gz", "--engine", ENGINE, "--masks", case / "masks.nii.gz")["findings"]
    assert tuple(one["name"] for one in found) == CT_RATE_LABELS
    assert all(0.0 <= one["probability"] <= 1.0 and len(one["peak_ras_mm"]) == 3 for one in found)


def test_segment_measures_what_it_wrote(run, cases, tmp_path):
    out = tmp_path / "mask.nii.gz"
    found = run("segment", cases["PIR"] / "ct.nii.gz", "--out", out, "--engine", "embedded")
    image, ct = nib.load(out), nib.load(cases["PIR"] / "ct.nii.gz")
    labels = np.asarray(image.dataobj)
    assert labels.dtype == np.uint8
    np.testing.assert_allclose(image.affine, ct.affine, atol=1e-4)
    numbers = {int(number) for number in np.unique(labels) if number}
    assert {int(number) for number in found["labels"]} == numbers
    assert numbers
    for number, one in found["labels"].items():
        assert one["name"] == BY_NUMBER[int(number)].name
        inside = labels == int(number)
        assert one["volume_ml"] == pytest.approx(inside.sum() * 0.216, rel=1e-3)  # 6 mm cubed
        assert one["mean_hu"] == pytest.approx(np.asarray(ct.dataobj)[inside].mean(), abs=0.1)
    assert found["engine"] == "embedded"
    assert found["seconds"] > 0


def test_an_index_is_built_and_searched_by_text_study_and_ct(run, cases, tmp_path):
    table = tmp_path / "reports.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["study_id", "findings", "volume"])
        rows.writerow(["a", SENTENCES[0], "LPS.nii.gz"])
        rows.writerow(["b", "Pleural effusion on the right.", ""])
        rows.writerow(["c", SENTENCES[2], ""])
    (tmp_path / "LPS.nii.gz").write_bytes((cases["LPS"] / "ct.nii.gz").read_bytes())
    index = tmp_path / "index"
    built = run("index", "build", "--reports", table, "--volumes", tmp_path, "--out", index, "--engine", ENGINE)
    assert (built["reports"], built["volumes"], built["skipped"]) == (3, 1, 0)
    by_text = run("index", "search", index, "--text", SENTENCES[0], "-k", "2")
    assert by_text["results"][0]["study_id"] == "a"
    assert by_text["results"][0]["score"] == pytest.approx(1.0, abs=1e-3)
    assert len(by_text["results"]) == 2
    assert by_text["milliseconds"] > 0
    filtered = run("index", "search", index, "--text", SENTENCES[0], "--label", "Pleural effusion=1")
    assert [hit["study_id"] for hit in filtered["results"]] == ["b"]
    by_study = run("index", "search", index, "--study", "a")
    assert {hit["study_id"] for hit in by_study["results"]} == {"b", "c"}
    by_ct = run("index", "search", index, "--ct", cases["RAS"] / "ct.nii.gz")
    assert len(by_ct["results"]) >= 2


def test_ask_answers_with_evidence_or_says_it_cannot_tell(run, cases):
    case = cases["LPS"]
    given = ("--report", case / "report.txt", "--masks", case / "masks.nii.gz", "--engine", ENGINE)
    volume = run("ask", case / "ct.nii.gz", "What is the volume of the left lung?", *given)
    assert volume["abstained"] is False
    assert "mL" in volume["evidence"]["measurement"]
    assert volume["evidence"]["organ"] == "lung_left"
    assert volume["evidence"]["peak_ras_mm"][0] < 12.0  # left of the phantom's middle
    unknown = run("ask", case / "ct.nii.gz", "What is the capital of France?", *given)
    assert unknown["abstained"] is True
    assert unknown["confidence"] == 0
