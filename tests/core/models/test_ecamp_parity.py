"""Every golden tensor of the published ECAMP network, stage by stage; sizes and names come from the fixture's JSON."""

from pathlib import Path
from typing import Any

import pytest
import torch
from asap_golden import check_gradient_norms
from ecamp_golden import EcampGolden, flat_batch, flat_model, load_ecamp
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from core.models.ecamp import ECAMP
from core.models.ecamp_names import published_names
from core.models.mae import unpatchify
from core.models.super_resolution import shrink_images


class Run:
    """The published network through our model, with the inner outputs that the fixture stores."""

    def __init__(self, golden: EcampGolden) -> None:
        self.golden, self.batch, self.model = golden, flat_batch(golden), flat_model(golden)
        self.noise = golden.inputs["masking_noise"]
        self.encoded = self.model.encode_visible(
            self.model.shrink(self.batch["image"]), self.noise, self.model.config.mask_ratio
        )
        self.checked: set[str] = set()

    def checks(self, **values: Tensor) -> None:
        """Compare with what is stored, of the studies that are stored."""
        for name, value in values.items():
            self.golden.check(name, value[: len(self.golden.expected[name])] if value.ndim else value)
            self.checked.add(name)


@pytest.fixture(scope="module")
def run(fixtures: Path) -> Run:
    return Run(load_ecamp(fixtures))


def flat(images: Tensor) -> Tensor:
    """A picture without its one voxel of depth."""
    return images[..., 0]


def test_position_tables_are_the_released_formula(run: Run):
    """The tables are part of the published weights; ours are computed, with the defect of section 9.8."""
    plain = ECAMP(run.model.config)
    for name in ("pos_embed", "decoder_pos_embed"):
        torch.testing.assert_close(getattr(plain, name), run.golden.weights[name], atol=1e-6, rtol=0)


def test_every_stored_tensor(run: Run):
    model, batch, masking = run.model, run.batch, run.encoded.masking
    images = batch["image"]
    run.checks(
        image_low=flat(model.shrink(images)),
        image_low_antialias=flat(shrink_images(images, model.config.sr.scale, "bicubic_antialias")),
        patch_embed=rearrange(model.patch_embed(model.shrink(images)), "b d x y z -> b (x y z) d"),
        ids_keep=masking.keep,
        ids_restore=masking.restore,
        patch_hidden_mask=masking.hidden,
        latent=run.encoded.tokens,
    )
    predicted = unpatchify(model.decode_voxels(run.encoded), model.vision.patch_size, model.vision.grid)
    run.checks(pred_image=flat(predicted), sr_image=flat(model.super_res(predicted)), sr_window=windows(run))
    words = model.embed_words(batch["mlm_in"], batch["report_attn"])
    memory, overview = model.visual_memory(run.encoded)
    layer = model.bert_decoder.bert.fusion_layer
    alone = layer.attention(words, batch["report_attn"])
    run.checks(
        fusion_text_in=words,
        fusion_memory=memory,
        fusion_global_token=overview,
        fusion_self_out=alone,
        fusion_cross_context=layer.cross_self_attention(alone, memory),
        fusion_out=layer(words, batch["report_attn"], memory, overview),
        mlm_logits=model.bert_decoder.cls(model.fuse(batch, run.encoded)),
    )
    losses = model(batch, run.noise)
    run.checks(mim_loss=losses["reconstruction"], sr_loss=losses["super_resolution"], mlm_loss=losses["language"])
    assert run.checked == set(run.golden.expected) == set(run.golden.about["expected"])


def windows(run: Run) -> Tensor:
    """Which patches our loss judges: the window's corner and size as 0 and 1 over the grid (B, gx, gy)."""
    size, marked = run.model.config.window, torch.zeros(len(run.noise), *run.model.vision.grid)
    for one, (x, y, z) in zip(marked, run.batch["sr_corner"].tolist(), strict=True):
        one[x : x + size[0], y : y + size[1], z : z + size[2]] = 1
    return flat(marked)


def test_losses(run: Run):
    """To the tighter tolerance of losses, and the window's against the whole sharp image."""
    limits, told = run.golden.about["tolerance"]["losses"], run.golden.about["scalars"]
    losses = run.model(run.batch, run.noise)
    names = (("mim_loss", "reconstruction"), ("sr_loss", "super_resolution"), ("mlm_loss", "language"))
    for name, ours in names:
        assert losses[ours].item() == pytest.approx(told[name], abs=limits["atol"], rel=limits["rtol"])
    assert losses["total"].item() == pytest.approx(
        sum(told[name] for name, _ in names), abs=3 * limits["atol"], rel=limits["rtol"]
    )
    predicted = unpatchify(run.model.decode_voxels(run.encoded), run.model.vision.patch_size, run.model.vision.grid)
    scale = run.batch["image"].shape[2] // run.model.vision.grid[0]
    inside = windows(run).repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)[:, None, ..., None]
    gap = (run.model.super_res(predicted) - run.batch["image"]) * inside
    assert gap.square().mean().item() == pytest.approx(told["sr_loss"], rel=1e-4)


def test_gradients(run: Run):
    """Of every parameter, under its published name; those that the published code leaves without one do not exist."""
    model, about = run.model, run.golden.about["gradients"]
    model.zero_grad()
    model(run.batch, run.noise)["total"].backward()
    ours: dict[str, Any] = dict(model.named_parameters(remove_duplicate=False))  # one bias has two names
    assert [name for name in about["without_gradient"] if published_names(name) is not None] == []
    by_published = {name: ours[published_names(name)] for name in about["norms"]}
    assert {id(parameter) for parameter in by_published.values()} == {id(parameter) for parameter in ours.values()}
    check_gradient_norms(
        {name: parameter.grad for name, parameter in by_published.items()},
        about["norms"],
        run.golden.about["tolerance"]["gradients"]["rtol"],
    )
    limits = run.golden.about["tolerance"]["gradients"]
    assert set(run.golden.gradients) == set(about["stored"])
    for name, stored in run.golden.gradients.items():
        got, want = by_published[name].grad.reshape(stored.shape), stored.float()
        atol = limits["atol_relative_to_max"] * float(want.abs().max())
        torch.testing.assert_close(got, want, rtol=limits["rtol"], atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def test_attention_map_is_the_published_layers(run: Run):
    """Nothing stores it; computed once more by hand from queries and keys of one study."""
    model, batch = run.model, dict(run.batch)
    batch["report_entity"] = torch.zeros_like(batch["report_attn"])
    batch["report_entity"][:, 3:5] = True
    looks = model.attend_entities(batch)
    layer, width = model.bert_decoder.bert.fusion_layer, model.config.report.width
    with torch.no_grad():
        memory = model.bert_mlp(model.encode_patches(batch["image"]).flatten(1, 3))[0]
        words = layer.attention(model.embed_words(batch["report_ids"], batch["report_attn"]), batch["report_attn"])
        query, key = layer.cross_self_attention.query(words[0, 3:5]), layer.cross_self_attention.key(memory)
        each = width // model.config.report.heads
        heads = [
            F.softmax(query[:, h : h + each] @ key[:, h : h + each].T / each**0.5, dim=-1).mean(dim=0)
            for h in range(0, width, each)
        ]
    torch.testing.assert_close(looks[0].flatten(), torch.stack(heads).amax(dim=0), atol=1e-6, rtol=1e-4)
