"""What the whole model promises: every weight learns, padding is nothing, each defect can be had and mended."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from core.errors import ConfigError
from core.models.asap import ASAP, study_vector
from core.models.asap_config import RELEASED_FIXES, ASAPConfig, Fixes, LossWeights, corrected, released, small, tiny
from core.models.mae import draw_noise

WORDS = 60
ALL_LOSSES = LossWeights(study=1.0, grounding=1.0, size_prior=0.01)


def a_config(fixes: Fixes | None = None, weights: LossWeights | None = None, **changes: object) -> ASAPConfig:
    config = tiny(WORDS)
    return replace(config, fixes=fixes or config.fixes, weights=weights or config.weights, **changes)


def a_model(config: ASAPConfig) -> ASAP:
    torch.manual_seed(3)
    return ASAP(config)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Two studies of four and three sentences with four words each."""
    draws = torch.Generator().manual_seed(0)
    numbers = torch.tensor(
        [[0] + [s for s in (1, 2, 3, 4) for _ in range(4)], [0] + [1] * 4 + [2] * 4 + [3] * 4 + [0] * 4]
    )
    attn = torch.tensor([[True] * 17, [True] * 13 + [False] * 4])
    ids = torch.randint(5, WORDS, (2, 17), generator=draws).masked_fill(~attn, 0)
    ids[:, 0] = 2
    masked = torch.rand(2, 17, generator=draws) < 0.5
    masked = masked & (ids > 4)
    target = torch.zeros(2, 4, 64)
    target[0, 0, 5], target[1, 1, 40:44] = 1.0, 0.5
    return {
        "image": torch.randn(2, 1, 32, 32, 16, generator=draws).clamp(-1, 1),
        "organ_mask": torch.randint(0, 9, (2, 32, 32, 16), generator=draws).to(torch.uint8),
        "findings_ids": ids,
        "findings_attn": attn,
        "findings_sent": numbers.short(),
        "report_ids": ids,
        "report_attn": attn,
        "mlm_in": ids.masked_fill(masked, 4),
        "mlm_labels": ids.masked_fill(~masked, -100),
        "sentence_target": target,
        "sentence_target_valid": torch.ones(2, 4, dtype=torch.bool),
    }


def noise() -> Tensor:
    return torch.rand(2, 64, generator=torch.Generator().manual_seed(1))


def padded(batch: dict[str, Tensor], tokens: int, sentences: int) -> dict[str, Tensor]:
    """The same studies as they look beside a longer report."""
    grown = dict(batch)
    for key, fill in {"findings_ids": 0, "findings_attn": 0, "findings_sent": 0, "report_ids": 0, "report_attn": 0,
                      "mlm_in": 0, "mlm_labels": -100}.items():  # fmt: skip
        grown[key] = torch.nn.functional.pad(batch[key], (0, tokens), value=fill)
    for key, axis in (("sentence_target", 2), ("sentence_target_valid", 0)):
        grown[key] = torch.nn.functional.pad(batch[key], [0] * axis + [0, sentences])
    return grown


def with_a_third_longer_study(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A third study of seven short sentences, so that the others get empty slots."""
    grown = {key: torch.cat([value, value[:1]]) for key, value in batch.items()}
    grown["findings_sent"][2] = torch.tensor([0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7, 7])
    return grown


def test_every_trained_weight_gets_a_gradient(batch):
    """Published: 11 weights never get one (spec 7.1, points 1 and 2)."""
    model = a_model(a_config(weights=ALL_LOSSES))
    model(batch, noise())["total"].backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    dead = a_model(a_config(RELEASED_FIXES, LossWeights()))
    dead(batch, noise())["total"].backward()
    names = {name for name, p in dead.named_parameters() if p.requires_grad and p.grad is None}
    assert {"regression_head.weight", "bert_topk_mlp.weight", "bert_decoder.bert.pooler.dense.weight"} <= names


def test_losses_start_where_a_guess_would(batch):
    model = a_model(a_config(RELEASED_FIXES, LossWeights())).eval()
    losses = model(batch, noise())
    assert losses["language"].item() == pytest.approx(math.log(WORDS), abs=0.3)
    assert losses["alignment"].item() == pytest.approx(2 * math.log(4), rel=0.6)
    assert set(losses) == {"reconstruction", "injection", "alignment", "language", "total"}


def test_appended_padding_changes_no_loss(batch):
    model = a_model(a_config(weights=ALL_LOSSES)).eval()
    plain = model(batch, noise())
    grown = model(padded(batch, tokens=6, sentences=3), noise())
    for name, value in plain.items():
        assert grown[name].item() == pytest.approx(value.item(), rel=1e-5), name


def test_a_longer_report_in_the_batch_moves_the_published_loss_only(batch):
    """Defect and fix (spec 7.1, point 3), through the whole model."""

    def language_of_first_two(fixes: Fixes) -> tuple[float, float]:
        model = a_model(a_config(fixes)).eval()
        both, three = batch, with_a_third_longer_study(batch)
        regions = []
        for data in (both, three):
            draws = torch.cat([noise(), noise()])[: len(data["image"])]
            encoded = model.encode_visible(data["image"], draws, model.config.mask_ratio)
            aligned = model.align(data, encoded)
            memory, _ = model.visual_memory(encoded, aligned.selection.regions, aligned.valid)
            regions.append(memory[:2, 0])
        return (regions[0] - regions[1]).abs().max().item(), regions[0].abs().max().item()

    change, size = language_of_first_two(replace(RELEASED_FIXES, padding_masked=True))
    assert change < 1e-5 * size
    change, size = language_of_first_two(RELEASED_FIXES)
    assert change > 1e-2 * size


def test_published_language_loss_counts_padding_and_visible_words(batch):
    """Defect and fix (spec 7.1, point 6): an endless pad makes the published loss about padding."""
    long = padded(batch, tokens=60, sentences=0)
    for fixes, moves in ((RELEASED_FIXES, True), (replace(RELEASED_FIXES, language_on_masked_only=True), False)):
        model = a_model(a_config(replace(fixes, padding_masked=True))).eval()
        model.bert_decoder.cls.predictions.bias.data[0] = 5.0  # has learned that padding is frequent
        short_loss, long_loss = (model(data, noise())["language"].item() for data in (batch, long))
        assert (abs(short_loss - long_loss) > 1) == moves


def test_frozen_text_is_noisy_in_the_published_training_only(batch):
    """Defect and fix (spec 7.1, point 7): dropout stays on in an encoder that never learns."""
    for fixes, is_noisy in ((RELEASED_FIXES, True), (replace(RELEASED_FIXES, text_in_eval_mode=True), False)):
        config = a_config(fixes, text_frozen=True)
        model = a_model(replace(config, text=replace(config.text, dropout=0.25))).train()
        texts = [model.bert_encoder(batch["findings_ids"], batch["findings_attn"]) for _ in range(2)]
        assert torch.equal(*texts) != is_noisy
        assert model.bert_encoder.is_frozen
        assert not any(name.startswith("bert_encoder") for name, p in model.named_parameters() if p.requires_grad)


def test_text_that_trains_gets_gradients(batch):
    model = a_model(a_config())
    model(batch, noise())["total"].backward()
    assert model.bert_encoder.bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0


def test_a_hidden_region_is_not_taught_as_absent(batch):
    """The only patch of a finding is masked out: the study must teach nothing about that sentence."""
    weights = LossWeights(0, 0, 0, 0, 0, grounding=1.0)
    model = a_model(a_config(weights=weights, mask_ratio=0.5)).eval()
    draws = torch.zeros(2, 64)
    draws[:, 5] = 1.0  # patch 5 is hidden
    draws[:, 40:] = 0.9
    batch["sentence_target_valid"][:] = False
    batch["sentence_target_valid"][0, 0] = True
    assert model(batch, draws)["grounding"].item() == 0.0
    batch["sentence_target"][0, 0] = 0.0  # truly absent: now every visible patch must say no
    assert model(batch, draws)["grounding"].item() > 0.0


def test_without_a_study_contrast_a_batch_teaches_what_its_studies_teach_alone(batch):
    """Defect and fix (spec 7.1, point 5): negatives only from the same report, whoever else is in the batch."""
    for weight, is_alone in ((0.0, True), (1.0, False)):
        weights = LossWeights(0, 0, 0, alignment=1.0, study=weight)
        model = a_model(a_config(weights=weights)).eval()
        both = model(batch, noise())["total"]
        alone = [model({k: v[i : i + 1] for k, v in batch.items()}, noise()[i : i + 1])["total"] for i in (0, 1)]
        mean = (4 * alone[0] + 3 * alone[1]) / 7  # four and three sentences
        assert (abs(both - mean) < 1e-4) == is_alone
    other = {**batch, "image": batch["image"].flip(0)}  # each report with the other's volume
    assert model(other, noise())["study"].item() != pytest.approx(model(batch, noise())["study"].item(), rel=1e-3)


def test_region_sizes_move_in_the_mended_training_only(batch):
    """Defect and fix (spec 7.1, point 1): a few steps on the alignment alone change how many patches are taken."""
    for fixes, moves in ((RELEASED_FIXES, False), (replace(RELEASED_FIXES, learned_size=True), True)):
        model = a_model(a_config(fixes, LossWeights(0, 0, 0, alignment=1.0)))
        before = model.regression_head.weight.detach().clone()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            model(batch, noise())["total"].backward()
            optimizer.step()
        assert torch.equal(before, model.regression_head.weight) != moves


def test_masks_come_from_each_studys_own_seed(batch):
    """A study's hidden patches do not depend on its place, its batch or what was drawn before."""
    model = a_model(a_config()).eval()
    seeded = batch | {"draw_seed": torch.tensor([11, 12])}
    first = draw_noise(seeded, 64)
    torch.rand(5)
    swapped = draw_noise({key: value.flip(0) for key, value in seeded.items()}, 64)
    assert torch.equal(first, swapped.flip(0))
    assert not torch.equal(first[0], first[1])
    assert torch.equal(model(seeded)["total"], model(batch, first)["total"])
    assert not torch.equal(draw_noise(batch, 64), draw_noise(batch, 64))


def test_questions_are_read_alone_and_touch_no_other_loss(batch):
    weights = LossWeights(study=1.0, grounding=1.0, questions=1.0)
    model = a_model(a_config(weights=weights, mask_ratio=0.0)).eval()
    plain = model(batch, noise())
    assert "questions" not in plain
    words = torch.randint(5, WORDS, (2, 3, 6), generator=torch.Generator().manual_seed(5))
    target = torch.zeros(2, 3, 64)
    target[0, 0, 7] = 1.0
    asked = {"asked_ids": words, "asked_attn": torch.ones(2, 3, 6, dtype=torch.bool), "asked_target": target}
    asked["asked_valid"] = torch.tensor([[True, True, True], [True, False, False]])
    losses = model(batch | asked, noise())
    for name in set(plain) - {"total"}:
        assert losses[name].item() == pytest.approx(plain[name].item(), rel=1e-5), name
    words[1, 1:] = 9  # padding says nothing
    assert model(batch | asked, noise())["questions"].item() == pytest.approx(losses["questions"].item(), rel=1e-5)
    asked["asked_valid"] = torch.zeros(2, 3, dtype=torch.bool)
    assert model(batch | asked, noise())["questions"].item() == 0.0


def test_unmasked_alignment_sees_hidden_patches(batch):
    """Fix of spec 7.1, point 11."""
    config = a_config(Fixes(unmasked_alignment=True))
    model = a_model(config).eval()
    encoded = model.encode_visible(batch["image"], noise(), config.mask_ratio)
    aligned = model.align(batch, encoded)
    assert aligned.patches.shape[1] == 64
    everywhere = model.project_patches(model.encode_patches(batch["image"])).flatten(1, 3)
    torch.testing.assert_close(aligned.patches, everywhere)
    assert aligned.places[1].tolist() == list(range(64))


def test_targets_follow_their_patches_through_the_masking_order(batch):
    """Mask ratio 0 still shuffles: a target compared in spatial order would teach the wrong patches."""
    model = a_model(a_config(weights=LossWeights(0, 0, 0, 0, 0, grounding=1.0), mask_ratio=0.0)).eval()
    first = model(batch, noise())["grounding"].item()
    second = model(batch, 1 - noise())["grounding"].item()
    assert first == pytest.approx(second, rel=1e-4)


@pytest.mark.parametrize("fixes", [None, RELEASED_FIXES])
def test_a_study_without_sentences_gives_no_nan(batch, fixes):
    """The published code crashes or gives NaN when no study of a batch has a full stop (spec 7.1, point 4)."""
    batch["findings_sent"][:] = 0
    model = a_model(a_config(fixes, weights=ALL_LOSSES))
    losses = model(batch, noise())
    losses["total"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert losses["alignment"].item() == 0.0


def test_order_of_studies_does_not_matter(batch):
    model = a_model(a_config(weights=ALL_LOSSES)).eval()
    swapped = {key: value.flip(0) for key, value in batch.items()}
    one, other = model(batch, noise()), model(swapped, noise().flip(0))
    for name in one:
        assert other[name].item() == pytest.approx(one[name].item(), rel=1e-4), name


def test_terms_of_weight_zero_are_not_computed(batch):
    model = a_model(a_config(weights=LossWeights(0, 1, 0, 0)))
    called = []
    model.decoder_pred_layer.register_forward_hook(lambda *_: called.append("voxels"))
    model.bert_encoder.register_forward_hook(lambda *_: called.append("text"))
    assert set(model(batch, noise())) == {"injection", "total"}
    assert called == []


def test_cosines_stay_float32_under_autocast(batch):
    model = a_model(a_config())
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model.encode_visible(batch["image"], noise(), 0.5)
        aligned = model.align(batch, encoded)
    assert encoded.tokens.dtype in (torch.float32, torch.bfloat16)
    assert aligned.selection.cosine.dtype == torch.float32
    assert aligned.patches.dtype == torch.float32


def test_sentences_for_inference_are_those_of_training(batch):
    model = a_model(a_config()).eval()
    encoded = model.encode_visible(batch["image"], noise(), 0.5)
    aligned = model.align(batch, encoded)
    vectors = model.embed_sentences(batch["findings_ids"], batch["findings_attn"], batch["findings_sent"].long())
    torch.testing.assert_close(vectors, aligned.sentences[aligned.valid])
    alone = model.embed_sentences(batch["findings_ids"], batch["findings_attn"])
    assert alone.shape == (2, 48)
    assert study_vector(aligned.patches).norm(dim=-1).tolist() == pytest.approx([1.0, 1.0])


def test_presence_read_out_needs_its_training():
    with pytest.raises(ConfigError, match="without the grounding term"):
        a_model(a_config()).presence_logits(torch.zeros(1))
    assert a_model(a_config(weights=ALL_LOSSES)).presence_logits(torch.tensor([0.2])).item() == pytest.approx(0.0)


def test_presets_differ_in_what_their_names_say():
    assert released().fixes == RELEASED_FIXES
    assert corrected().fixes == Fixes()
    assert released().vision == corrected().vision
    count = sum(p.numel() for p in ASAP(small(2000)).parameters())
    assert count * 2 < 40e6  # bytes as float16


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask_ratio": 1.0}, "at least one patch visible"),
        ({"temperature": 0.0}, "must be above 0"),
        ({"text": replace(tiny(70).text)}, "the text encoder's 70 words"),
    ],
)
def test_impossible_models_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        replace(tiny(WORDS), **changes)


def test_weights_must_not_be_negative():
    with pytest.raises(ConfigError, match="not be negative"):
        LossWeights(language=-1.0)
