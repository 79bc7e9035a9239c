"""fVLM's behaviour on eight small studies: what is compared, who learns from whom, what is refused."""

from dataclasses import replace
from functools import cache
from math import log
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.errors import ConfigError
from core.models.abnormal_pairs import AbnormalPairs, add_similar, mix_predictions
from core.models.checkpoint import config_from_json, config_to_json
from core.models.contrast import hash_text
from core.models.fvlm import FVLM, rename_published
from core.models.fvlm_config import FVLMConfig, paper, released, tiny
from core.models.tokens import ReportTokenizer, train_wordpiece
from core.report.organ_statement import assemble_statement

FINDINGS = ["a nodule", "an effusion", "emphysema", "a mass", "", "", "fibrosis", "a cyst"]


@cache
def words() -> ReportTokenizer:
    return train_wordpiece([*FINDINGS, "lung heart shows no significant abnormalities"], 200)


def config(**changes: object) -> FVLMConfig:
    return replace(tiny(words().vocab_size), organs=("lung", "heart"), **changes)


def studies(findings: list[str] = FINDINGS) -> dict[str, Tensor]:
    """The lung is a box whose brightness tells the finding; the heart, always normal, lies beside it."""
    draws = torch.Generator().manual_seed(0)
    image = torch.rand(len(findings), 1, 32, 32, 16, generator=draws) * 0.1
    mask = torch.zeros(len(findings), 32, 32, 16, dtype=torch.uint8)
    mask[:, 2:14, 2:30, 2:14], mask[:, 16:30, 4:28, 4:12] = 1, 2
    for index, box in enumerate(image):
        box[0, 2:14, 2 + 3 * index : 6 + 3 * index, 2:14] += 1.0 if findings[index] else 0.0
    told = [[assemble_statement("lung", "", f), assemble_statement("heart", "", "")] for f in findings]
    ids, attn = words().encode_closed([s.spoken for pair in told for s in pair], 64)
    return {
        "image": image,
        "organ_mask": mask,
        "organ_ids": ids.unflatten(0, (-1, 2)),
        "organ_attn": attn.unflatten(0, (-1, 2)),
        "organ_text_id": torch.tensor([[hash_text(s.full) for s in pair] for pair in told]),
        "organ_abnormal": torch.tensor([[s.is_abnormal for s in pair] for pair in told]).to(torch.int8),
    }


def model_of(**changes: object) -> FVLM:
    torch.manual_seed(0)
    return FVLM(config(**changes))


def test_an_organ_that_is_normal_in_all_studies_has_no_loss_and_no_gradient():
    model, batch = model_of(), studies()
    losses = model(batch)
    losses["total"].backward()
    assert losses["lung"] > 0
    assert losses["heart"] == 0
    assert losses["total"] == losses["lung"]
    assert model.pool.vision_projs[1].weight.grad is None
    assert not model.pool.query_tokens.grad[1].any()


def test_a_batch_that_says_nothing_has_a_loss_of_zero_that_can_be_run_backwards():
    model = model_of()
    losses = model(studies([""] * 8))
    assert losses["total"] == 0
    losses["total"].backward()
    assert not model.text_proj.bias.grad.any()
    assert model.visual_encoder.pos_embed.grad is None


def test_an_organ_at_the_border_is_left_out():
    model, batch = model_of().eval(), studies()
    batch["organ_mask"][3, 2, 2, 0] = 1  # study 3's lung now touches a face
    others = [0, 1, 2, 4, 5, 6, 7]
    lesson = model.plan(batch)
    assert lesson.comparisons[0].samples.tolist() == others
    without = model({name: value[others] for name, value in batch.items()})
    torch.testing.assert_close(model(batch)["total"], without["total"])
    batch["organ_mask"][:] = 0
    assert model(batch)["total"] == 0


def test_order_and_padding_do_not_matter():
    model, batch = model_of().eval(), studies()
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    shuffled = {name: value[order] for name, value in batch.items()}
    torch.testing.assert_close(model(shuffled)["total"], model(batch)["total"])
    for name in ("organ_ids", "organ_attn"):
        batch[name] = torch.nn.functional.pad(batch[name], (0, 9))
    torch.testing.assert_close(model(batch)["total"], model(shuffled)["total"])


def test_an_unknown_state_counts_as_neither():
    model, batch = model_of().eval(), studies(["a nodule", "", ""])
    batch["organ_abnormal"][1, 0] = -1
    targets = model.plan(batch).comparisons[0].targets
    assert targets.tolist() == [[1, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]]  # equal texts all the same
    batch["organ_text_id"][1, 0] = 5
    assert model.plan(batch).comparisons[0].targets.tolist() == torch.eye(3).tolist()
    batch["organ_abnormal"][0, 0] = -1
    assert not model.plan(batch).comparisons


def fit(kind: str, steps: int) -> float:
    """Loss on the eight studies after some steps."""
    model, batch = model_of(abnormal=AbnormalPairs(kind, share=0.2)), studies()
    model.set_stage("train")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        model.train()(batch)["total"].backward()
        optimizer.step()
        model.after_step()
    return model.eval()(batch)["total"].item()


SPLIT = 6 / 8 * log(6) + 2 / 8 * log(2)
"""Loss of a model that tells abnormal from normal and nothing else; 8 studies it cannot tell apart: ln 8 = 2.08."""


def test_eight_studies_are_told_apart():
    assert fit("none", 60) < 0.6 * SPLIT


@pytest.mark.parametrize("kind", ["coteach", "ema_self", "text_ema"])
def test_corrected_targets_still_teach(kind):
    assert fit(kind, 50) < 1.1 * SPLIT


def test_co_teaching_trains_its_two_models_in_turn():
    model, batch = model_of(abnormal=AbnormalPairs("coteach")), studies()
    assert not torch.equal(model.text_proj.weight, model.twin.text_proj.weight)
    for learns, teaches in ((model, model.twin), (model.twin, model)):
        model.zero_grad()
        model(batch)["total"].backward()
        assert learns.visual_encoder.norm.weight.grad.any()
        assert teaches.visual_encoder.norm.weight.grad is None
        assert teaches.training
        model.after_step()
    assert model.steps == 2
    torch.testing.assert_close(model.eval()(batch)["total"], model_of()(batch)["total"])


def test_co_teachings_models_may_share_the_encoders_they_start_from():
    model = model_of(abnormal=AbnormalPairs("coteach", same_encoders=True))
    model.set_stage("train")
    for part in ("visual_encoder", "text_encoder"):
        own, other = getattr(model, part).state_dict(), getattr(model.twin, part).state_dict()
        assert all(torch.equal(value, other[name]) for name, value in own.items())
    assert not torch.equal(model.text_proj.weight, model.twin.text_proj.weight)


def test_a_teachers_share_grows_over_the_ramp():
    model, batch = model_of(abnormal=AbnormalPairs("ema_self", share=0.5, ramp_steps=2)), studies()
    model.set_stage("train")
    plain = model.eval()(batch)["total"].item()
    totals = []
    for _ in range(4):
        totals.append(model.train()(batch)["total"].item())
        model.after_step()
    assert totals[0] == pytest.approx(plain)
    assert totals[1] != pytest.approx(totals[2])
    assert totals[2] == pytest.approx(totals[3])


def test_slow_copies_start_as_what_they_follow_and_keep_to_their_momentum():
    model = model_of(abnormal=AbnormalPairs("text_ema", momentum=0.75))
    slow, fast = model.text_teacher.text_proj.weight, model.text_proj.weight
    assert not slow.requires_grad
    model.set_stage("train")
    assert torch.equal(slow, fast)
    with torch.no_grad():
        fast += 1.0
    model.after_step()
    torch.testing.assert_close(slow, fast - 0.75)


def test_predictions_are_mixed_into_rows_and_columns_of_abnormal_samples_only():
    targets, abnormal = torch.eye(3), torch.tensor([True, False, True])
    mixed = mix_predictions(targets, torch.zeros(3, 3), abnormal, 0.5)
    assert mixed.tolist() == [[0.75, 0, 0.25], [0, 1, 0], [0.25, 0, 0.75]]
    assert torch.equal(mix_predictions(targets, torch.randn(3, 3), abnormal, 0.0), targets)


def test_texts_that_are_alike_become_positives_of_abnormal_samples():
    found = add_similar(torch.eye(3), torch.zeros(3, 3), torch.tensor([True, False, True]))
    third = torch.tensor([[1, 0, 1 / 3], [0, 1, 0], [1 / 3, 0, 1]])
    torch.testing.assert_close(found, third / third.sum(dim=1, keepdim=True))


def test_reading_equal_texts_once_changes_nothing_but_dropouts_noise():
    batch = studies(["a nodule", "a nodule", "", ""])
    losses = [model_of(texts_once=once).eval()(batch)["total"] for once in (False, True)]
    torch.testing.assert_close(losses[0], losses[1])


def test_a_batch_for_other_organs_is_refused():
    with pytest.raises(ConfigError, match="organ_ids is of 2 organs; the model has 4"):
        FVLM(tiny(words().vocab_size))(studies())


@pytest.mark.parametrize(
    "wrong", [{"organs": ()}, {"organs": ("lung", "lung")}, {"pool_heads": 5}, {"embed": 0}, {"pool_dropout": 1.0}]
)
def test_impossible_configs_are_refused(wrong):
    with pytest.raises(ConfigError):
        replace(tiny(100), **wrong)
    with pytest.raises(ConfigError):
        AbnormalPairs(share=1.5)


def test_configs_survive_their_file():
    for settings in (released(), paper(), tiny(77)):
        assert config_from_json(FVLMConfig, config_to_json(settings)) == settings


def test_names_and_shapes_are_those_of_the_published_file(shared: Path):
    rows = (shared / "specs" / "layouts" / "fvlm_model.tsv").read_text().splitlines()
    table = [row.split("\t") for row in rows if row and not row.startswith("#")]
    sizes = {name: [] if shape == "scalar" else [int(n) for n in shape.split("x")] for name, shape, _ in table}
    published = {rename_published(name): shape for name, shape in sizes.items()}
    published.pop(None, None)
    with torch.device("meta"):
        model = FVLM(released())
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == published
    assert sum(p.numel() for p in model.visual_encoder.parameters()) == 92_294_400


def test_names_that_nothing_reads_have_no_place():
    for name in ("cls.predictions.bias", "embeddings.token_type_embeddings.weight", "embeddings.position_ids"):
        assert rename_published(f"text_encoder.{name}") is None
