"""Every golden tensor of the published ASG code; sizes, names and tolerances come from the fixture's JSON."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from asap_golden import check_gradient_norms
from asg_golden import CONTINUATIONS, QUERIES, AsgGolden, load_asg, our_name
from torch import Tensor, nn

from core.models.asg import ASG, Regions, published_weights
from core.models.asg_config import ASGFixes, released
from core.models.asg_flat import FlatASG
from core.models.asg_losses import (
    block_mask,
    region_sentence_contrast,
    region_sentence_scores,
    released_region_order,
    retrieval_accuracy,
    soften_pairs,
    tag_cosine,
    tag_loss,
)
from core.models.bert import EPS
from core.models.contrast import Contrast, contrast
from core.models.vit import VisionConfig

AS_RELEASED = ASGFixes(word_order=False, own_regions=True, padding_masked=False)
"""The fixture holds the position defect; its boxes belong to their own pictures."""
LOSSES = ("ira", "arsa", "irl", "erl")


@pytest.fixture(scope="module")
def golden(fixtures: Path) -> AsgGolden:
    return load_asg(fixtures / "asg")


class Outputs:
    """Everything the fixture stores of one forward pass, under the fixture's names."""

    def __init__(self, model: ASG, batch: dict[str, Tensor]) -> None:
        self.model, self.batch = model, batch
        seen = model.img_encoder_q(batch["image"])
        read = model.text_encoder_q(batch["report_ids"], batch["report_attn"])
        matched = model.match_regions(batch, seen, read)
        config, scores = model.config, seen.study @ read.study.T / model.config.temperature
        soft = tag_cosine(batch["tags"])
        self.values = {
            "vit_tokens": seen.tokens,
            "text_states": read.states,
            "image_global": seen.study,
            "patch_local": seen.patches,
            "report_feat": read.words.report,
            "word_feat": read.words.vectors,
            "word_local": read.local,
            "report_global": read.study,
            "sentence_feat": matched.sentences,
            "region_feat": matched.regions,
            "scores": scores,
            "arsa_scores": region_sentence_scores(
                matched.regions, matched.sentences, matched.valid, config.temperature
            ),
            "tag_logits": model.irl(seen.memory),
            "tag_targets": (batch["tags"] == 1).long(),
            "soft_label": soft,
            "final_label": soften_pairs(soft, config.tag_share),
            "acc1": retrieval_accuracy(scores, 1),
            "acc5": retrieval_accuracy(scores, 5),
        }
        self.add_losses(matched)

    def add_losses(self, matched: Regions) -> None:
        values, count = self.values, len(self.batch["image"])
        slots = torch.eye(matched.valid.shape[1]).expand(count, -1, -1)
        ira = contrast(values["scores"], torch.eye(count))
        arsa = region_sentence_contrast(values["arsa_scores"], slots, matched.valid)
        erl = contrast(values["scores"], values["final_label"], kind="symkl")
        for name, pair, ends in (
            ("ira", ira, ("i2t", "t2i")),
            ("arsa", arsa, ("region2sentence", "sentence2region")),
            ("erl", erl, ("i2t", "t2i")),
        ):
            self.add_directions(name, pair, ends)
        values["loss_irl"] = tag_loss(values["tag_logits"], self.batch["tags"], ignore_unmentioned=False)
        whole = self.model(self.batch)
        values |= {f"loss_{name}": whole[name] for name in LOSSES} | {"total": whole["total"]}

    def add_directions(self, name: str, pair: Contrast, ends: tuple[str, str]) -> None:
        for end, value in zip(ends, pair, strict=True):
            self.values[f"loss_{name}_{end}"] = value


def check_all(golden: AsgGolden, values: dict[str, Tensor], prefix: str) -> None:
    """Every stored tensor of one pass: those whose name begins with `prefix` and has no other."""
    stored = [name for name in golden.expected if name.startswith(prefix)]
    stored = [name for name in stored if "." not in name.removeprefix(prefix)]
    assert stored
    for name in stored:
        golden.check(name, values[name.removeprefix(prefix)])


def check_scalars(golden: AsgGolden, values: dict[str, Tensor], key: str, prefix: str) -> None:
    """The numbers that the description repeats, with the tolerance of the tensors they are."""
    rule = golden.about["tolerance"]
    for name, wanted in golden.about[key].items():
        assert values[name].item() == pytest.approx(
            wanted, rel=rule["losses"]["rtol"], abs=rule["atol"].get(prefix + name, 1e-5)
        ), name


def test_every_tensor_with_running_statistics(golden: AsgGolden):
    values = Outputs(golden.model(AS_RELEASED), golden.batch()).values
    check_all(golden, values, "")
    check_scalars(golden, values, "scalars", "")


def test_every_tensor_with_ordinary_positions(golden: AsgGolden):
    fixes = ASGFixes(word_order=True, own_regions=True, padding_masked=False)
    values = Outputs(golden.model(fixes), golden.batch()).values
    check_all(golden, values, "positions.")
    check_scalars(golden, values, "scalars_positions", "positions.")


def test_every_tensor_with_batch_statistics(golden: AsgGolden):
    """The statistics move at every pass, so they are read after the first one; batch statistics do not depend on it."""
    model = golden.model(AS_RELEASED).train()
    batch = golden.batch()
    model.img_encoder_q(batch["image"])
    model.text_encoder_q(batch["report_ids"], batch["report_attn"])
    moved = {name: value.clone() for name, value in model.state_dict().items()}
    running = [name for name in golden.expected if name.startswith("trainbn.running.")]
    assert running
    for name in running:
        golden.check(name, moved[name.removeprefix("trainbn.running.")])
    values = Outputs(model, batch).values
    check_all(golden, values, "trainbn.")
    check_scalars(golden, values, "scalars_train_bn", "trainbn.")


def test_every_stored_tensor_is_compared(golden: AsgGolden):
    golden.compared.clear()
    test_every_tensor_with_running_statistics(golden)
    test_every_tensor_with_ordinary_positions(golden)
    test_every_tensor_with_batch_statistics(golden)
    assert golden.compared == set(golden.expected) == set(golden.about["expected"])


def test_block_mask_and_its_labels(golden: AsgGolden):
    model, batch = golden.model(AS_RELEASED), golden.batch()
    with torch.no_grad():
        read = model.text_encoder_q(batch["report_ids"], batch["report_attn"])
    valid = (model.find_words(batch, read.words) > 0).any(dim=-1)
    assert valid.sum(dim=1).tolist() == golden.about["config"]["counts"]
    assert torch.equal(block_mask(valid), golden.inputs["count_matrixs"])
    own = torch.arange(valid.shape[1]).expand_as(valid)
    assert torch.equal(torch.where(valid, own, -100), golden.inputs["count_labels"])


def test_gradients(golden: AsgGolden):
    model, about = golden.model(AS_RELEASED), golden.about["gradients"]
    model(golden.batch())["total"].backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    without = sorted(name for name, gradient in gradients.items() if gradient is None)
    assert without == sorted(our_name(name) for name in about["without_gradient"])
    assert sorted(gradients) == sorted({our_name(n) for n in [*about["norms"], *about["without_gradient"]]})
    by_published = {name: gradients[our_name(name)] for name in about["norms"]}
    check_gradient_norms(by_published, about["norms"], golden.about["tolerance"]["gradients"]["rtol"])
    assert set(golden.gradients) == set(about["stored"])
    for name in about["stored"]:
        golden.check_gradient(name, gradients[our_name(name)])


def test_the_loader_pools_regions_from_other_studies(golden: AsgGolden):
    told = golden.about["released_collate_defect"]
    order = released_region_order(torch.tensor(told["caption_lengths"]))
    assert order.tolist() == told["image_after_sort"]  # row of the sorted batch -> study
    # Row i of the sorted batch holds the regions numbered told[i], and reads that row of the sorted batch.
    read = [told["image_after_sort"][row] for row in told["region_batch_index_after_sort"]]
    assert [int(order[study]) for study in told["image_after_sort"]] == read
    model, batch = golden.model(ASGFixes(False, False, False)), golden.batch()
    source = released_region_order(batch["report_attn"].sum(dim=1))
    seen = model.img_encoder_q(batch["image"])
    mixed = model.match_regions(batch, seen, model.text_encoder_q(batch["report_ids"], batch["report_attn"]))
    shares = model.pool_regions(batch, seen.patches[source])
    torch.testing.assert_close(mixed.regions, shares)
    if not torch.equal(source, torch.arange(len(source))):
        assert not torch.allclose(mixed.regions, golden.expected["region_feat"], atol=1e-3)


def test_epsilons_are_the_published_ones(golden: AsgGolden):
    """No tolerance would notice these."""
    model = golden.model(AS_RELEASED)
    norms = {name: module.eps for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    assert {eps for name, eps in norms.items() if name.startswith("img_encoder_q.model")} == {1e-6}
    assert {eps for name, eps in norms.items() if name.startswith("text_encoder_q.model")} == {EPS}
    assert {eps for name, eps in norms.items() if name.startswith("irl")} == {1e-5}
    heads = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    assert {(head.eps, head.momentum) for head in heads} == {(1e-5, 0.1)}


def test_every_published_name_and_shape_at_full_size(shared: Path):
    """The layout leaves the text encoder out, whose names are BERT's."""
    rows = [line.split("\t") for line in (shared / "specs/layouts/asg_model.tsv").read_text().splitlines()]
    shapes = {row[0]: [int(n) for n in row[1].split("x") if n.isdecimal()] for row in rows if len(row) == 3}
    wanted = published_weights({name: torch.zeros(shape, device="meta") for name, shape in shapes.items()})
    vision = VisionConfig((224, 224, 1), (16, 16, 1), channels=3, learned_positions=True)
    tags = tuple(f"tag {number}" for number in range(40))
    with torch.device("meta"):
        model = FlatASG(replace(released(), vision=vision, tags=tags, organs=23))
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    computed = [name for name in found if name.startswith("text_encoder_q.model.") or name in (QUERIES, CONTINUATIONS)]
    assert {name: found[name] for name in found if name not in computed} == {
        n: tuple(v.shape) for n, v in wanted.items()
    }
