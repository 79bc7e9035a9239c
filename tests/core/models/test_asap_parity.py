"""Every golden tensor of the published ASAP code, stage by stage; sizes and names come from the fixture's JSON."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from asap_golden import Golden, in_float32, load_golden
from einops import rearrange
from torch import Tensor

from core.models.asap import ASAP, Aligned
from core.models.asap_config import RELEASED_FIXES, ASAPConfig, Fixes
from core.models.bert import BertConfig
from core.models.losses import alignment_logits, alignment_loss, language_loss
from core.models.mae import DecoderConfig, Encoded, class_fractions, unpatchify
from core.models.selection import patch_counts
from core.models.vit import VisionConfig

VARIANTS = ["equal", "ragged", "refpatch"]


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
    """Compare what this variant stores; at least one of the names must be stored."""
    stored = [name for name in values if name in run.golden.expected]
    assert stored
    for name in stored:
        run.golden.check(name, values[name])


def test_masking_and_encoder(run: Run):
    patches = run.model.patch_embed(run.batch["image"][:1])
    encoded = run.encode()
    masking, expected = encoded.masking, run.golden.expected
    assert torch.equal(masking.order, expected["ids_shuffle"])
    assert torch.equal(masking.keep, expected["ids_keep"])
    assert torch.equal(masking.restore, expected["ids_restore"])
    checks(
        run,
        patch_hidden_mask=masking.hidden,
        patch_embed_sample0=rearrange(patches, "b d x y z -> b (x y z) d"),
        encoder_block_0_sample0=run.inner["blocks.0"][:1],
        latent=encoded.tokens,
    )


def test_decoder_and_anatomy_head(run: Run):
    model = run.model
    decoded = model.decode(run.encode())
    volume = unpatchify(decoded.voxels, model.vision.patch_size, model.vision.grid)
    if "inj_logits" in run.golden.expected:
        checks(
            run,
            inj_logits=decoded.anatomy_logits,
            inj_soft_labels=class_fractions(run.batch["organ_mask"], model.config.classes, model.vision.patch_size),
            pred_patches_sample0=decoded.voxels[:1, ::4],
            recon_volume_sample0_strided=volume[:1, 0, ::4, ::4, ::2],
            decoder_block_1_sample0=run.inner["decoder_blocks.1"][:1],
            decoder_block_last_sample0=run.inner[f"decoder_blocks.{model.decoder.depth - 1}"][:1],
        )
    losses = model(run.batch, run.golden.inputs["masking_noise"])
    run.golden.check("mim_loss", losses["reconstruction"])
    run.golden.check("inj_loss", losses["injection"])


def test_skipping_voxels_leaves_the_anatomy_unchanged(run: Run):
    encoded = run.encode()
    short = run.model.decode(encoded, with_voxels=False)
    assert short.voxels is None
    assert torch.equal(short.anatomy_logits, run.model.decode(encoded).anatomy_logits)


def test_text_and_alignment(run: Run):
    model, batch, expected = run.model, run.batch, run.golden.expected
    aligned = model.align(batch, run.encode())
    selection, valid = aligned.selection, aligned.valid
    counts = patch_counts(aligned.size_logit, model.size_rule)
    assert torch.equal(counts.int(), expected["k"])
    for study, slot in valid.nonzero().tolist():
        chosen = set(selection.weights[study, slot].nonzero().flatten().tolist())
        assert chosen == set(expected["topk_idx"][study, slot, : counts[study, slot]].tolist())
    checks(
        run,
        text_findings=model.bert_encoder(batch["findings_ids"], batch["findings_attn"]),
        text_report=model.bert_encoder(batch["mlm_in"], batch["report_attn"]),
        regression_logit=aligned.size_logit,
        rho=aligned.size_logit.sigmoid(),
        img_proj_visible=aligned.patches,
        sentence_vec=aligned.sentences,
        sentence_valid=valid,
        cos_sentence_patch=selection.cosine,
    )
    torch.testing.assert_close(selection.regions[valid], expected["pooled_region"][valid], atol=2e-5, rtol=1e-4)
    regions = run.published_regions(aligned)
    logits = alignment_logits(aligned.sentences, regions, model.config.temperature)
    checks(
        run,
        pooled_region=regions,
        align_logits=logits,
        align_loss=alignment_loss(logits, valid, mask_padding=False),
    )


def test_word_to_patch_map(run: Run):
    """Nothing uses it downstream; it still shows that tokens, sentences and patches are lined up."""
    if "topk_similarity_map_sample0" not in run.golden.expected:
        pytest.skip("this variant does not store the map")
    aligned = run.model.align(run.batch, run.encode())
    chosen = aligned.selection.cosine * (aligned.selection.weights > 0)
    sentence_of_token = run.batch["findings_sent"][0, 1:]
    rows = [torch.zeros_like(chosen[0, 0]) if s == 0 else chosen[0, s - 1] for s in sentence_of_token.tolist()]
    run.golden.check("topk_similarity_map_sample0", torch.stack(rows)[None])


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
        fusion_cross_attention_sample0=attention[:1],
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
    total = total_loss(run)
    run.golden.check("total_loss", total)
    if bool((run.golden.expected["sentence_valid"] > 0).all()):
        run.golden.check("total_loss", run.model(run.batch, run.golden.inputs["masking_noise"])["total"])
    run.model.zero_grad()
    total.backward()
    about = run.golden.about["gradients"]
    gradients = {name: p.grad for name, p in run.model.named_parameters() if p.requires_grad}
    without = sorted(name for name, gradient in gradients.items() if gradient is None)
    assert without == sorted(about["trainable_without_gradient"])
    for name, norm in about["norms"].items():
        assert gradients[name].norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), name  # key biases: 0
    for name, stored in run.golden.gradients.items():
        atol = 1e-4 * float(stored.abs().max())
        torch.testing.assert_close(gradients[name], stored.float(), rtol=1e-3, atol=atol, msg=lambda m, n=name: n + m)


def test_whole_volume(run: Run):
    expected, model = run.golden.expected, run.model
    if "full_latent_sample0" not in expected:
        pytest.skip("this variant stores no unmasked pass")
    encoded = run.encode_all()
    aligned = model.align(run.batch, encoded)
    checks(
        run,
        full_latent_sample0=encoded.tokens[:1],
        full_img_proj_sample0=aligned.patches[:1],
        full_cos_sentence_patch=aligned.selection.cosine,
        full_pooled_region=run.published_regions(aligned, "full_topk_idx"),
    )
    by_place = rearrange(model.encode_patches(run.batch["image"]), "b x y z d -> b (x y z) d")
    torch.testing.assert_close(by_place, encoded.patches, atol=1e-5, rtol=1e-4)
    for study, slot in aligned.valid.nonzero().tolist():
        chosen = set(aligned.selection.weights[study, slot].nonzero().flatten().tolist())
        assert chosen == set(expected["full_topk_idx"][study, slot, : expected["k"][study, slot]].tolist())
    if bool(aligned.valid.all()):  # else the stored loss holds arbitrary patches
        logits = alignment_logits(aligned.sentences, aligned.selection.regions, model.config.temperature)
        run.golden.check("full_align_loss", alignment_loss(logits, aligned.valid, mask_padding=False))


def test_masked_slots_give_each_studys_own_numbers(fixtures: Path):
    """With padding masked, a study in a mixed batch is what the published code computes for it alone."""
    golden = load_golden(fixtures / "asap", "ragged")
    run = Run(golden, replace(RELEASED_FIXES, padding_masked=True))
    model, batch = run.model, run.batch
    encoded = run.encode()
    aligned = model.align(batch, encoded)
    memory, _ = model.visual_memory(encoded, aligned.selection.regions, aligned.valid)
    logits = model.bert_decoder.cls(model.fuse(batch, encoded, aligned.selection.regions, aligned.valid))
    counts = golden.about["sentence_counts"]
    for study, count in enumerate(counts):
        computed = {
            "pooled_region": aligned.selection.regions[study, :count],
            "fusion_memory": memory[study, :1],
            "mlm_logits": logits[study],
            "mlm_loss": language_loss(logits[study], batch["report_ids"][study]),
        }
        for name, value in computed.items():
            wanted = golden.expected[f"alone.{study}.{name}"]
            golden.check(f"alone.{study}.{name}", value.reshape(wanted.shape))
    alone = [golden.expected[f"alone.{study}.align_loss"].item() for study in range(len(counts))]
    expected = sum(s * loss for s, loss in zip(counts, alone, strict=True)) / sum(counts)
    losses = model(batch, golden.inputs["masking_noise"])
    assert losses["alignment"].item() == pytest.approx(expected, rel=2e-5)


def test_probe_features(fixtures: Path):
    """What the published benchmark reads out: mean patch before the last norm, and CLS after it."""
    run = Run(load_golden(fixtures / "asap", "equal"), RELEASED_FIXES)
    probe = in_float32(fixtures / "asap" / "probe.safetensors")
    images = in_float32(fixtures / "asap" / run.golden.about["files"]["volumes"])["image"][: len(probe["cls_feature"])]
    tokens = run.model.run_blocks(run.model.embed_patches(images))
    pooled = torch.nn.functional.layer_norm(tokens[:, 1:].mean(dim=1), tokens.shape[-1:], eps=1e-6)
    torch.testing.assert_close(pooled, probe["pooled_feature"], atol=2e-5, rtol=1e-4)
    logits = pooled @ probe["head.weight"].T + probe["head.bias"]
    torch.testing.assert_close(logits, probe["logits"], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(run.model.norm(tokens)[:, 0], probe["cls_feature"], atol=2e-5, rtol=1e-4)
