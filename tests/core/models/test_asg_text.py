"""Vocabulary, text weights and tag queries of ASG before training."""

from dataclasses import replace

import pytest
import torch

from core.errors import CheckpointError
from core.models.asg import ASG
from core.models.asg_config import tiny
from core.models.asg_text import embed_names, start_text
from core.models.text import TextEncoder
from core.models.tokens import train_wordpiece

TAGS = ("Pleural effusion", "Cardiomegaly", "fracture")
TOKENIZER = train_wordpiece(["Pleural effusion. Cardiomegaly. A fracture."], 200)


def model_of() -> ASG:
    torch.manual_seed(0)
    return ASG(replace(tiny(TOKENIZER.vocab_size + 3), tags=TAGS))  # some rows of the vocabulary stay free


def test_the_model_learns_which_pieces_go_on():
    model = model_of()
    queries = model.irl.tag_queries.clone()
    start_text(model, TOKENIZER)
    flags = model.text_encoder_q.continues
    pieces = TOKENIZER.tokens(range(TOKENIZER.vocab_size))
    assert flags.tolist() == [piece.startswith("##") for piece in pieces] + [False] * 3
    assert any(flags)
    assert torch.equal(model.irl.tag_queries, queries)


def test_a_deeper_text_encoder_embeds_the_tags_and_lends_its_first_layers():
    model = model_of()
    torch.manual_seed(1)
    whole = TextEncoder(replace(model.config.text, depth=4, dropout=0.3), 8)  # with heads that nobody needs
    start_text(model, TOKENIZER, whole.state_dict())
    for name, value in model.text_encoder_q.model.state_dict().items():
        assert torch.equal(value, whole.bert.state_dict()[name]), name
    expected = torch.cat([whole.eval()(*TOKENIZER.encode_prompts([tag], 32))[:, 0] for tag in TAGS])
    torch.testing.assert_close(model.irl.tag_queries, expected, rtol=1e-4, atol=1e-5)  # padding of shorter names hidden
    assert not torch.allclose(embed_names(model.text_encoder_q.model, TOKENIZER, TAGS), expected, atol=1e-3)
    assert model.irl.tag_queries.requires_grad is False


def test_text_weights_that_do_not_fit_are_refused():
    model = model_of()
    shallow = TextEncoder(replace(model.config.text, depth=1)).state_dict()
    with pytest.raises(CheckpointError, match="1 layers, the model's encoder 2"):
        start_text(model, TOKENIZER, shallow)
    narrow = TextEncoder(replace(model.config.text, width=24)).state_dict()
    with pytest.raises(CheckpointError, match="does not fit"):
        start_text(model, TOKENIZER, narrow)
    with pytest.raises(CheckpointError, match="0 layers"):
        start_text(model, TOKENIZER, {"something": torch.zeros(2)})
