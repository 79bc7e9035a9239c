"""Fine-tuned models at the command line and in the page. They are untrained: geometry is tested, opinions are not."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from asap_viewer.commands.line import run_line
from asap_viewer.engines import open_segmenter
from asap_viewer.served import VolumeServer
from asap_viewer.services import Services
from asap_viewer.settings import Settings
from core.errors import EngineError
from core.export.nifti import write_nifti, write_on_source
from core.models.backbone import BackboneConfig
from core.models.classifier import Classifier, ClassifierConfig, HeadConfig
from core.models.unetr import Segmenter3d, SegmenterConfig
from core.models.vit import VisionConfig
from core.structures import BY_NAME
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.tasks.task_file import save_task
from core.tasks.view import TaskView

VIT = BackboneConfig(vit=VisionConfig((32, 32, 16), (8, 8, 4), width=24, depth=2, heads=4, mlp_ratio=2))
VIEW = TaskView((9.0, 9.0, 18.0), size=(32, 32, 16))
ORGANS = ("background", "Left lung", "oesophagus", "tumour")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    classifier = Classifier(ClassifierConfig(VIT, ("COVID", "Effusion"), head=HeadConfig(norm="layer", init_std=0.5)))
    segmenter = Segmenter3d(SegmenterConfig(VIT, ORGANS, (32, 32, 16), channels=2))
    strange = Segmenter3d(SegmenterConfig(VIT, ("background", "lesion"), (32, 32, 16), channels=2))
    for name, model in (("covid", classifier), ("lungs", segmenter), ("strange", strange)):
        (folder / name).mkdir()
        save_task(folder / name / "model.safetensors", model, VIEW, {"encoder": "asap tiny", "data": "nothing"})
    (folder / "broken").mkdir()
    (folder / "broken" / "model.safetensors").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    """A phantom on an anisotropic grid stored towards Posterior, Inferior, Right, with a mask on its grid."""
    folder = tmp_path_factory.mktemp("ct")
    phantom = build_phantom(PhantomConfig((60, 44, 40), (6.0, 6.0, 8.0), "PIR"))
    write_nifti(folder / "ct.nii.gz", phantom.volume.to_source(phantom.volume.hu), phantom.volume.source)
    write_on_source(folder / "masks.nii.gz", phantom.masks.labels, phantom.volume)
    return folder / "ct.nii.gz"


@pytest.fixture
def run(capfd, models, monkeypatch):
    """Run a command line; its exit code, JSON document and words for people."""
    monkeypatch.setenv("ASAP_MODELS", str(models))

    def call(*words):
        code = run_line([str(word) for word in words])
        out, err = capfd.readouterr()
        return code, json.loads(out) if code == 0 else None, err

    return call


def test_engines_list_each_fine_tuned_model_once(run):
    told = {one["name"]: one for one in run("engines")[1]["engines"]}
    assert told["covid"]["task"] == "findings"
    assert told["covid"]["what"] == "fine-tuned classification of 2 labels on asap tiny"
    assert (told["lungs"]["task"], told["lungs"]["can_run"]) == ("organs", True)
    names = [one["name"] for one in run("engines")[1]["engines"]]
    assert len(set(names)) == len(names)


def test_findings_of_a_classifier_are_its_labels_with_places_in_the_patient(run, ct):
    _, told, _ = run("findings", ct, "--engine", "covid")
    assert [one["name"] for one in told["findings"]] == ["COVID", "Effusion"]
    assert "fine-tuned classification" in told["what"]
    image = nib.nifti1.load(ct)
    for one in told["findings"]:
        assert 0 <= one["probability"] <= 1
        at = np.linalg.inv(image.affine) @ [*one["peak_ras_mm"], 1]
        assert (at[:3] >= -0.5).all()
        assert (at[:3] <= np.array(image.shape) - 0.5).all()


def test_segment_writes_known_structures_on_the_ct_s_own_grid(run, ct, tmp_path):
    _, told, _ = run("segment", ct, "--engine", "lungs", "--out", tmp_path / "mask.nii.gz")
    mask, image = nib.nifti1.load(tmp_path / "mask.nii.gz"), nib.nifti1.load(ct)
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine)
    assert set(np.unique(mask.dataobj)) <= {0, BY_NAME["lung_left"].number, BY_NAME["esophagus"].number}
    assert told["engine"] == "lungs"
    assert any("tumour" in note for note in told["notes"])


def test_models_that_the_page_cannot_name_are_refused(models):
    settings = Settings(models=models, device="cpu")
    with pytest.raises(EngineError, match="None of the labels of strange"):
        open_segmenter("strange", settings)


def test_a_wrong_kind_of_engine_is_refused_in_one_line(run, ct, tmp_path):
    code, _, words = run("segment", ct, "--engine", "covid", "--out", tmp_path / "mask.nii.gz")
    assert code != 0
    assert "no organ engine 'covid'" in words
    code, _, words = run("findings", ct, "--engine", "lungs")
    assert code != 0
    assert "no engine 'lungs'" in words


def test_the_page_offers_a_fine_tuned_segmenter(models):
    services = Services(Settings(models=models, device="cpu"), VolumeServer())
    assert "lungs" in services.segmenter_names()
    assert "covid" not in services.segmenter_names()
    assert services.segmenter("lungs").name == "lungs"
    assert services.classifier_names() == ["covid"]
    assert services.classifier("covid") is services.classifier("covid")
    assert services.engine_names()[0] == "bundled"
