from dataclasses import replace

import pytest
import torch
from einops import rearrange
from tiny_two_scale import WORDS, random_batch, tiny_two_scale

from core.errors import ConfigError
from core.models.asap import ASAP
from core.models.asap_file import load_asap, save_asap
from core.models.backbone import Backbone, find_encoder
from core.models.checkpoint import config_from_json, config_to_json
from core.models.tokens import train_wordpiece
from core.models.two_scale import TwoScaleASAP, asked_kinds, build_asap, shares_of


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_asap(tiny_two_scale())


def test_a_config_with_a_pyramid_makes_a_model_of_two_scales(model):
    assert isinstance(model, TwoScaleASAP)
    plain = replace(tiny_two_scale(), pyramid=None)
    assert type(build_asap(plain)) is ASAP
    assert config_from_json(type(plain), config_to_json(tiny_two_scale())) == tiny_two_scale()


def test_every_trained_weight_gets_a_gradient(model):
    losses = model.train()(random_batch())
    losses["total"].backward()
    wanted = {"reconstruction", "injection", "alignment", "study", "language", "place", "extent", "presence"}
    assert wanted | {"kinds", "structures"} <= set(losses)
    silent = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert silent == ["grounding_scale", "grounding_bias"] or not silent
    model.zero_grad()


def test_image_losses_that_are_settled_early_leave_the_same_gradients(model):
    found = []
    for model.settles_early in (False, True):
        torch.manual_seed(5)
        losses = model.train()(random_batch())
        losses["total"].backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
        model.zero_grad(set_to_none=True)
    model.settles_early = False
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-7, msg=name)


def test_scores_are_products_with_the_cells_vectors(model):
    batch = random_batch()
    with torch.no_grad():
        _, cells = model.eval().look(batch["image"])
        claims = model.embed_claims(batch["asked_ids"][1], batch["asked_attn"][1])
        vectors = model.embed_cells(cells)
        rows = tuple(rearrange(part[1], "e x y z -> (x y z) e") for part in (cells.fine, cells.middle))
        scores = model.scores(rows, (8, 8, 8), claims)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2, 16, 16, 16))
    torch.testing.assert_close(claims.norm(dim=-1), torch.ones(4))
    torch.testing.assert_close(scores, claims @ vectors[1].flatten(0, 2).T, atol=1e-5, rtol=1e-4)


def test_patches_are_embedded_as_by_the_convolution(model):
    images = model.split(random_batch()["image"])
    with torch.no_grad():
        torch.testing.assert_close(
            model.embed_patches(images), super(TwoScaleASAP, model).embed_patches(images), atol=1e-5, rtol=1e-4
        )


def test_windows_stretch_their_range_and_clip_the_rest(model):
    images = torch.tensor([-1.0, -0.6, -0.2, 0.25, 1.0]).reshape(1, 1, 5, 1, 1)
    lung, soft = model.split(images)[0, :, :, 0, 0]
    torch.testing.assert_close(lung, torch.tensor([-1.0, 0.0, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(soft, torch.tensor([-1.0, -1.0, 2 * (-0.04 / 0.41) - 1, 1.0, 1.0]).clamp(-1, 1))


def test_claims_of_padding_change_nothing(model):
    batch = random_batch()
    with torch.no_grad():
        before = model.eval()(batch | {"draw_seed": torch.arange(2)})
        batch["asked_ids"] = batch["asked_ids"].clone()
        batch["asked_ids"][:, 3] = 7
        after = model(batch | {"draw_seed": torch.arange(2)})
    assert before["place"] == after["place"]
    assert before["presence"] == after["presence"]


def test_regions_become_shares_and_nowhere_is_empty():
    regions = torch.tensor([[8, 4, 0], [0, 0, 2]], dtype=torch.uint8)
    shares = shares_of(regions, torch.tensor([1, -1, 0], dtype=torch.int16))
    assert shares.tolist() == [[0, 0, 0.25], [0, 0, 0], [1, 0.5, 0]]


def test_kinds_that_nobody_knows_are_not_asked_about():
    kinds = torch.tensor([-1, 0, -2, -1, 1, -2], dtype=torch.int16)
    assert set(asked_kinds(kinds).tolist()) == {0, 1, 3, 4}


def test_a_half_precision_file_gives_nearly_the_same_cells(model, tmp_path):
    tokenizer = train_wordpiece(["a nodule in the left lung"], WORDS)
    save_asap(tmp_path / "model.safetensors", model, tokenizer, {}, torch.float16)
    loaded = load_asap(tmp_path / "model.safetensors").model
    images = random_batch()["image"]
    with torch.no_grad():
        before, after = (one.embed_cells(one.look(images)[1]) for one in (model.eval(), loaded))
    assert (before * after).sum(dim=-1).min() > 0.999


def test_its_transformer_alone_can_be_taken_for_fine_tuning(model):
    start, config = find_encoder(model)
    assert (start, config.vit) == ("", model.config.vision)
    backbone = Backbone(config)
    assert backbone.last_tokens(random_batch()["image"]).patches.shape == (2, 2, 2, 2, 24)


def test_patches_of_another_size_and_windows_without_channels_are_refused():
    config = tiny_two_scale()
    with pytest.raises(ConfigError, match="patches of 16"):
        replace(config, vision=replace(config.vision, patch_size=(8, 8, 8)))
    with pytest.raises(ConfigError, match="each of 2 channels"):
        replace(config.vision, windows=((-1.0, 1.0),))
