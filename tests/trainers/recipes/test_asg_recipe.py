"""ASG on a data folder: what it reads, what it refuses, and that it learns eight studies."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from core.errors import ConfigError
from core.models.asg import ASG
from core.models.asg_config import ASGConfig
from core.models.asg_losses import retrieval_accuracy
from core.models.model_file import load_model
from core.models.organ_pool import organ_fractions
from core.organ_map import ORGAN_MAPS
from core.structures import BY_NAME
from trainers.batch import check_batch, collate
from trainers.loop import LoopConfig
from trainers.optim import OptimConfig
from trainers.pretrain import PretrainConfig, pretrain
from trainers.recipes import find_recipe
from trainers.recipes.asg import REQUIRES, find_sentences
from trainers.studies import StudiesRequest, open_studies
from trainers.synthetic import SyntheticConfig

RECIPE = find_recipe("asg")
TINY = RECIPE.preset("asg_tiny")
VIEW = replace(TINY.view, spacing_mm=(1.0, 1.0, 1.0), smallest_crop=1.0)
ORGANS = {"heart": (8, 8), "liver": (20, 8), "esophagus": (8, 20)}
FINDINGS = {"heart": "cardiomegaly", "liver": "hepatic steatosis", "esophagus": "wall thickening"}
TEXTS = {
    "heart": ("The heart is of normal size.", "Cardiomegaly is seen."),
    "liver": ("The liver is of normal density.", "The liver shows steatosis."),
    "esophagus": ("The wall of the esophagus is thin.", "The wall of the esophagus is thickened."),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight studies: three organs, each bright where its finding is present, in all combinations."""
    root = tmp_path_factory.mktemp("asg")
    reports, triplets = ["study_id,findings,impression"], ["study_id,region_path,finding,existence,sentence_idx"]
    for study in range(8):
        hu, labels = np.full((32, 32, 16), -900, np.int16), np.zeros((32, 32, 16), np.uint8)
        sentences = []
        for place, (organ, (x, y)) in enumerate(ORGANS.items()):
            is_ill = study >> place & 1
            box = (slice(x - 6, x + 6), slice(y - 6, y + 6), slice(3, 13))
            hu[box], labels[box] = 800 if is_ill else 0, BY_NAME[organ].number
            sentences.append(TEXTS[organ][is_ill])
            triplets.append(f"s{study},{organ},{FINDINGS[organ]},{is_ill},{place + 1}")
        for kind, array in (("volumes", hu), ("masks", labels)):
            (root / kind).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / kind / f"s{study}.nii.gz")
        reports.append(f"s{study},{' '.join(sentences)},")
    (root / "reports.csv").write_text("\n".join(reports) + "\n")
    (root / "triplets.csv").write_text("\n".join(triplets) + "\n")
    return root


def config_of(folder: Path, out: Path, steps: int, **changes: object) -> PretrainConfig:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    optim = replace(TINY.loop.optim, steps=steps, warmup_steps=min(TINY.loop.optim.warmup_steps, steps - 1))
    loop = replace(TINY.loop, optim=optim, cpu=True, checkpoint_every=steps)
    config = PretrainConfig(out, "asg", "asg_tiny", str(folder), loop=loop, view=VIEW, reports=TINY.reports)
    return replace(config, **changes)


def items(folder: Path, out: Path, loaded) -> dict:
    request = StudiesRequest(str(folder), VIEW, TINY.reports, SyntheticConfig(), out)
    studies = open_studies(request, RECIPE, TINY.stages, loaded.model.config, loaded.tokenizer).train
    return collate([studies[index] for index in range(len(studies))])


@pytest.mark.training
def test_it_learns_eight_studies(folder, tmp_path):
    loaded = load_model(pretrain(config_of(folder, tmp_path, TINY.loop.optim.steps)), "asg", ASGConfig, ASG)
    batch = items(folder, tmp_path, loaded)
    check_batch(batch, REQUIRES)
    model = loaded.model
    present = model.tag_logits(batch["image"]) > 0
    assert torch.equal(present, batch["tags"] == 1)
    study = model.image_embed(batch["image"])
    scores = study @ model.embed_texts(batch["report_ids"], batch["report_attn"]).T
    assert retrieval_accuracy(scores, 1).item() == 100
    heat = find_sentences(model, batch)
    assert heat.shape == (3, 4, 4, 4)
    inside = organ_fractions(batch["organ_mask"][:1], model.config.organs, model.config.vision.patch_size)[0]
    for sentence, organ in zip(heat.flatten(1), ORGANS, strict=True):
        share = inside[ORGAN_MAPS["asg"].id_of(organ) - 1]
        assert (sentence * share).sum() / share.sum() > sentence.mean() + 0.1
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["losses"]["total"] < 0.25 * log[0]["losses"]["total"]
    pieces = loaded.tokenizer.continuations()
    assert torch.equal(model.text_encoder_q.continues[: len(pieces)], pieces)


def test_a_folder_that_lacks_triplets_or_their_organs_is_refused(folder, tmp_path):
    bare = tmp_path / "data"
    bare.mkdir()
    for name in ("volumes", "masks", "reports.csv"):
        (bare / name).symlink_to(folder / name)
    with pytest.raises(ConfigError, match="trainers.builders triplets"):
        pretrain(config_of(bare, tmp_path / "run", 2))
    with pytest.raises(ConfigError, match="22 organs, the model 18"):
        pretrain(config_of(folder, tmp_path / "run", 2, view=replace(VIEW, organ_map="asg_lobes")))
    with pytest.raises(ConfigError, match="as_released"):
        pretrain(config_of(folder, tmp_path / "run", 2, reports=replace(TINY.reports, as_released=True)))


def test_presets_differ_in_what_the_text_and_the_code_do_differently():
    code, text = (RECIPE.config(name, 100) for name in ("asg_released", "asg_paper"))
    assert (code.heads.norm, code.gather, code.shared_sentence) == ("batch", "none", "hard")
    assert (text.heads.norm, text.gather, text.shared_sentence) == ("sync", "full_grad", "soft")
    assert not any(vars(code.fixes).values())
    assert all(vars(text.fixes).values())
    assert vars(code.weights) == vars(text.weights) == {"ira": 1, "arsa": 1, "irl": 5, "erl": 1}
    assert (code.temperature, code.tag_share, code.heads.embed, code.text.depth) == (0.07, 0.2, 128, 6)
    loop: LoopConfig = RECIPE.preset("released").loop
    optim: OptimConfig = loop.optim
    assert (optim.peak_lr, optim.warmup_share, optim.floor_lr, optim.epochs) == (4e-5, 0.4, 1e-8, 50)
    assert optim.decay_all


def test_the_published_tag_decoder_has_its_published_size():
    """25,218,305 weights (ASG spec 4), whatever encoder stands before it."""
    config = RECIPE.config("asg_paper", 100)
    with torch.device("meta"):
        decoder = ASG(config).irl
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 25_218_305
