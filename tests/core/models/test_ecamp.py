from dataclasses import replace

import pytest
import torch
from ecamp_golden import flat_batch, flat_config, flat_model, load_ecamp
from torch import Tensor

from core.errors import ConfigError
from core.models.bert import BertConfig
from core.models.checkpoint import config_from_json, config_to_json
from core.models.ecamp import ECAMP, place_windows
from core.models.ecamp_config import (
    ECAMPConfig,
    ECAMPWeights,
    SuperResolutionConfig,
    ecamp_paper,
    ecamp_released,
    ecamp_tiny,
)
from core.models.ecamp_names import published_names, published_weights, volume_name
from core.models.losses import weighted_language_loss
from core.models.mae import patchify
from core.models.super_resolution import enlarge_patch_kernel
from core.models.vit import VisionConfig, VisionTransformer3d

WORDS = 60


def a_batch(config: ECAMPConfig, count: int = 2, tokens: int = 20) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(5, WORDS, (count, tokens), generator=generator)
    hidden = torch.rand(count, tokens, generator=generator) < 0.5
    hidden[:, 0] = False
    batch = {
        "image": torch.rand(count, 1, *config.image_size, generator=generator) * 2 - 1,
        "report_ids": ids,
        "report_attn": torch.ones(count, tokens, dtype=torch.bool),
        "report_entity": torch.arange(tokens).expand(count, -1) == 4,
        "mlm_in": torch.where(hidden, 4, ids),
        "mlm_labels": torch.where(hidden, ids, -100),
        "mlm_weight": torch.rand(count, tokens, generator=generator),
        "sr_corner": torch.tensor([[0, 1, 1], [1, 0, 0]])[:count],
    }
    if config.sr.mode == "hires":
        size = [w * p * s for w, p, s in zip(config.window, config.vision.patch_size, config.sr.scale, strict=True)]
        batch["image_hr"] = torch.rand(count, 1, *size, generator=generator)
    return batch


def a_model(config: ECAMPConfig) -> ECAMP:
    torch.manual_seed(0)
    return ECAMP(config).eval()


def run(config: ECAMPConfig, batch: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    batch = a_batch(config) if batch is None else batch
    noise = torch.rand(len(batch["image"]), config.vision.patches, generator=torch.Generator().manual_seed(1))
    return a_model(config)(batch, noise)


HIRES = replace(ecamp_tiny(WORDS), sr=SuperResolutionConfig(mode="hires", window=2))
CXRBERT = replace(ecamp_tiny(WORDS), text_in="cxrbert", text=BertConfig(WORDS, 24, 1, 2, 48, 64, 0.0, 0.0))
RELEASED = replace(
    ecamp_tiny(WORDS), mim_norm="all", language_on="all",
    sr=SuperResolutionConfig(window=3, norm="all", ends_in_relu=True),
)  # fmt: skip


@pytest.mark.parametrize("config", [ecamp_tiny(WORDS), HIRES, CXRBERT, RELEASED])
def test_every_trainable_weight_learns(config):
    model, batch = a_model(config), a_batch(config)
    losses = model(batch)
    assert set(losses) == {"reconstruction", "super_resolution", "language", "total"}
    losses["total"].backward()
    assert losses["total"].item() == pytest.approx(sum(losses[name].item() for name in losses if name != "total"))
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert bool(frozen) == (config.text_in == "cxrbert")
    assert all(name.startswith("bert_encoder.") for name in frozen)


def test_the_window_alone_is_sharpened():
    """The error's gradient is zero outside the window but for the two voxels that its edge is made from."""
    config = ecamp_tiny(WORDS)
    model, batch = a_model(config), a_batch(config)
    predicted = torch.randn(2, config.vision.patches, config.vision.patch_voxels, requires_grad=True)
    model._super_resolution_loss(batch, predicted).backward()
    touched = torch.zeros(2, *config.vision.image_size, dtype=torch.bool)
    for one, corner in zip(touched, batch["sr_corner"].tolist(), strict=True):
        x, y, z = (
            slice(max(0, c * p - 2), (c + w) * p + 2)
            for c, p, w in zip(corner, config.vision.patch_size, config.window, strict=True)
        )
        one[x, y, z] = True
    inside = patchify(touched[:, None].float(), config.vision.patch_size) > 0
    assert predicted.grad is not None
    assert predicted.grad[~inside].abs().max() == 0
    assert (predicted.grad[inside] != 0).float().mean() > 0.8


def test_target_outside_the_window_does_not_matter():
    config = replace(ecamp_tiny(WORDS), weights=ECAMPWeights(0, 1, 0))
    model, batch = a_model(config), a_batch(config, count=1)
    predicted = torch.randn(1, config.vision.patches, config.vision.patch_voxels)
    before = model._super_resolution_loss(batch, predicted)
    other = batch | {"image": batch["image"].clone()}
    other["image"][:, :, :, :8] = 9  # the window begins at patch 1 along y, voxel 8
    assert torch.equal(before, model._super_resolution_loss(other, predicted))
    other["image"][:, :, :, 8] = 9
    assert model._super_resolution_loss(other, predicted) > before


def test_both_ways_to_divide_the_errors():
    """Window 3 of 4 patches per axis is 27/64 of the volume; 3/4 of the patches are hidden."""
    plain = ecamp_tiny(WORDS)
    mended, released = run(plain), run(replace(plain, mim_norm="all", sr=replace(plain.sr, norm="all")))
    assert released["super_resolution"].item() == pytest.approx(27 / 64 * mended["super_resolution"].item(), rel=1e-5)
    assert released["reconstruction"].item() == pytest.approx(0.75 * mended["reconstruction"].item(), rel=1e-5)


def test_weighted_words_by_hand():
    logits, labels = torch.tensor([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0]]), torch.tensor([0, 1, 1])
    weights = torch.tensor([1.0, 3.0, 0.0])
    by_hand = (1 * 0.693147 + 3 * 0.313262) / 4
    assert weighted_language_loss(logits, labels, weights).item() == pytest.approx(by_hand, abs=1e-5)
    assert weighted_language_loss(logits[:0], labels[:0], weights[:0]).item() == 0


@pytest.mark.parametrize("config", [ecamp_tiny(WORDS), RELEASED])
def test_padding_changes_no_loss(config):
    batch = a_batch(config)
    grown = dict(batch)
    for name, value in (
        ("report_ids", 0),
        ("report_attn", False),
        ("mlm_in", 0),
        ("mlm_labels", -100),
        ("mlm_weight", 0),
    ):
        grown[name] = torch.nn.functional.pad(batch[name], (0, 7), value=value)
    for name, value in run(config, batch).items():
        assert run(config, grown)[name].item() == pytest.approx(value.item(), rel=1e-5)


def test_order_of_the_batch_does_not_matter():
    config = ecamp_tiny(WORDS)
    batch, noise = a_batch(config), torch.rand(2, config.vision.patches)
    model = a_model(config)
    swapped = model({name: value.flip(0) for name, value in batch.items()}, noise.flip(0))
    for name, value in model(batch, noise).items():
        assert swapped[name].item() == pytest.approx(value.item(), rel=1e-5)


def test_a_term_without_weight_is_not_computed():
    config = replace(ecamp_tiny(WORDS), weights=ECAMPWeights(1, 0, 0))
    batch = {"image": a_batch(config)["image"]}
    assert set(a_model(config)(batch)) == {"reconstruction", "total"}


def test_windows_are_placed_where_words_look():
    looks = torch.zeros(3, 4, 4, 4)
    looks[0, 3, 0, 2] = 1
    looks[1, 1, 1, 1] = looks[1, 2, 2, 2] = 1
    corners = place_windows(looks, (2, 2, 1)).tolist()
    assert corners[0] == [2, 0, 2]
    assert corners[1][0] in (0, 1)
    assert corners[2] == [1, 1, 1]  # nowhere: the middle of 3 x 3 x 4 places


def test_the_window_follows_the_attention():
    """A window of one patch is the most looked-at patch; a text without an entity looks nowhere."""
    config = replace(ecamp_tiny(WORDS), sr=SuperResolutionConfig(window=1))
    model, batch = a_model(config), a_batch(config)
    batch["report_entity"][1] = False
    looks = model.attend_entities(batch)
    assert looks.shape == (2, 4, 4, 4)
    assert looks[1].abs().max() == 0
    best = looks[0].flatten().argmax()
    expected = [int(n) for n in torch.unravel_index(best, (4, 4, 4))]
    assert model.find_windows(batch).tolist() == [expected, [1, 1, 1]]
    batch["report_entity"] = batch["report_entity"].roll(3, dims=1)
    assert (model.attend_entities(batch)[0] - looks[0]).abs().max() > 1e-6


def test_an_encoder_of_shrunken_images_reads_whole_ones():
    """With the enlarged kernel a plain encoder of the full grid gives the same tokens."""
    config = ecamp_tiny(WORDS)
    model, images = a_model(config), a_batch(config)["image"]
    whole = VisionTransformer3d(replace(config.vision, image_size=config.image_size, patch_size=config.image_patch))
    weights = {name: value for name, value in model.state_dict().items() if name in whole.state_dict()}
    weights["patch_embed.proj.weight"] = enlarge_patch_kernel(weights["patch_embed.proj.weight"], config.sr.scale)
    whole.eval().load_state_dict(weights)
    torch.testing.assert_close(whole.encode_patches(images), model.encode_patches(images), atol=1e-5, rtol=1e-4)


def test_zero_shot_is_refused():
    model = a_model(ecamp_tiny(WORDS))
    for ask in (model.embed_texts, model.embed_sentences, model.image_embed, model.organ_embed, model.tag_logits):
        with pytest.raises(ConfigError, match="not defined for this recipe"):
            ask(torch.zeros(1))


@pytest.mark.parametrize("config", [ecamp_paper(), ecamp_released(), HIRES, CXRBERT])
def test_config_survives_json(config):
    assert config_from_json(ECAMPConfig, config_to_json(config)) == config


def test_presets_keep_the_grid_and_crop_of_asap():
    for config in (ecamp_paper(), ecamp_released()):
        assert (config.image_size, config.vision.grid, config.image_patch) == (
            (224, 224, 112),
            (14, 14, 14),
            (16, 16, 8),
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"mask_ratio": 1.0},
        {"vision": VisionConfig((16, 16, 8), (4, 4, 2), width=24, depth=1, heads=2)},
        {"text_in": "cxrbert", "text": BertConfig(WORDS + 1)},
        {"report": replace(ecamp_tiny(WORDS).report, positions=64)},
    ],
)
def test_impossible_configs_are_refused(wrong):
    with pytest.raises(ConfigError):
        replace(ecamp_tiny(WORDS), **wrong)


@pytest.mark.parametrize(
    "wrong", [{"scale": (2, 2, 0)}, {"window": 0}, {"momentum": 1.0}, {"shrink": "bicubic"}, {"refresh_epochs": 0}]
)
def test_impossible_super_resolution_is_refused(wrong):
    with pytest.raises(ConfigError):
        SuperResolutionConfig(**wrong)


def test_published_layout_at_full_size(shared):
    """Every name and shape of the published checkpoint has its place; only the pooler and position ids have none."""
    lines = (shared / "specs" / "layouts" / "ecamp_model.tsv").read_text().splitlines()
    layout = {
        name: tuple(int(n) for n in shape.split("x")) for name, shape, _ in (x.split("\t") for x in lines if "\t" in x)
    }
    words, width = layout["bert_encoder.model.bert.embeddings.word_embeddings.weight"]
    positions = layout["bert_encoder.model.bert.embeddings.position_embeddings.weight"][0]
    plain = ecamp_paper()
    config = replace(
        plain,
        vision=VisionConfig((224, 224, 1), (16, 16, 1), width, channels=3, coded_axes=(1, 0), slow_positions=True),
        decoder=replace(plain.decoder, width=layout["mask_token"][2]),
        report=replace(plain.report, vocab_size=words, positions=positions),
        task=replace(plain.task, max_tokens=positions),
        sr=SuperResolutionConfig(scale=(2, 2, 1), shrink="bicubic", norm="all", ends_in_relu=True),
    )
    with torch.device("meta"):
        model = ECAMP(config)
        published = published_weights({name: torch.empty(shape) for name, shape in layout.items()})
    assert {name: value.shape for name, value in published.items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }
    left_out = [name for name in layout if published_names(name) is None]
    assert sorted(name.split("bert.")[1] for name in left_out) == [
        "embeddings.position_ids", "pooler.dense.bias", "pooler.dense.weight",
    ]  # fmt: skip


def test_older_files_name_the_fusion_layer_otherwise():
    new, old = (
        f"bert_encoder.model.bert.{layer}.gap_mlp.bias" for layer in ("context_fusion_layer", "cross_attn_layer")
    )
    assert published_names(old) == published_names(new) == "bert_decoder.bert.fusion_layer.gap_mlp.bias"


def test_pictures_to_volumes_skips_exactly_what_depends_on_them(fixtures):
    golden = load_ecamp(fixtures)
    kept = {ours: value for name, value in golden.weights.items() if (ours := volume_name(name)) is not None}
    skipped = [name for name in golden.weights if volume_name(name) is None]
    starts = {name.split(".")[0] for name in skipped if not name.startswith("bert_encoder.")}
    assert starts == {
        "cls_token", "pos_embed", "mask_token", "decoder_pos_embed", "patch_embed", "decoder_embed", "decoder_blocks",
        "decoder_norm", "decoder_pred", "super_res",
    }  # fmt: skip
    text = {name.removeprefix("bert_encoder.model.") for name in skipped if name.startswith("bert_encoder.")}
    assert {name.rsplit(".", 1)[0] for name in text} == {
        "bert.embeddings.word_embeddings", "bert.embeddings.position_embeddings", "bert.embeddings.LayerNorm",
        "bert.embeddings.token_type_embeddings", "bert.pooler.dense", "cls.predictions.decoder", "cls.predictions",
    }  # fmt: skip
    assert len(kept) + len(skipped) == len(golden.weights)
    flat = flat_config(golden)
    plain = VisionConfig((16, 16, 8), (4, 4, 2))
    like = ("channels", "coded_axes", "slow_positions")
    vision = replace(
        flat.vision, image_size=plain.image_size, patch_size=plain.patch_size, **{n: getattr(plain, n) for n in like}
    )
    task = replace(flat.task, max_tokens=flat.report.positions)
    volumes = ECAMP(replace(ecamp_tiny(WORDS), vision=vision, report=flat.report, task=task))
    missing, unexpected = volumes.load_state_dict(kept, strict=False)
    assert unexpected == []
    assert torch.equal(volumes.blocks[0].attn.qkv.weight, golden.weights["blocks.0.attn.qkv.weight"])
    assert not any(name.startswith(("blocks.", "norm.", "bert_decoder.bert.")) for name in missing)


def test_flat_pictures_go_through_the_same_code(fixtures):
    """The published network also gives windows and tokens, two-dimensional ones."""
    golden = load_ecamp(fixtures)
    model, batch = flat_model(golden), flat_batch(golden)
    batch["report_entity"] = batch["report_attn"]
    assert model.encode_patches(batch["image"]).shape[1:4] == model.vision.grid
    corners = model.find_windows(batch)
    assert corners[:, 2].abs().max() == 0
    assert bool((corners[:, 0] <= model.vision.grid[0] - golden.about["window"]).all())
