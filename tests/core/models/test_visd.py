"""ViSD-Boost's stages: what each trains, what it leaves alone, and what its read-outs are."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from core.errors import ConfigError
from core.models.checkpoint import config_from_json, config_to_json
from core.models.contrast import TemperatureConfig
from core.models.visd import TRAINED, VISD, rename_published
from core.models.visd_config import VISDConfig, mended, paper, released, tiny, tiny_vit, vit

FIRST_STAGES = ("contrast", "normality")


def draw_batch(config: VISDConfig, samples: int = 3) -> dict[str, Tensor]:
    """Boxes as organs in noise; organ o is brighter where it is abnormal. Axes (X, Y, Z)."""
    draws = torch.Generator().manual_seed(0)
    organs = len(config.organs)
    x, y, z = config.image_size
    mask = torch.zeros(samples, x, y, z, dtype=torch.uint8)
    for organ in range(organs):
        left = 1 + organ * (x - 2) // organs
        mask[:, left : left + (x - 2) // organs, 2 : y - 2, 2 : z - 2] = organ + 1
    abnormal = torch.zeros(samples, organs, dtype=torch.int8)
    abnormal[0, 0], abnormal[1, -1], abnormal[2, 1] = 1, -1, 1
    texts = 5 + torch.arange(samples * organs).reshape(samples, organs)
    return {
        "image": torch.rand(samples, 1, x, y, z, generator=draws),
        "image_v2": torch.rand(samples, 1, x, y, z, generator=draws),
        "organ_mask": mask,
        "organ_mask_v2": mask,
        "organ_abnormal": abnormal,
        "organ_text_id": texts,
        "organ_ids": torch.stack([torch.full_like(texts, 1), texts, torch.full_like(texts, 2)], dim=-1),
        "organ_attn": torch.ones(samples, organs, 3, dtype=torch.bool),
    }


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small operations are faster so, the more the machine has to do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[tiny, tiny_vit])
def model(request) -> VISD:
    torch.manual_seed(0)
    return VISD(request.param(30)).train()


@pytest.fixture
def batch(model) -> dict[str, Tensor]:
    return draw_batch(model.config)


def trained_parts(model: VISD) -> set[str]:
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


# ---------------------------------------------------------------------- stages


@pytest.mark.parametrize("stage", list(TRAINED))
def test_a_stage_trains_its_own_parts_and_no_other(model, batch, stage):
    model.set_stage(stage)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = model(batch)
    losses["total"].backward()
    torch.testing.assert_close(losses["total"], sum(v for k, v in losses.items() if k != "total"))
    found = trained_parts(model)
    assert found
    assert all(name.startswith(TRAINED[stage]) for name in found)
    assert {name.split(".")[0] for name in found} == {start.split(".")[0] for start in TRAINED[stage]}
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = tuple(part + "." for part in ("visual_encoder", "normality", "text_encoder", "pool"))
    assert not [n for n in moved if n.startswith(frozen) and not n.startswith(TRAINED[stage])]


def test_no_gradient_reaches_the_encoder_in_stage_2_nor_the_normality_model_in_stage_3(model, batch):
    """Even if nothing were frozen: the loss does not depend on those weights, or only by what is cut off."""
    for stage, kept_out in (("normality", "visual_encoder."), ("alignment", "normality.")):
        model.set_stage(stage)
        model.requires_grad_(True)
        model.zero_grad(set_to_none=True)
        model(batch)["total"].backward()
        assert not [name for name in trained_parts(model) if name.startswith(kept_out)]


def test_stage_3_can_train_the_tokens_through_their_normal_version():
    batch, found = draw_batch(tiny(30)), []
    for through in (False, True):
        torch.manual_seed(0)
        model = VISD(replace(tiny(30), gradient_through_normal=through)).train()
        losses = model(batch)
        losses["total"].backward()
        assert not [name for name in trained_parts(model) if name.startswith("normality.")]
        found.append((losses["total"].detach(), model.visual_encoder.res_model.conv1.weight.grad))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert not torch.allclose(found[0][1], found[1][1], rtol=1e-3)


def test_only_known_normal_and_intact_organs_count_in_stage_2(model, batch):
    """The loss is the same when the unknown and the cut are called abnormal, and another without a normal organ."""
    model.set_stage("normality")
    model.normality.vq_layer.eval()
    batch["organ_mask"][2][batch["organ_mask"][2] == 4] = 0
    batch["organ_mask"][2, 0, 0, 0] = 4  # organ 4 of study 2 touches a face
    first = model(batch)["total"]

    counted = batch["organ_abnormal"] == 0
    counted[2, 3] = False
    batch["organ_abnormal"][:] = torch.where(counted, 0, 1)
    torch.testing.assert_close(model(batch)["total"], first)
    batch["organ_abnormal"][0, 1] = 1
    assert not torch.isclose(model(batch)["total"], first)


def test_no_normal_organ_is_no_loss(model, batch):
    model.set_stage("normality")
    batch["organ_abnormal"][:] = 1
    losses = model(batch)
    losses["total"].backward()
    assert float(losses["total"]) == 0
    assert not trained_parts(model)


@pytest.mark.parametrize("stage", list(TRAINED))
def test_organs_that_are_absent_never_make_nan(model, batch, stage):
    model.set_stage(stage)
    for mask in (batch["organ_mask"], batch["organ_mask_v2"]):
        mask[mask == 2] = 0
        mask[0] = 0
    losses = model(batch)
    losses["total"].backward()
    assert losses["total"].isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("stage", list(TRAINED))
def test_order_of_the_batch_does_not_matter(model, batch, stage):
    model.set_stage(stage)
    model.eval()
    order = [2, 0, 1]
    shuffled = {name: value[order] for name, value in batch.items()}
    torch.testing.assert_close(model(shuffled), model(batch), atol=1e-5, rtol=1e-5)


def test_every_organ_has_a_loss_in_stage_3_even_when_it_is_left_out(model, batch):
    """The same names on every process and in every step; organ 2 (esophagus) is normal in all studies."""
    losses = model(batch)
    assert set(losses) == {*model.config.organs, "total"}
    assert float(losses["esophagus"]) == 0
    assert float(losses["lung"]) > 0


def test_one_hot_targets_are_a_switch():
    batch, found = draw_batch(tiny(30)), []
    for normal_targets in (True, False):
        torch.manual_seed(0)
        config = replace(tiny(30), normal_targets=normal_targets, temperature=TemperatureConfig(0.002))
        found.append(VISD(config)(batch)["lung"])
    assert not torch.isclose(*found)


def test_unknown_stages_are_refused(model):
    with pytest.raises(ConfigError, match="expected one of contrast, normality, alignment"):
        model.set_stage("finetune")


# --------------------------------------------------------------------- teacher


def test_the_teacher_starts_as_the_encoder_and_follows_it_slowly(model, batch):
    model.set_stage("contrast")
    teacher, student = (next(part.visual_encoder.parameters()) for part in (model.teacher, model))
    assert torch.equal(teacher, student)
    start = student.detach().clone()
    with torch.no_grad():
        student += 1
    model.after_step()
    torch.testing.assert_close(teacher, start + (1 - model.config.momentum))
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_a_queue_belongs_to_the_teacher_and_fills_as_it_trains():
    torch.manual_seed(0)
    model, batch = VISD(replace(tiny_vit(30), queue=6)), draw_batch(tiny_vit(30))
    plain = set(model.state_dict())
    model.train()
    model.set_stage("contrast")
    first, again = (float(model(batch)["contrast"].detach()) for _ in range(2))
    assert int(model.teacher.queue.seen) == 2 * len(batch["image"])
    assert again > first, "more studies to be told from"
    assert any("queue" in name for name in model.state_dict())
    model.end_stage()
    assert set(model.state_dict()) == plain


def test_the_teacher_leaves_with_its_stage(model):
    plain = set(model.state_dict())
    model.set_stage("contrast")
    assert any(name.startswith("teacher.") for name in model.state_dict())
    model.set_stage("normality")
    model.after_step()
    assert set(model.state_dict()) == plain


# -------------------------------------------------------------------- read-outs


def test_anomalies_lie_inside_their_organ(model, batch):
    found = model.eval().anomaly_map(batch["image"], batch["organ_mask"])
    x, y, z = (n // s for n, s in zip(model.config.image_size, model.config.patch_size, strict=True))
    assert found.shape == (3, 4, x, y, z)
    left = batch["organ_mask"].clone()
    left[:, 32:] = 0  # the organs of the right half are gone
    shown = model.anomaly_map(batch["image"], left)
    assert shown[:, 3].eq(0).all()
    assert found[:, 3].gt(0).any()
    assert found.isfinite().all()


def test_vectors_have_unit_length_and_know_the_organ(model, batch):
    vectors = model.eval().organ_embed(batch)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3, 4))
    texts = model.embed_texts(batch["organ_ids"][0], batch["organ_attn"][0])
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(4))
    grid = tuple(n // s for n, s in zip(model.config.image_size, model.config.patch_size, strict=True))
    assert model.encode_patches(batch["image"]).shape[:-1] == (3, *grid)


# --------------------------------------------------------------------- published


def test_names_and_sizes_of_both_published_files(shared):
    with torch.device("meta"):
        model = VISD(released())
    layout = {}
    for name in ("visd_main", "visd_vqvae"):
        for line in (shared / f"specs/layouts/{name}.tsv").read_text().splitlines():
            if not line.startswith("#"):
                key, shape, _ = line.split("\t")
                layout[rename_published(key)] = shape
    layout.pop(None)  # position numbers
    own = {k: "x".join(map(str, v.shape)) or "scalar" for k, v in model.state_dict().items()}
    counters = {name for name in own if name.endswith("ema_dw.counter") or name.endswith("ema_cluster_size.counter")}
    assert {name: shape for name, shape in own.items() if name not in counters} == layout
    assert len(counters) == 2


def test_a_config_survives_its_file():
    for config in (released(), paper(), mended(), vit(), tiny(30), tiny_vit(30)):
        assert config_from_json(VISDConfig, config_to_json(config)) == config


@pytest.mark.parametrize("wrong", [{"organs": ()}, {"organs": ("lung", "lung")}, {"momentum": 1.0}, {"pool_heads": 3}])
def test_impossible_configs_are_refused(wrong):
    with pytest.raises(ConfigError):
        replace(tiny(30), **wrong)
