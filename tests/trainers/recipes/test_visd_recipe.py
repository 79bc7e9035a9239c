"""ViSD-Boost's recipe from a folder of eight small studies, through its stages, to a model that tells them apart."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from core.errors import ConfigError
from core.models.checkpoint import read_weights
from core.models.model_file import LoadedModel, load_model
from core.models.tokens import train_wordpiece
from core.models.visd import VISD
from core.models.visd_config import VISDConfig
from core.structures import BY_NAME
from trainers.batch import check_batch, collate
from trainers.pretrain import PretrainConfig, pretrain, read_options, run_stages
from trainers.recipes.visd import RECIPE, STAGES
from trainers.resume import WEIGHTS, latest_checkpoint
from trainers.run_files import MODEL
from trainers.run_log import LOG
from trainers.studies import StudiesRequest, open_studies
from trainers.synthetic import SyntheticConfig

FINDINGS = ["a nodule", "effusion", "emphysema", "a mass", "", "", "", ""]
BOXES = {
    "lung_upper_lobe_left": (slice(6, 28), slice(6, 58)),
    "heart": (slice(34, 58), slice(6, 30)),
    "esophagus": (slice(34, 44), slice(36, 58)),
    "aorta": (slice(48, 58), slice(36, 58)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Volumes of one crop, 64x64x32 voxels; a patch of its own density in the lung tells the finding."""
    root = tmp_path_factory.mktemp("studies")
    draws, affine = np.random.default_rng(0), np.diag([1.0, 1.0, 3.0, 1.0])
    texts = {}
    for number, finding in enumerate(FINDINGS):
        hu, labels = draws.integers(-1000, -900, (64, 64, 32)).astype(np.int16), np.zeros((64, 64, 32), np.uint8)
        for place, (name, box) in enumerate(BOXES.items()):
            labels[(*box, slice(4, 28))] = BY_NAME[name].number
            hu[(*box, slice(4, 28))] = -700 + 200 * place
        if finding:
            hu[8:26, 16:48, 8:24] = 300 - 250 * number
        for kind, array in (("volumes", hu), ("masks", labels)):
            (root / kind).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), root / kind / f"s{number}.nii.gz")
        texts[f"s{number}"] = {"lung": {"desc": "", "conc": finding}} if finding else {}
    (root / "organ_text.json").write_text(json.dumps(texts))
    rows = [f"s{number},{finding or 'normal'}.,lung heart" for number, finding in enumerate(FINDINGS)]
    (root / "reports.csv").write_text("\n".join(["study_id,findings,impression", *rows]))
    return root


@pytest.fixture(autouse=True)
def fresh_accelerator():
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)


def a_run(folder: Path, out: Path, *options: str) -> PretrainConfig:
    start = ["--recipe", "visd", "--preset", "visd_tiny", "--data", str(folder), "--out", str(out), "--loop.cpu"]
    return read_options([*start, "--split.val-share", "0", *options])


def losses_of(run: Path, stage: str) -> list[dict[str, float]]:
    return [json.loads(line)["losses"] for line in (run / stage / LOG).read_text().splitlines()]


def items(folder: Path, config: PretrainConfig, loaded: LoadedModel) -> dict:
    """All eight studies as one batch."""
    request = StudiesRequest(str(folder), config.view, config.reports, SyntheticConfig(), config.out, config.split)
    studies = open_studies(request, RECIPE, STAGES, loaded.model.config, loaded.tokenizer).train
    return collate([studies[index] for index in range(len(studies))])


@pytest.mark.training
@pytest.mark.parametrize("preset", ["visd_tiny", "visd_tiny_vit"])
def test_eight_studies_are_learned_through_all_stages(folder, tmp_path, preset):
    config = a_run(folder, tmp_path, "--preset", preset)
    loaded = load_model(pretrain(config), "visd", VISDConfig, VISD)
    for stage in STAGES:
        entries = losses_of(tmp_path, stage.name)
        assert entries[-1]["total"] < entries[0]["total"]
    aligned = losses_of(tmp_path, "alignment")
    assert set(aligned[0]) == {"lung", "heart", "esophagus", "aorta", "total"}
    assert all(entry["heart"] == entry["aorta"] == 0 for entry in aligned)  # normal in all studies
    assert aligned[-1]["lung"] < math.log(4) / 2 + 0.15  # four equal texts among eight leave ln 4 / 2
    batch = items(folder, config, loaded)
    with torch.no_grad():
        lungs = loaded.model.organ_embed(batch)[:, 0]
        texts = loaded.model.embed_texts(batch["organ_ids"][:, 0], batch["organ_attn"][:, 0])
    nearest = (lungs @ texts.T).argmax(dim=1)
    assert nearest[:4].tolist() == [0, 1, 2, 3]
    assert nearest[4:].ge(4).all()
    if preset == "visd_tiny":  # as stage 2 left it; the encoder moves on in stage 3
        loaded.model.load_state_dict(read_weights(latest_checkpoint(tmp_path / "normality") / WEIGHTS)[0])
        worst = loaded.model.anomaly_map(batch["image"], batch["organ_mask"])[:, 0].flatten(1).amax(dim=1)
        assert worst[:4].min() > worst[4:].max()


@pytest.mark.training
def test_a_stopped_stage_goes_on_with_its_teacher_bit_for_bit(folder, tmp_path):
    """Stage 1 of 4 steps, its second half done again from the checkpoint in the middle."""
    options = ("--loop.optim.steps", "8", "--loop.optim.warmup-steps", "1", "--loop.checkpoint-every", "2")
    pretrain(a_run(folder, tmp_path, *options))
    middle, last = sorted((tmp_path / "contrast").glob("step-*"))
    expected = read_weights(last / WEIGHTS)[0]
    assert any(name.startswith("teacher.") for name in expected)
    shutil.rmtree(last)
    for later in ("normality", "alignment"):
        shutil.rmtree(tmp_path / later)
    (tmp_path / MODEL).unlink()
    AcceleratorState._reset_state(reset_partial_state=True)
    pretrain(a_run(folder, tmp_path, *options))
    found = read_weights(last / WEIGHTS)[0]
    assert middle.name < last.name
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.training
def test_a_run_that_ends_before_the_last_stage_leaves_a_model_that_opens(folder, tmp_path):
    """Without the teacher of stage 1, with the weights that its encoder ended with."""
    short = ("--loop.optim.steps", "4", "--loop.optim.warmup-steps", "1", "--stages", "contrast")
    loaded = load_model(pretrain(a_run(folder, tmp_path, *short)), "visd", VISDConfig, VISD)
    kept = read_weights(latest_checkpoint(tmp_path / "contrast") / WEIGHTS)[0]
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert not (tmp_path / "alignment").exists()
    begun = replace(STAGES[2], init_from="contrast", length=0.5)
    recipe = replace(RECIPE, presets={"tiny": replace(RECIPE.preset("tiny"), stages=(STAGES[0], begun))})
    config = replace(a_run(folder, tmp_path, *short), preset="tiny", stages=("alignment",))
    request = StudiesRequest(str(folder), config.view, config.reports, SyntheticConfig(), config.out, config.split)
    sets = open_studies(request, recipe, (begun,), loaded.model.config, loaded.tokenizer)
    model = VISD(loaded.model.config)
    model.set_stage("contrast")
    run_stages(model, sets, recipe, config)
    assert model.teacher is None
    with pytest.raises(ConfigError, match="no stage 'contrst'; expected some of contrast, normality, alignment"):
        pretrain(a_run(folder, tmp_path / "other", "--stages", "contrst"))


def test_a_stage_reads_only_what_it_needs(folder, tmp_path):
    config = a_run(folder, tmp_path)
    tokenizer = train_wordpiece(FINDINGS, 100)
    model = RECIPE.config("tiny", tokenizer.vocab_size)
    request = StudiesRequest(str(folder), config.view, config.reports, SyntheticConfig(), tmp_path, config.split)
    studies = open_studies(request, RECIPE, STAGES, model, tokenizer).train
    for stage in STAGES:
        studies.want(stage.requires)
        batch = collate([studies[0], studies[1]])
        check_batch(batch, stage.requires)
        assert ("image_v2" in batch) == (stage.name == "contrast")
