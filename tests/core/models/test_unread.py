"""Weights that nothing reads take no memory until they are loaded."""

import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from core.models.asap import ASAP
from core.models.asap_config import RELEASED_FIXES, tiny
from core.models.unread import leave_untouched

STATUS = Path("/proc/self/statm")


@pytest.mark.skipif(not STATUS.is_file(), reason="needs Linux")
def test_untouched_weights_are_not_resident_until_they_are_written() -> None:
    layer = nn.Embedding(20_000, 500)  # 40 MB
    leave_untouched(layer)
    before = _resident_bytes()
    assert not layer.weight.any()  # read, not written
    assert _resident_bytes() - before < 20e6
    with torch.no_grad():
        layer.weight.copy_(torch.ones(()).expand_as(layer.weight))
    assert _resident_bytes() - before > 35e6


def test_only_what_nothing_reads_is_untouched() -> None:
    model = ASAP(replace(tiny(60), fixes=RELEASED_FIXES))
    empty = {name for name, weight in model.named_parameters() if weight.ndim >= 2 and not weight.any()}
    unread = {name for name in empty if name.startswith(("bert_decoder.bert.embeddings", "bert_decoder.bert.pooler"))}
    rest = empty - unread
    assert "bert_decoder.bert.embeddings.word_embeddings.weight" in unread
    assert rest <= {
        "bert_topk_mlp.weight",
        "bert_encoder.cls.predictions.transform.dense.weight",
        "bert_encoder.cls_projection_head.dense_to_hidden.weight",
        "bert_encoder.cls_projection_head.dense_to_output.weight",
    }


def _resident_bytes() -> int:
    return int(STATUS.read_text().split()[1]) * resource.getpagesize()
