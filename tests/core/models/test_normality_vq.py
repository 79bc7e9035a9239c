"""The normality VQ-VAE: published numbers, sets that do not touch each other, the codebook's averages, lesions."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gloo_ranks import run_ranks
from visd_golden import VisdGolden, load_visd

from core.errors import ConfigError
from core.models.codebook import Codebook, CodebookConfig, DebiasedAverage
from core.models.normality_vq import LEAST_RANGE, NormalityConfig, NormalityVQ, normalise_sets
from core.models.organ_pool import organ_tokens
from core.models.resnet3d import LEVEL_STRIDES
from core.models.token_sets import TokenSets, token_sets

TINY = NormalityConfig(
    hidden=12, code_width=16, heads=2, head_width=6, mlp_width=20, dropout=0.0, codebook=CodebookConfig(8)
)


@pytest.fixture(scope="module")
def golden(fixtures: Path) -> VisdGolden:
    return load_visd(fixtures / "visd")


def sets_of(*sizes: int, width: int = 5, seed: int = 0) -> TokenSets:
    torch.manual_seed(seed)
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return token_sets(torch.randn(sum(sizes), width), owner, len(sizes))


# ------------------------------------------------------------------ published numbers


def test_every_step_of_every_case_is_the_published_one(golden):
    """All scored organs of a case at once, as sets of different sizes."""
    about, model = golden.about, golden.normality()
    with torch.no_grad():
        top = golden.resnet()(golden.images)[-1]
        for case, told in about["cases"].items():
            organs = [about["organs"].index(name) for name in told["organs_scored"]]
            flags = organ_tokens(golden.mask, len(about["organs"]), LEVEL_STRIDES[-1])[told["sample"], organs]
            owner, place = flags.nonzero(as_tuple=True)
            sets = token_sets(top[told["sample"]][place], owner, len(organs))
            found = model(sets, torch.tensor(organs))
            for number, name in enumerate(told["organs_scored"]):
                own, all_own = sets.owner == number, found.encoder_in.owner == number
                steps = {
                    "level4_in": sets.values[own],
                    "minimum": found.normalised.minimum[number],
                    "range": found.normalised.range[number],
                    "encoder_in": found.encoder_in.values[all_own],
                    "z": found.latent[own],
                    "codes": found.quantised.codes[own],
                    "quantised": found.quantised.vectors[own],
                    "recon_normalised": found.decoded[own],
                    "recon": found.restored[own],
                }
                for step, tensor in steps.items():
                    golden.check(f"case{case}.{name}.{step}", tensor)


def test_successive_updates_of_the_codebook_are_the_published_ones(golden):
    told = golden.about["vq_update"]
    book = golden.codebook().train()
    steps = sorted({name.split(".")[0] for name in golden.expected if name.startswith("vq")})
    assert steps
    for step in steps:
        tokens = golden.expected[f"{step}.input"].clone().requires_grad_()
        flat = tokens.flatten(0, 1)
        found = book(flat, torch.zeros(len(flat), dtype=torch.int64))
        loss = told["commitment"] * (flat - found.vectors).square().mean()
        passed = found.passed.view_as(tokens)
        (loss + (passed * golden.expected[f"{step}.grad_weight"]).sum()).backward()
        used = found.codes.unique()
        results = {
            "codes": found.codes,
            "quantised": passed,
            "loss": loss,
            "input_grad": tokens.grad,
            "used_codes": used,
            "embeddings_used": book.embeddings[used],
            "embeddings_sum": book.embeddings.sum(),
            "ema_count": book.ema_cluster_size.hidden,
            "ema_sum_used": book.ema_dw.hidden[used],
        }
        for name, value in results.items():
            golden.check(f"{step}.{name}", value)


# ------------------------------------------------------------------ sets


def test_sets_neither_see_each_other_nor_their_padding():
    torch.manual_seed(0)
    model = NormalityVQ(TINY, organs=2, width=5).eval()
    both, organ = sets_of(3, 7), torch.tensor([1, 0])
    with torch.no_grad():
        together = model(both, organ)
        for number in (0, 1):
            own = both.owner == number
            alone = token_sets(both.values[own], torch.zeros(int(own.sum()), dtype=torch.int64), 1)
            torch.testing.assert_close(model(alone, organ[number : number + 1]).restored, together.restored[own])


def test_an_anatomy_is_known_by_its_number():
    torch.manual_seed(0)
    model = NormalityVQ(TINY, organs=2, width=5).eval()
    sets = sets_of(4)
    first, second = (model(sets, torch.tensor([organ])).latent for organ in (0, 1))
    assert not torch.allclose(first, second, atol=1e-3)


def test_loss_weighs_sets_and_not_tokens():
    """A set of one token counts as much as one of 99."""
    torch.manual_seed(0)
    model = NormalityVQ(TINY, organs=1, width=5).eval()
    sets = sets_of(1, 99)
    found = model(sets, torch.tensor([0, 0]))
    per_token = (found.normalised.values - found.decoded).square().mean(dim=1) / TINY.data_variance
    expected = (per_token[0] + per_token[1:].mean()) / 2
    assert float(model.losses(found, sets)["reconstruction"]) == pytest.approx(float(expected))


def test_padding_and_unpadding_are_inverse():
    sets = sets_of(2, 5, 1)
    padded = sets.pad(sets.values)
    assert padded.shape == (3, 5, 5)
    assert sets.is_real().sum(dim=1).tolist() == [2, 5, 1]
    assert not padded[~sets.is_real()].any()
    assert torch.equal(sets.unpad(padded), sets.values)
    more = sets.with_first(torch.full((3, 5), 9.0))
    assert more.values[more.place == 0].eq(9).all()
    assert more.sizes().tolist() == [3, 6, 2]
    assert all(torch.equal(a, b) for a, b in zip(more.without_first()[:3], sets[:3], strict=True))


def test_no_set_at_all_gives_zero_losses_that_can_be_followed_back():
    model = NormalityVQ(TINY, organs=2, width=5).train()
    before = model.vq_layer.embeddings.clone()
    nothing = token_sets(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), 0)
    losses = model.losses(model(nothing, torch.zeros(0, dtype=torch.int64)), nothing)
    total = losses["reconstruction"] + losses["commitment"]
    total.backward()
    assert float(total) == 0
    assert torch.equal(model.vq_layer.embeddings, before)
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


# ------------------------------------------------------------------ min-max


def test_min_max_can_be_undone_and_spans_each_set():
    sets = sets_of(4, 6)
    found = normalise_sets(sets)
    for number in (0, 1):
        own = found.values[sets.owner == number]
        assert float(own.min()) == -0.5
        assert float(own.max()) == pytest.approx(0.5)
    torch.testing.assert_close(found.undo(found.values, sets.owner), sets.values)


def test_constant_tokens_stay_finite_and_come_back():
    sets = token_sets(torch.full((3, 5), 7.0), torch.zeros(3, dtype=torch.int64), 1)
    found = normalise_sets(sets)
    assert found.range.tolist() == pytest.approx([LEAST_RANGE])
    assert found.values.eq(-0.5).all()
    torch.testing.assert_close(found.undo(found.values, sets.owner), sets.values)
    restored = NormalityVQ(TINY, organs=1, width=5).eval()(sets, torch.tensor([0])).restored
    torch.testing.assert_close(restored, sets.values, atol=1e-3, rtol=0)


# ------------------------------------------------------------------ codebook


def test_codes_after_one_update_are_the_centroids():
    torch.manual_seed(0)
    book = Codebook(CodebookConfig(4, epsilon=1e-9), organs=1, width=3).train()
    book.embeddings.copy_(torch.eye(4, 3) * 10)
    tokens = torch.tensor([[9.0, 1, 0], [11, 0, 0], [0, 8, 0]])
    codes = book(tokens, torch.zeros(3, dtype=torch.int64)).codes
    assert codes.tolist() == [0, 0, 1]
    torch.testing.assert_close(book.embeddings[:2], torch.tensor([[10.0, 0.5, 0], [0, 8, 0]]))


@pytest.mark.parametrize(("unused", "stays"), [("keep", True), ("zero", False)])
def test_unused_codes_stay_unless_as_released(unused, stays):
    book = Codebook(CodebookConfig(4, unused=unused), organs=1, width=3).train()
    before = book.embeddings.clone()
    used = book(torch.randn(1, 3), torch.zeros(1, dtype=torch.int64)).codes
    others = torch.arange(4) != used
    assert torch.equal(book.embeddings[others], before[others] if stays else torch.zeros(3, 3))


def test_an_organ_keeps_to_its_block_only_when_told():
    whole, own = (Codebook(CodebookConfig(2, own_block=flag), organs=2, width=1).eval() for flag in (False, True))
    tokens, organ = torch.tensor([[0.0], [0.0]]), torch.tensor([0, 1])
    for book, codes in ((whole, [0, 0]), (own, [0, 3])):
        book.embeddings.copy_(torch.tensor([[0.0], [5.0], [4.0], [1.0]]))
        assert book(tokens, organ).codes.tolist() == codes


def test_a_code_that_nobody_chooses_is_put_on_a_token():
    torch.manual_seed(0)
    tokens, organ = torch.tensor([[5.0, 5.0], [5.2, 5.0]]), torch.zeros(2, dtype=torch.int64)
    books = [Codebook(CodebookConfig(6, reseed_below=share), organs=1, width=2).train() for share in (0.0, 0.1)]
    left = [int((torch.cdist(book.embeddings, tokens).amin(1) > 1).sum()) for book in books if book(tokens, organ)]
    assert left == [5, 3]  # each token takes one code


def test_no_two_codes_are_put_on_one_token():
    """Rounding would decide which of two equal codes is nearest, and two processes would not take the steps of one."""
    book, tokens = draw_book()
    for _ in range(3):
        book(tokens[:5], torch.zeros(5, dtype=torch.int64))
    assert len(book.embeddings.unique(dim=0)) == 12


def follow_a_share(rank: int) -> dict[str, torch.Tensor]:
    """Process 0 brings five of the tokens, process 1 the other three, process 2 none."""
    rows = [slice(0, 5), slice(5, 8), slice(0, 0)][rank]
    book, tokens = draw_book()
    book(tokens[rows], torch.zeros(len(tokens[rows]), dtype=torch.int64))
    return book.state_dict()


def draw_book() -> tuple[Codebook, torch.Tensor]:
    torch.manual_seed(0)
    return Codebook(CodebookConfig(12, reseed_below=1e-9), organs=1, width=3).train(), torch.randn(8, 3)


def test_processes_share_one_book(tmp_path):
    book, tokens = draw_book()
    book(tokens, torch.zeros(8, dtype=torch.int64))
    for found in run_ranks(3, follow_a_share, tmp_path):
        torch.testing.assert_close(found, book.state_dict())


def test_the_book_stays_in_evaluation():
    book = Codebook(CodebookConfig(4), organs=1, width=3).eval()
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book(torch.randn(9, 3), torch.zeros(9, dtype=torch.int64))
    torch.testing.assert_close(book.state_dict(), before)


def test_an_average_continues_after_loading_with_and_without_its_count():
    """Published files lack the count: an average that is not zero is then taken as old."""
    mean = DebiasedAverage((2,), 0.9)
    mean.update(torch.tensor([1.0, 3.0]))
    state = mean.state_dict()
    resumed, published, fresh = (DebiasedAverage((2,), 0.9) for _ in range(3))
    resumed.load_state_dict(state)
    published.load_state_dict({"hidden": state["hidden"]})
    fresh.load_state_dict({"hidden": torch.zeros(2)})
    assert resumed.corrected().tolist() == pytest.approx([1, 3])
    assert published.corrected().tolist() == pytest.approx([0.1, 0.3])
    assert (int(resumed.counter), int(fresh.counter)) == (1, 0)


# ------------------------------------------------------------------ what it is for


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small operations are faster so, the more the machine has to do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.training
@pytest.mark.usefixtures("one_thread")
def test_a_lesion_is_restored_worse_than_normal_tokens():
    """Normal tokens come from three places; the lesion lies within their range, but at none of them."""
    torch.manual_seed(0)
    book = CodebookConfig(8, decay=0.9, reseed_below=0.1)
    model = NormalityVQ(replace(TINY, codebook=book), organs=1, width=4).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def draw(lesion: bool) -> TokenSets:
        tokens = torch.eye(3, 4).repeat(4, 1) + 0.05 * torch.randn(12, 4)
        if lesion:
            tokens[5] = torch.tensor([0.8, 0, 0, 0.8])
        return token_sets(tokens, torch.zeros(12, dtype=torch.int64), 1)

    for _ in range(100):
        sets = draw(lesion=False)
        losses = model.losses(model(sets, torch.tensor([0])), sets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    with torch.no_grad():
        anomaly = model.eval()(draw(lesion=True), torch.tensor([0])).anomaly
    assert float(anomaly[5]) > 2 * float(anomaly[torch.arange(12) != 5].max())


@pytest.mark.parametrize("wrong", [{"heads": 0}, {"data_variance": 0.0}, {"dropout": 1.0}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ConfigError, match="must be above 0"):
        replace(TINY, **wrong)


def test_impossible_codebooks_are_refused():
    with pytest.raises(ConfigError, match="decay"):
        CodebookConfig(decay=1.0)
