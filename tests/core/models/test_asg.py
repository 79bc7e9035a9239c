"""ASG: its losses by hand, its model on small volumes, and what must not change them."""

from dataclasses import replace
from math import log
from pathlib import Path

import pytest
import torch
from gloo_ranks import run_ranks
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.asg import ASG
from core.models.asg_config import ASGConfig, ASGFixes, ASGWeights, paper, released, tiny
from core.models.asg_flat import box_shares
from core.models.asg_losses import (
    region_sentence_contrast,
    region_sentence_scores,
    released_region_order,
    retrieval_accuracy,
    shared_word_targets,
    soften_pairs,
    tag_cosine,
    tag_loss,
)
from core.models.checkpoint import config_from_json, config_to_json
from core.models.contrast import contrast
from core.models.organ_pool import organ_fractions, pool_mean
from core.models.projection import HeadConfig
from core.models.words import label_words, merge_words, number_words

CONTINUES_FROM = 30
"""Ids of the test vocabulary from here on go on with the word before them."""


def config_of(**changes: object) -> ASGConfig:
    heads = HeadConfig(64, 16, "sync")  # as the full sizes have
    config = replace(tiny(40), organs=3, tags=("one", "two", "three", "four"), heads=heads)
    return replace(config, **changes)


def model_of(**changes: object) -> ASG:
    torch.manual_seed(0)
    model = ASG(config_of(**changes))
    model.text_encoder_q.continues[CONTINUES_FROM:] = True
    return model


def batch_of(studies: int = 4, tokens: int = 12, seed: int = 1) -> dict[str, Tensor]:
    """Random volumes whose organs 1 and 2 lie in all, 3 in none; three sentences a study, the last about nothing."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 40, (studies, tokens), generator=draw)
    ids[:, 0], ids[:, 1] = 2, 6
    lengths = torch.arange(studies) % 3 + tokens - 2
    attn = torch.arange(tokens) < lengths[:, None]
    mask = torch.zeros(studies, 32, 32, 16, dtype=torch.uint8)
    mask[:, 4:17, 4:20, 2:9] = 1
    mask[:, 20:30, 3:29, 4:12] = 2
    about = torch.tensor([[True, False, False], [True, True, True], [False, False, False]])
    return {
        "image": torch.rand(studies, 1, 32, 32, 16, generator=draw) * 2 - 1,
        "organ_mask": mask,
        "report_ids": ids * attn,
        "report_attn": attn,
        "report_sent": ((torch.arange(tokens) + 2) // 4).clamp(max=3).expand(studies, -1).to(torch.int16) * attn,
        "sent_organ": about.expand(studies, -1, -1),
        "tags": torch.randint(-1, 2, (studies, 4), generator=draw, dtype=torch.int8),
    }


def distinct_batch() -> dict[str, Tensor]:
    """Studies so unlike each other that batch statistics do not blow rounding up."""
    batch = batch_of()
    return batch | {"image": batch["image"].sign() * torch.tensor([0.1, 0.4, 1.5, 6.0])[:, None, None, None, None]}


def rows(batch: dict[str, Tensor], order: list[int]) -> dict[str, Tensor]:
    return {name: value[order] for name, value in batch.items()}


# ---------------------------------------------------------------------------- losses


def test_the_block_mask_is_the_cross_entropy_of_the_valid_block():
    torch.manual_seed(0)
    regions, sentences = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    valid = torch.tensor([[True, False, True, True, False], [False, True, False, False, True]])
    scores = region_sentence_scores(regions, sentences, valid, 0.5)
    found = region_sentence_contrast(scores, torch.eye(5).expand(2, 5, 5), valid)
    losses = []
    for study in range(2):
        block = regions[study, valid[study]] @ sentences[study, valid[study]].T / 0.5
        losses.append([F.cross_entropy(part, torch.arange(len(block)), reduction="sum") for part in (block, block.T)])
    assert found.image_to_text.item() == pytest.approx(sum(pair[0].item() for pair in losses) / 5)
    assert found.text_to_image.item() == pytest.approx(sum(pair[1].item() for pair in losses) / 5)


def test_soft_targets_of_the_worked_example():
    cosine = tag_cosine(torch.tensor([[1, 0], [1, 1], [0, -1]]))
    torch.testing.assert_close(cosine, torch.tensor([[1, 0.5**0.5, 0], [0.5**0.5, 1, 0], [0, 0, 0]]))
    targets = soften_pairs(cosine, 0.2)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(targets[2], torch.tensor([0.0, 0.0, 1.0]), atol=1e-5, rtol=0)
    assert targets[0, 1].item() == pytest.approx(0.2 * 0.5**0.5 / (1 + 0.2 * 0.5**0.5), abs=1e-5)


def test_the_divergence_vanishes_where_the_scores_give_the_targets():
    targets = soften_pairs(tag_cosine(torch.tensor([[1, 0, 1], [1, 1, 0], [0, 1, 1]])), 0.2)
    assert sum(contrast(targets.log(), targets, kind="symkl")).item() == pytest.approx(0, abs=1e-6)
    assert sum(contrast(2 * targets.log(), targets, kind="symkl")).item() > 0.01


def test_regions_with_a_common_sentence_are_positives_of_each_other():
    words = torch.tensor([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]], dtype=torch.bool)
    targets = shared_word_targets(words)[0]
    quarter = 1 / 4  # one word of the four that the two have together
    expected = torch.tensor(
        [[1, 1, quarter, 0], [1, 1, quarter, 0], [quarter, quarter, 1, 0], [0, 0, 0, 1]], dtype=torch.float32
    )
    torch.testing.assert_close(targets, expected / expected.sum(dim=1, keepdim=True))
    same = torch.ones(1, 2, 5)
    scores = region_sentence_scores(same, same, torch.ones(1, 2, dtype=torch.bool), 1.0)
    soft = region_sentence_contrast(scores, shared_word_targets(words[:, :2]), torch.ones(1, 2, dtype=torch.bool))
    assert soft.image_to_text.item() == pytest.approx(log(2))  # what two equal things cannot do better than


def test_tags_not_mentioned_count_as_absent_unless_ignored():
    logits, tags = torch.tensor([[2.0, -1.0, 3.0]]), torch.tensor([[1, -1, 0]])
    each = [F.softplus(torch.tensor(x)).item() for x in (-2.0, -1.0, 3.0)]
    assert tag_loss(logits, tags, ignore_unmentioned=False).item() == pytest.approx(sum(each) / 3)
    assert tag_loss(logits, tags, ignore_unmentioned=True).item() == pytest.approx(sum(each[:2]) / 2)
    assert tag_loss(logits, torch.zeros(1, 3), ignore_unmentioned=True).item() == 0


def test_retrieval_accuracy_counts_both_directions():
    scores = torch.tensor([[3.0, 2.0, 1.0], [5.0, 4.0, 0.0], [0.0, 0.0, 2.0]])  # rows right: 0, 2; columns: 1, 2
    assert retrieval_accuracy(scores, 1).item() == pytest.approx(100 * 4 / 6)
    assert retrieval_accuracy(scores, 5).item() == 100


# ------------------------------------------------------------------- words and boxes


def test_pieces_are_summed_into_words():
    ids = torch.tensor([[2, 7, 31, 32, 8, 0], [2, 9, 0, 0, 0, 0]])
    continues = torch.arange(40) >= CONTINUES_FROM
    number = number_words(ids, ids > 0, continues)
    assert number.tolist() == [[0, 1, 1, 1, 2, -1], [0, 1, -1, -1, -1, -1]]
    states = torch.arange(12.0).reshape(2, 6, 1)
    words = merge_words(states, number)
    assert words.report[..., 0].tolist() == [0, 6]
    assert words.vectors[..., 0].tolist() == [[6, 4, 0, 0, 0], [7, 0, 0, 0, 0]]
    assert words.is_real.tolist() == [[True, True, False, False, False], [True, False, False, False, False]]
    labels = torch.tensor([[9, 1, 1, 1, 2, 5], [9, 3, 5, 5, 5, 5]])
    assert label_words(labels, number).tolist() == [[1, 2, 0, 0, 0], [3, 0, 0, 0, 0]]


def sample_map(picture: Tensor, y: float, x: float) -> float:
    """One bilinear sample as Mask R-CNN's code takes it, written point by point."""
    height, width = picture.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    down, across = (0.0 if top == height - 1 else y - top), (0.0 if left == width - 1 else x - left)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = picture[top, left] * (1 - across) + picture[top, right] * across
    lower = picture[below, left] * (1 - across) + picture[below, right] * across
    return float(upper * (1 - down) + lower * down)


@pytest.mark.parametrize(
    "box", [(0.3, 0.4, 2.9, 4.7), (-1, -1, -1, -1), (1.5, 1.5, 1.6, 1.7), (2.2, -2.5, 6.5, 0.1), (0, 0, 4, 6)]
)
def test_box_weights_are_roi_align(box: tuple[float, float, float, float]):
    torch.manual_seed(0)
    picture = torch.randn(6, 4)  # rows, columns
    left, top, right, bottom = box
    wide, high = max(right - left, 1), max(bottom - top, 1)
    nx, ny = -int(-wide // 1), -int(-high // 1)
    samples = [
        sample_map(picture, top + (j + 0.5) * high / ny, left + (i + 0.5) * wide / nx)
        for j in range(ny)
        for i in range(nx)
    ]
    weights = box_shares(torch.tensor([[box, (0.0, 0.0, 4.0, 6.0)]]), 6, 4)[0, 0]
    assert float(weights @ picture.flatten()) == pytest.approx(sum(samples) / len(samples), abs=1e-6)


def test_the_mean_over_an_organ_of_a_constant_map_is_the_constant():
    mask = batch_of()["organ_mask"]
    pooled = pool_mean(torch.full((4, 64, 5), 2.5), organ_fractions(mask, 3, (8, 8, 4)))
    torch.testing.assert_close(pooled[:, :2], torch.full((4, 2, 5), 2.5))
    assert bool((pooled[:, 2] == 0).all())  # not in the crop


# ----------------------------------------------------------------------------- model


def test_losses_and_their_sum():
    losses = model_of()(batch_of())  # organ 3 is spoken of, but in no image
    assert all(bool(value.isfinite()) for value in losses.values())
    assert set(losses) == {"ira", "arsa", "irl", "erl", "total"}
    expected = losses["ira"] + losses["arsa"] + 5 * losses["irl"] + losses["erl"]
    torch.testing.assert_close(losses["total"], expected)
    only = model_of(weights=ASGWeights(ira=0, arsa=0, irl=2, erl=0))(batch_of())
    assert set(only) == {"irl", "total"}
    assert only["total"].item() == pytest.approx(2 * losses["irl"].item())


def test_every_weight_gets_a_gradient():
    model = model_of()
    model(batch_of())["total"].backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


def test_permuted_tags_give_permuted_logits():
    model, images = model_of().eval(), batch_of()["image"]
    before = model.tag_logits(images)
    model.irl.set_queries(model.irl.tag_queries[[2, 0, 3, 1]].clone())
    torch.testing.assert_close(model.tag_logits(images), before[:, [2, 0, 3, 1]])
    with pytest.raises(ConfigError, match="same embedding"):
        model.irl.set_queries(torch.ones(4, 48))
    with pytest.raises(ConfigError, match="shape"):
        model.irl.set_queries(torch.ones(3, 48))


def test_a_study_without_regions_counts_nothing_among_others():
    model, batch = model_of(heads=HeadConfig(64, 16, "layer")), batch_of()
    whole = model(batch)["arsa"]
    lonely = batch_of(1, seed=5)
    lonely["organ_mask"] = torch.zeros_like(lonely["organ_mask"])
    silent = batch_of(1, seed=6)
    silent["sent_organ"] = torch.zeros_like(silent["sent_organ"])
    for more in (lonely, silent):
        grown = {name: torch.cat([batch[name], more[name]]) for name in batch}
        losses = model(grown)
        torch.testing.assert_close(losses["arsa"], whole)
        alone = {name: torch.cat([more[name], more[name]]) for name in batch}
        losses = model(alone)
        assert losses["arsa"].item() == 0
        losses["total"].backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_padding_changes_no_loss():
    model, batch = model_of(), distinct_batch()
    padded = batch | {name: F.pad(batch[name], (0, 7)) for name in ("report_ids", "report_attn", "report_sent")}
    padded["sent_organ"] = F.pad(batch["sent_organ"], (0, 0, 0, 2))
    for name, value in model(batch).items():
        torch.testing.assert_close(model(padded)[name], value, rtol=1e-4, atol=1e-4)
    mixed = model_of(fixes=ASGFixes(padding_masked=False), gather="none")
    assert not torch.allclose(
        mixed(batch)["arsa"], mixed(padded)["arsa"], rtol=0.005
    )  # as released: statistics hold padding


def test_the_order_of_the_batch_is_of_no_account():
    model, batch = model_of(), distinct_batch()
    for name, value in model(rows(batch, [2, 0, 3, 1])).items():
        torch.testing.assert_close(value, model(batch)[name], rtol=1e-4, atol=1e-4)
    assert released_region_order(batch["report_attn"].sum(dim=1)).tolist() != [0, 1, 2, 3]
    mixed = model_of(fixes=ASGFixes(own_regions=False))
    assert not torch.allclose(
        mixed(batch)["arsa"], model(batch)["arsa"], rtol=0.005
    )  # as released: another study's regions


def test_positions_as_released_do_not_see_the_order_of_words():
    batch = batch_of(tokens=6)
    ids, attn = batch["report_ids"], torch.ones_like(batch["report_attn"])
    ids[:] = torch.tensor([2, 6, 7, 8, 9, 10])
    for fixes, is_same in ((ASGFixes(), False), (ASGFixes(word_order=False), True)):
        model = model_of(fixes=fixes).eval()
        there, back = (model.embed_texts(i, attn) for i in (ids, ids[:, [0, 5, 4, 3, 2, 1]]))
        assert torch.allclose(there, back, atol=1e-5) == is_same


def test_what_a_trained_model_offers():
    model, batch = model_of().eval(), batch_of()
    tokens = model.encode_patches(batch["image"])
    assert tokens.shape == (4, 4, 4, 4, 48)
    patches = model.project_patches(tokens)
    torch.testing.assert_close(patches.norm(dim=-1), torch.ones(4, 4, 4, 4))
    organs = model.organ_embed(batch["image"], batch["organ_mask"])
    fractions = organ_fractions(batch["organ_mask"], 3, (8, 8, 4))
    torch.testing.assert_close(organs, pool_mean(patches.flatten(1, 3), fractions))
    study, text = model.image_embed(batch["image"]), model.embed_texts(batch["report_ids"], batch["report_attn"])
    assert study.shape == text.shape == (4, 16)
    torch.testing.assert_close(study.norm(dim=-1), torch.ones(4))


def test_sentences_are_the_mean_of_their_words():
    model, batch = model_of().eval(), batch_of()
    ids, attn = batch["report_ids"], batch["report_attn"]
    read = model.text_encoder_q(ids, attn)
    whole = model.embed_sentences(ids, attn)
    torch.testing.assert_close(whole[0], read.local[0, read.words.is_real[0]].mean(dim=0))
    parts = model.embed_sentences(ids, attn, batch["report_sent"])
    of_word = label_words(batch["report_sent"], read.words.number)
    assert len(parts) == sum(len(set(row.tolist()) - {0}) for row in of_word)
    first = of_word[0] == 1
    torch.testing.assert_close(parts[0], read.local[0, first].mean(dim=0))


def test_one_study_needs_layer_norm():
    batch = batch_of(1)
    with pytest.raises(ConfigError, match=r"heads\.norm"):
        model_of()(batch)
    assert model_of(heads=HeadConfig(64, 16, "layer"))(batch)["total"].isfinite()


def test_configs_survive_their_file_and_refuse_nonsense():
    for config in (released(), paper(), config_of()):
        assert config_from_json(ASGConfig, config_to_json(config)) == config
    with pytest.raises(ConfigError, match="widths"):
        replace(paper(), text=replace(paper().text, width=384))
    with pytest.raises(ConfigError, match="tags"):
        replace(paper(), tags=("a", "a"))
    with pytest.raises(ConfigError, match="negative"):
        ASGWeights(ira=-1)


# ------------------------------------------------------------------------- processes


def losses_and_gradients(model: ASG, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    losses = model(batch)
    losses["total"].backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    running = {name: value for name, value in model.named_buffers() if "running" in name}
    return {name: value.detach() for name, value in (losses | gradients | running).items()}


def half_of_the_batch(rank: int) -> dict[str, Tensor]:
    return losses_and_gradients(model_of(), rows(distinct_batch(), [2 * rank, 2 * rank + 1]))


def test_two_processes_train_as_one(tmp_path: Path):
    """What they average is what one process with all studies computes: losses, gradients, running statistics."""
    one = losses_and_gradients(model_of(), distinct_batch())
    first, second = run_ranks(2, half_of_the_batch, tmp_path)
    weights = [name for name, _ in model_of().named_parameters()]
    largest = max(one[name].norm() for name in weights)
    for name, value in one.items():
        mean = (first[name] + second[name]) / 2
        if name in weights:  # batch statistics blow rounding up; before them a bias has no gradient but rounding
            assert (mean - value).norm() <= 0.01 * value.norm() + 1e-4 * largest, name
        else:
            torch.testing.assert_close(mean, value, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: n + m)
