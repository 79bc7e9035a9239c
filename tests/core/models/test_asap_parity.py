"""Every golden tensor of the published ASAP code, stage by stage; sizes and names come from the fixture's JSON."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from asap_golden import FIXTURES, Golden, check_gradient_norms, in_float32, list_variants, load_golden
from einops import rearrange
from torch import Tensor

from core.models.asap import ASAP, Aligned
from core.models.asap_config import RELEASED_FIXES, ASAPConfig, Fixes
from core.models.bert import BertConfig
from core.models.losses import alignment_logits, alignment_loss, language_loss
from core.models.mae import DecoderConfig, Encoded, class_fractions, unpatchify
from core.models.selection import patch_counts
from core.models.vit import VisionConfig

VARIANTS = list_variants(FIXTURES) or ["absent"]


def bert_config(sizes: dict[str, int]) -> BertConfig:
    return BertConfig(
        vocab_size=sizes["vocab_size"],
        width=sizes["hidden_size"],
        depth=sizes["num_hidden_layers"],
        heads=sizes["num_attention_heads"],
        mlp_width=sizes["intermediate_size"],
        positions=sizes["max_position_embeddings"],
    )


def config_of(golden: Golden, fixes: Fixes) -> ASAPConfig:
    sizes = golden.about["config"]
    ratio = sizes["mlp_ratio"]
    return ASAPConfig(
        vision=VisionConfig(
            tuple(sizes["img_size"]), tuple(sizes["patch_size"]), sizes["embed_dim"], sizes["depth"],
            sizes["num_heads"], ratio, sizes["norm_eps"],
        ),
        decoder=DecoderConfig(
            sizes["decoder_embed_dim"], sizes["decoder_depth"], sizes["decoder_num_heads"], ratio
        ),
        text=bert_config(sizes["text_encoder"]),
        report=bert_config(sizes["report_decoder"]),
        text_projection_width=sizes["text_encoder"]["projection_size"],
        classes=len(golden.weights["decoder_injection_pred_norm.bias"]),
        mask_ratio=sizes["mask_ratio"],
        fixes=fixes,
    )  # fmt: skip


def batch_of(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    count = len(inputs["image"])
    return {
        "image": inputs["image"],
        "organ_mask": inputs["mask"][:count, 0],
        "findings_ids": inputs["ids_f"],
        "findings_attn": inputs["attention_mask_f"].bool(),
        "findings_sent": inputs["sentence_mask_f"],
        "report_ids": inputs["ids"],
        "report_attn": inputs["attention_mask"].bool(),
        "mlm_in": inputs["masked_ids"],
        "mlm_labels": inputs["ids"],
    }


class Run:
    """One variant through our model, with the inner outputs that the fixtures store."""

    def __init__(self, golden: Golden, fixes: Fixes) -> None:
        torch.manual_seed(0)
        self.golden, self.batch = golden, batch_of(golden.inputs)
        self.model = ASAP(config_of(golden, fixes)).eval()
        self.model.load_state_dict(golden.weights, strict=fixes == RELEASED_FIXES)
        self.inner: dict[str, Tensor] = {}
        for name in ("blocks.0", "decoder_blocks.1", f"decoder_blocks.{self.model.decoder.depth - 1}"):
            self.model.get_submodule(name).register_forward_hook(self._keep(name))
        self.model.bert_decoder.bert.fusion_layer.register_forward_hook(self._keep("fusion"))

    def _keep(self, name: str) -> Any:
        return lambda _module, _inputs, output: self.inner.__setitem__(name, output)

    def encode(self) -> Encoded:
        noise = self.golden.inputs["masking_noise"]
        return self.model.encode_visible(self.batch["image"], noise, self.model.config.mask_ratio)

    def encode_all(self) -> Encoded:
        patches = self.model.vision.patches
        noise = (torch.arange(patches) / patches).expand(len(self.batch["image"]), -1)
        return self.model.encode_visible(self.batch["image"], noise, 0.0)

    def published_regions(self, aligned: Aligned, name: str = "topk_idx") -> Tensor:
        """Regions with the fixture's own choice of patches in empty slots, where all cosines tie at 0."""
        counts = self.golden.expected["k"].long()
        weights = torch.zeros_like(aligned.selection.cosine)
        for study, slot in torch.cartesian_prod(torch.arange(counts.shape[0]), torch.arange(counts.shape[1])):
            k = counts[study, slot]
            weights[study, slot, self.golden.expected[name][study, slot, :k]] = 1 / k
        return weights @ aligned.patches


@pytest.fixture(scope="module", params=VARIANTS)
def run(request: pytest.FixtureRequest, fixtures: Path) -> Run:
    return Run(load_golden(fixtures / "asap", request.param), RELEASED_FIXES)


def checks(run: Run, **values: Tensor) -> None:
    """Compare what this variant stores, whole (`name`) or in part (`name_sample0`, `name_sample0_strided`)."""
    for name, value in values.items():
        for stored in (name, f"{name}_sample0", f"{name}_sample0_strided"):
            if stored in run.golden.expected:
                run.golden.check(stored, value)


def check_choice(run: Run, aligned: Aligned, name: str) -> None:
    """The chosen patches of every real sentence, as sets."""
    counts, stored = run.golden.expected["k"].tolist(), run.golden.expected[name]
    for study, slot in aligned.valid.nonzero().tolist():
        chosen = set(aligned.selection.weights[study, slot].nonzero().flatten().tolist())
        assert chosen == set(stored[study, slot, : counts[study][slot]].tolist()), name
    run.golden.compared.add(name)


def test_masking_and_encoder(run: Run):
    patches = run.model.patch_embed(run.batch["image"])
    encoded = run.encode()
    masking = encoded.masking
    checks(
        run,
        ids_shuffle=masking.order,
        ids_keep=masking.keep,
        ids_restore=masking.restore,
        patch_hidden_mask=masking.hidden,
        patch_embed=rearrange(patches, "b d x y z -> b (x y z) d"),
        encoder_block_0=run.inner["blocks.0"],
        latent=encoded.tokens,
    )


def test_decoder_and_anatomy_head(run: Run):
    model = run.model
    decoded = model.decode(run.encode())
    inner = dict(run.inner)  # in a training step the last block answers for hidden patches only
    volume = unpatchify(decoded.voxels, model.vision.patch_size, model.vision.grid)
    losses = model(run.batch, run.golden.inputs["masking_noise"])
    checks(
        run,
        inj_logits=decoded.anatomy_logits,
        inj_soft_labels=class_fractions(run.batch["organ_mask"], model.config.classes, model.vision.patch_size),
        pred_patches=decoded.voxels,
        recon_volume=volume[:, 0],
        decoder_block_1=inner["decoder_blocks.1"],
        decoder_block_last=inner[f"decoder_blocks.{model.decoder.depth - 1}"],
        mim_loss=losses["reconstruction"],
        inj_loss=losses["injection"],
    )


def test_skipping_voxels_leaves_the_anatomy_unchanged(run: Run):
    encoded = run.encode()
    short = run.model.decode(encoded, "none")
    assert short.voxels is None
    assert torch.equal(short.anatomy_logits, run.model.decode(encoded).anatomy_logits)


def test_text_and_alignment(run: Run):
    model, batch = run.model, run.batch
    aligned = model.align(batch, run.encode())
    selection, valid = aligned.selection, aligned.valid
    assert valid.sum(dim=1).tolist() == run.golden.about["sentence_counts"]
    check_choice(run, aligned, "topk_idx")
    checks(
        run,
        k=patch_counts(aligned.size_logit, model.size_rule),
        text_findings=model.bert_encoder(batch["findings_ids"], batch["findings_attn"]),
        text_report=model.bert_encoder(batch["mlm_in"], batch["report_attn"]),
        regression_logit=aligned.size_logit,
        rho=aligned.size_logit.sigmoid(),
        img_proj_visible=aligned.patches,
        sentence_vec=aligned.sentences,
        sentence_valid=valid,
        cos_sentence_patch=selection.cosine,
    )
    regions = run.published_regions(aligned)
    torch.testing.assert_close(selection.regions[valid], regions[valid], atol=1e-6, rtol=1e-5)
    logits = alignment_logits(aligned.sentences, regions, model.config.temperature)
    checks(
        run,
        pooled_region=regions,
        align_logits=logits,
        align_loss=alignment_loss(logits, valid, mask_padding=False),
    )


def test_word_to_patch_map(run: Run):
    """Nothing uses it downstream; it still shows that tokens, sentences and patches are lined up."""
    aligned = run.model.align(run.batch, run.encode())
    chosen = aligned.selection.cosine * (aligned.selection.weights > 0)
    sentence_of_token = run.batch["findings_sent"][:, 1:].long()
    with_none = torch.cat([torch.zeros_like(chosen[:, :1]), chosen], dim=1)
    maps = with_none.gather(1, sentence_of_token[..., None].expand(-1, -1, chosen.shape[-1]))
    assert maps.any()
    checks(run, topk_similarity_map=maps)


def test_fusion_and_language(run: Run):
    model, batch = run.model, run.batch
    encoded = run.encode()
    aligned = model.align(batch, encoded)
    regions = run.published_regions(aligned)
    memory, overview = model.visual_memory(encoded, regions, aligned.valid)
    words = model.bert_feature_proj(model.bert_encoder(batch["mlm_in"], batch["report_attn"]))
    layer = model.bert_decoder.bert.fusion_layer
    attention = layer.cross_self_attention.probabilities(layer.attention(words, batch["report_attn"]), memory)
    logits = model.bert_decoder.cls(model.fuse(batch, encoded, regions, aligned.valid))
    checks(
        run,
        fusion_text_in=words,
        fusion_memory=memory,
        fusion_global_token=overview,
        fusion_cross_attention=attention,
        fusion_out=run.inner["fusion"],
        mlm_logits=logits,
        mlm_loss=language_loss(logits.flatten(0, 1), batch["report_ids"].flatten()),
    )


def total_loss(run: Run) -> Tensor:
    """The released total, with the fixture's choice of patches in empty slots."""
    model, batch = run.model, run.batch
    losses = model(batch, run.golden.inputs["masking_noise"])
    encoded = run.encode()
    aligned = model.align(batch, encoded)
    regions = run.published_regions(aligned)
    logits = alignment_logits(aligned.sentences, regions, model.config.temperature)
    words = model.bert_decoder.cls(model.fuse(batch, encoded, regions, aligned.valid))
    return (
        losses["reconstruction"]
        + losses["injection"]
        + alignment_loss(logits, aligned.valid, mask_padding=False)
        + language_loss(words.flatten(0, 1), batch["report_ids"].flatten())
    )


def test_total_and_gradients(run: Run):
    total, scalars = total_loss(run), run.golden.about["scalars"]
    checks(run, total_loss=total)
    limits = run.golden.about["tolerance"]
    assert total.item() == pytest.approx(scalars["total_loss"], abs=2e-5, rel=limits["losses"]["rtol"])
    if len(set(run.golden.about["sentence_counts"])) == 1:  # else the model has its own choice in empty slots
        checks(run, total_loss=run.model(run.batch, run.golden.inputs["masking_noise"])["total"])
    run.model.zero_grad()
    total.backward()
    about, parameters = run.golden.about["gradients"], dict(run.model.named_parameters())
    frozen = sorted(name for name, parameter in parameters.items() if not parameter.requires_grad)
    assert [name for name in frozen if not name.endswith("pos_embed")] == sorted(
        name for name in about["frozen"] if not name.endswith("pos_embed")
    )
    gradients = {name: parameter.grad for name, parameter in parameters.items() if parameter.requires_grad}
    without = sorted(name for name, gradient in gradients.items() if gradient is None)
    assert without == sorted(about["trainable_without_gradient"])
    assert set(gradients) - set(without) == set(about["norms"])
    check_gradient_norms(gradients, about["norms"], limits["gradients"]["rtol"])
    assert set(run.golden.gradients) == set(about["stored"])
    for name, stored in run.golden.gradients.items():
        atol = limits["gradients"]["atol_relative_to_max"] * float(stored.abs().max())
        torch.testing.assert_close(
            gradients[name], stored.float(), rtol=limits["gradients"]["rtol"], atol=atol, msg=lambda m, n=name: n + m
        )


def test_whole_volume(run: Run):
    model, encoded = run.model, run.encode_all()
    aligned = model.align(run.batch, encoded)
    by_place = rearrange(model.encode_patches(run.batch["image"]), "b x y z d -> b (x y z) d")
    torch.testing.assert_close(by_place, encoded.patches, atol=1e-5, rtol=1e-4)
    checks(
        run,
        full_latent=encoded.tokens,
        full_img_proj=aligned.patches,
        full_cos_sentence_patch=aligned.selection.cosine,
    )
    if "full_topk_idx" in run.golden.expected:
        check_choice(run, aligned, "full_topk_idx")
        regions = run.published_regions(aligned, "full_topk_idx")
        logits = alignment_logits(aligned.sentences, regions, model.config.temperature)
        loss = alignment_loss(logits, aligned.valid, mask_padding=False)
        checks(run, full_pooled_region=regions, full_align_loss=loss)


def check_alone(golden: Golden) -> None:
    """A study in a mixed batch, with padding masked, against what the published code computes for it alone."""
    run = Run(golden, replace(RELEASED_FIXES, padding_masked=True))
    model, batch = run.model, run.batch
    encoded = run.encode()
    aligned = model.align(batch, encoded)
    memory, _ = model.visual_memory(encoded, aligned.selection.regions, aligned.valid)
    logits = model.bert_decoder.cls(model.fuse(batch, encoded, aligned.selection.regions, aligned.valid))
    counts = golden.about["sentence_counts"]
    for study, count in enumerate(counts):
        own = aligned.sentences[[study]], aligned.selection.regions[[study]]
        pairs = alignment_logits(*own, model.config.temperature)
        computed = {
            "pooled_region": aligned.selection.regions[study, :count],
            "fusion_memory": memory[study, :1],
            "mlm_logits": logits[study],
            "mlm_loss": language_loss(logits[study], batch["report_ids"][study]),
            "align_loss": alignment_loss(pairs, aligned.valid[[study]], mask_padding=True),
        }
        for name, value in computed.items():
            wanted = golden.expected[f"alone.{study}.{name}"]
            golden.check(f"alone.{study}.{name}", value.reshape(wanted.shape))
    alone = [golden.expected[f"alone.{study}.align_loss"].item() for study in range(len(counts))]
    expected = sum(s * loss for s, loss in zip(counts, alone, strict=True)) / sum(counts)
    losses = model(batch, golden.inputs["masking_noise"])
    limits = golden.about["tolerance"]["losses"]
    assert losses["alignment"].item() == pytest.approx(expected, rel=limits["rtol"], abs=limits["atol"])


def test_masked_slots_give_each_studys_own_numbers(fixtures: Path):
    mixed = [golden for golden in (load_golden(fixtures / "asap", name) for name in VARIANTS) if has_alone(golden)]
    assert mixed
    for golden in mixed:
        check_alone(golden)


def has_alone(golden: Golden) -> bool:
    return any(name.startswith("alone.") for name in golden.expected)


def test_every_stored_tensor_is_compared(run: Run):
    run.golden.compared.clear()
    test_masking_and_encoder(run)
    test_decoder_and_anatomy_head(run)
    test_text_and_alignment(run)
    test_word_to_patch_map(run)
    test_fusion_and_language(run)
    test_total_and_gradients(run)
    test_whole_volume(run)
    if has_alone(run.golden):
        check_alone(run.golden)
    assert run.golden.compared == set(run.golden.expected) == set(run.golden.about["expected"])


def test_probe_features(fixtures: Path):
    """What the published benchmark reads out: mean patch before the last norm, and CLS after it."""
    for probe in list_variants(fixtures, "asap_probe"):
        about = json.loads((fixtures / "asap" / f"{probe}.json").read_text())
        goldens = (load_golden(fixtures / "asap", name) for name in VARIANTS)
        run = Run(next(g for g in goldens if g.about["files"]["weights"] == about["files"]["weights"]), RELEASED_FIXES)
        told = in_float32(fixtures / "asap" / about["files"]["expected"])
        images = in_float32(fixtures / "asap" / about["files"]["volumes"])["image"][: len(told["cls_feature"])]
        tokens = run.model.run_blocks(run.model.embed_patches(images))
        pooled = torch.nn.functional.layer_norm(tokens[:, 1:].mean(dim=1), tokens.shape[-1:], eps=1e-6)
        found = {
            "pooled_feature": pooled,
            "logits": pooled @ told["head.weight"].T + told["head.bias"],
            "cls_feature": run.model.norm(tokens)[:, 0],
        }
        assert set(found) | {"head.weight", "head.bias"} == set(told)
        for name, value in found.items():
            torch.testing.assert_close(value, told[name], **about["tolerance"])
