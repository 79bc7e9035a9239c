"""Names and shapes of the published checkpoint, at full size, without allocating it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.models.asap import ASAP
from core.models.asap_config import RELEASED_FIXES, corrected, released


@pytest.fixture(scope="module")
def layout(shared: Path) -> dict[str, list[int]]:
    return json.loads((shared / "specs" / "asap_state_dict_shapes.json").read_text())["shapes"]


def test_every_name_and_shape_is_the_published_one(layout):
    with torch.device("meta"):
        model = ASAP(released())
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == layout
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    unique = sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in model.buffers())
    assert (round(trained / 1e6, 1), round(unique / 1e6, 1)) == (206.2, 320.1)


def test_corrected_only_leaves_unused_weights_out(layout):
    with torch.device("meta"):
        model = ASAP(replace(corrected(), fixes=replace(RELEASED_FIXES, no_unused_weights=True)))
    missing = set(layout) - set(model.state_dict())
    assert set(model.state_dict()) <= set(layout)
    parts = ("bert_encoder.cls", "bert_topk_mlp", "bert_decoder.bert.embeddings", "bert_decoder.bert.pooler")
    assert missing
    assert all(name.startswith(parts) for name in missing)
