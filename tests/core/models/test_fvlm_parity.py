"""Every golden tensor of the published fVLM; sizes and names come from the fixture's JSON."""

import json
from pathlib import Path

import pytest
import torch
from asap_golden import check_gradient_norms
from fvlm_golden import FVLMGolden, load_fvlm, to_xyz
from gloo_ranks import run_ranks
from safetensors.torch import load_file
from torch import Tensor

from core.models.contrast import contrast
from core.models.fvlm import rename_published
from core.models.organ_pool import organ_intact
from core.models.organ_scores import can_judge, place_window, prompt_probabilities


@pytest.fixture(scope="module")
def golden(fixtures: Path) -> FVLMGolden:
    return load_fvlm(fixtures / "fvlm")


def by_published_name(named: dict[str, Tensor | None], golden: FVLMGolden) -> dict[str, Tensor | None]:
    """Our tensors under the names of the published file; None for those that have no counterpart here."""
    return {name: named.get(rename_published(name) or "") for name in golden.weights}


def test_encoder_levels_and_tokens_axis_by_axis(golden):
    model, encoder = golden.model(), golden.model().visual_encoder
    with torch.no_grad():
        golden.check("patch_embedding", encoder.embed_patches(golden.image))
        levels = encoder(golden.image)
        for number, level in enumerate(levels):
            golden.check(f"hidden_level_{number}", level)
        # On the outside patches are counted x, y, z; the published rows are z, y, x.
        patches = model.encode_patches(golden.image)
        golden.check(f"hidden_level_{len(levels) - 1}", patches.permute(0, 3, 2, 1, 4).flatten(1, 3))


def test_the_unresized_position_table(golden):
    encoder, blocks = golden.model().visual_encoder, golden.expected["table.blocks"]
    z, y, x = golden.about["config"]["patch"]
    volume = blocks.repeat_interleave(z, 0).repeat_interleave(y, 1).repeat_interleave(x, 2)
    with torch.no_grad():
        golden.check("table.embedding", encoder.embed_patches(to_xyz(volume)[None, None]))


def test_organ_flags_are_exact(golden):
    model, vision = golden.model(), golden.config().vision
    intact = organ_intact(vision.turn(golden.mask), len(golden.organs))
    golden.check("organ_intact", intact)
    golden.check("organ_token_flags", model.flag_tokens(golden.mask) & intact[..., None])
    abnormal = golden.batch()["organ_abnormal"] == 1
    golden.check("organ_abnormal_flags", abnormal)
    golden.check("organ_status", (intact & abnormal).sum(dim=0))


def test_texts_flags_and_tokens_are_exact(golden):
    told, statements = golden.about["text_assembly"], golden.statements()
    for column, organ in enumerate(golden.organs):
        assert [study[column].full for study in statements] == told["text"][organ]
    assert [[s.is_abnormal for s in study] for study in statements] == told["abnormal"]
    batch = golden.batch()
    for organ, facts in golden.about["per_organ"].items():
        if not facts["evaluated"]:
            continue
        column, samples = golden.organs.index(organ), golden.expected[f"{organ}.patients"]
        assert [statements[b][column].full for b in samples] == facts["texts"]
        assert [statements[b][column].spoken for b in samples] == facts["encoded_texts"]
        length = golden.about["config"]["max_txt_len"]
        for ours, name in (("organ_ids", "text_ids"), ("organ_attn", "text_attention")):
            rows = batch[ours][samples, column]
            golden.check(f"{organ}.{name}", torch.nn.functional.pad(rows, (0, length - rows.shape[1])))


@pytest.mark.parametrize("once", [False, True])
def test_losses_organ_by_organ(golden, once):
    model, batch = golden.model(texts_once=once), golden.batch()
    with torch.no_grad():
        lesson = model.plan(batch)
        flags = model.flag_tokens(golden.mask) & lesson.labels.intact[..., None]
        pooled, texts = model.pool_organs(golden.image, flags), model.embed_wanted(lesson)
        logits = model.similarities(lesson)
        losses = model(batch)
    evaluated = [organ for organ, facts in golden.about["per_organ"].items() if facts["evaluated"]]
    assert [golden.organs[c.organ] for c in lesson.comparisons] == evaluated
    atol = golden.about["tolerance"]["losses"]["atol"]
    for comparison, similarity in zip(lesson.comparisons, logits, strict=True):
        organ, samples = golden.organs[comparison.organ], comparison.samples
        golden.check(f"{organ}.patients", samples)
        golden.check(f"{organ}.pooled", pooled[samples, comparison.organ])
        golden.check(f"{organ}.image_feat", model.pool.project(pooled[samples, comparison.organ], comparison.organ))
        golden.check(f"{organ}.text_feat", texts[samples, comparison.organ])
        golden.check(f"{organ}.logits_i2t", similarity)
        golden.check(f"{organ}.targets", comparison.targets)
        facts, both = golden.about["per_organ"][organ], contrast(similarity, comparison.targets)
        assert both.image_to_text.item() == pytest.approx(facts["loss_i2t"], abs=atol)
        assert both.text_to_image.item() == pytest.approx(facts["loss_t2i"], abs=atol)
        assert losses[organ].item() == pytest.approx(facts["loss"], abs=atol)
    for organ in set(golden.organs) - set(evaluated):
        assert losses[organ].item() == 0
    assert losses["total"].item() == pytest.approx(golden.about["scalars"]["total_loss"], abs=atol)


@pytest.mark.parametrize("once", [False, True])
def test_gradients_of_every_parameter(golden, once):
    model = golden.model(texts_once=once)
    model(golden.batch())["total"].backward()
    found = by_published_name({name: p.grad for name, p in model.named_parameters()}, golden)
    told = golden.about["gradients"]
    for name in told["without_gradient"]:
        assert found[name] is None, name
    rule = golden.about["tolerance"]["gradients"]
    trained = {name for name, value in found.items() if value is not None}
    assert trained == set(told["norms"])
    check_gradient_norms(found, told["norms"], rule["rtol"])
    assert set(told["stored"]) == set(golden.gradients)
    for name in told["stored"]:
        golden.check_gradient(name, found[name], golden.gradients[name])


def test_zero_shot_scores(golden):
    model, told = golden.model(), golden.about["zero_shot"]
    checked = 0
    for number, (_, _, *prompts) in enumerate(told["items"]):
        ids, attn = golden.tokenizer.encode_closed(prompts, golden.about["config"]["max_txt_len"])
        with torch.no_grad():
            golden.check(f"zero_shot.text.{number}", model.embed_texts(ids, attn))
    for case, facts in told["cases"].items():
        sample = slice(facts["sample"], facts["sample"] + 1)
        sizes = torch.tensor([[facts["whole_organ_sizes"][organ] for organ in golden.organs]])
        judged = can_judge(golden.mask[sample], sizes, facts["skip_organ"])[0]
        names = [organ for organ, yes in zip(golden.organs, judged, strict=True) if yes]
        assert sorted(names) == sorted(facts["organs_scored"])
        with torch.no_grad():
            vectors = model.organ_embed({"image": golden.image[sample], "organ_mask": golden.mask[sample]})[0]
        for organ in names:
            golden.check(f"zero_shot.case{case}.{organ}.feat", vectors[golden.organs.index(organ)][None])
        for number, item in enumerate(told["items"]):
            want = facts["probability"]["|".join(item)]
            assert (want is None) == (item[0] not in names)
            if want is not None:
                texts = golden.expected[f"zero_shot.text.{number}"]
                organ = vectors[golden.organs.index(item[0])]
                got = prompt_probabilities(organ, texts, model.temperature.value.item())
                assert got.tolist() == pytest.approx(want, abs=golden.about["tolerance"]["probabilities"]["atol"])
                checked += 1
    assert checked


def test_every_stored_tensor_is_compared(golden):
    """The box of the organs belongs to the preprocessing: test_organ_box_parity.py."""
    golden.compared.clear()
    test_encoder_levels_and_tokens_axis_by_axis(golden)
    test_the_unresized_position_table(golden)
    test_organ_flags_are_exact(golden)
    test_texts_flags_and_tokens_are_exact(golden)
    test_losses_organ_by_organ(golden, False)
    test_zero_shot_scores(golden)
    elsewhere = {name for name in golden.expected if name.startswith("organ_box.")} | {"table.blocks"}
    assert golden.compared == set(golden.expected) - elsewhere
    assert set(golden.expected) == set(golden.about["expected"]) | {"organ_abnormal_flags"}


def test_evaluation_windows(golden):
    for case in golden.about["evaluation_crops"]["cases"]:
        box = case["organ_box_half_open"]
        first, last = tuple(box[::2]), tuple(stop - 1 for stop in box[1::2])
        start, size = place_window(first, last, tuple(case["volume"]), tuple(case["crop_size"]))
        assert (list(start), list(size)) == (case["start"], case["size"])


def train_on_rank(rank: int, folder: str) -> dict[str, Tensor]:
    """Loss and gradients of one process's share of the studies."""
    golden = load_fvlm(Path(folder))
    counts = json.loads((Path(folder) / "two_rank.json").read_text())["samples_per_rank"]
    first = sum(counts[:rank])
    model = golden.model()
    losses = model({name: value[first : first + counts[rank]] for name, value in golden.batch().items()})
    losses["total"].backward()
    found = by_published_name({name: p.grad for name, p in model.named_parameters()}, golden)
    gradients = {f"gradient.{name}": value for name, value in found.items() if value is not None}
    return gradients | {name: value.detach() for name, value in losses.items()}


def test_two_processes(golden, fixtures, tmp_path):
    """Features are gathered without gradient: what comes through them is halved, the temperature's gradient is not."""
    told = json.loads((fixtures / "fvlm" / "two_rank.json").read_text())
    want = load_file(fixtures / "fvlm" / told["files"]["gradients"])
    ranks = run_ranks(len(told["samples_per_rank"]), train_on_rank, tmp_path, str(fixtures / "fvlm"))
    for rank, losses, total in zip(ranks, told["organ_loss_per_rank"], told["loss_per_rank"], strict=True):
        assert rank["total"].item() == pytest.approx(total, abs=told["tolerance"]["losses"])
        for name, value in losses.items():
            assert rank[name.removesuffix("_itc")].item() == pytest.approx(value, abs=told["tolerance"]["losses"])
    whole = golden.model()
    whole(golden.batch())["total"].backward()
    full = by_published_name({name: p.grad for name, p in whole.named_parameters()}, golden)
    assert set(told["gradients"]) == set(want) == set(told["projection_on_full_batch_gradient"])
    for name in told["gradients"]:
        parts = [rank.get(f"gradient.{name}", torch.zeros_like(want[name])) for rank in ranks]
        mean = sum(parts) / len(ranks)
        golden.check_gradient(name, mean, want[name])
        share = (mean * full[name]).sum() / full[name].square().sum()
        assert share.item() == pytest.approx(told["projection_on_full_batch_gradient"][name], abs=1e-3), name
