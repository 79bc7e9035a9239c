"""What ASG takes from its text encoder and vocabulary before training: pieces of words, weights, tag queries."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core.errors import CheckpointError
from core.models.asg import ASG
from core.models.bert import BertConfig
from core.models.checkpoint import compare_names, load_strictly
from core.models.text import BertBody
from core.models.tokens import ReportTokenizer

_LAYER = re.compile(r"encoder\.layer\.(\d+)\.")
LONGEST_TAG = 32
"""Tokens of a tag's name that are read."""


def start_text(model: ASG, tokenizer: ReportTokenizer, weights: Mapping[str, Tensor] | None = None) -> None:
    """Tell `model` how words are cut into pieces, load a text encoder, and embed the names of its tags for good.

    weights: a BERT, its names with or without "bert." in front. It may have more layers than the model's, which takes
    the first ones; all of them embed the tags (ASG spec 4). With None the model keeps its own weights and its random
    tag queries, because an untrained encoder knows nothing of names.
    """
    own = model.text_encoder_q
    flags = tokenizer.continuations()
    own.continues[: len(flags)] = flags
    if weights is None:
        return
    whole = read_body(weights, model.config.text)
    own.model.load_state_dict({name: whole.state_dict()[name] for name in own.model.state_dict()})
    model.irl.set_queries(embed_names(whole, tokenizer, model.config.tags))


def read_body(weights: Mapping[str, Tensor], config: BertConfig) -> BertBody:
    """The BERT of a file, as deep as the file; refuses one that is shallower than `config` or does not fit it."""
    body = {name.removeprefix("bert."): value for name, value in weights.items() if "embeddings" in name}
    body |= {name.removeprefix("bert."): value for name, value in weights.items() if _LAYER.search(name)}
    depth = 1 + max((int(found[1]) for found in map(_LAYER.search, body) if found), default=-1)
    if depth < config.depth:
        raise CheckpointError(
            f"The text weights have {depth} layers, the model's encoder {config.depth}; expected at least as many. "
            "Choose a deeper text encoder, or fewer layers with --model."
        )
    whole = BertBody(replace(config, depth=depth))
    known = compare_names(whole, body).matched
    load_strictly(whole, {name: body[name] for name in known}, "The file of text weights")
    return whole


@torch.no_grad()
def embed_names(body: BertBody, tokenizer: ReportTokenizer, names: Sequence[str]) -> Tensor:
    """Last hidden state of [CLS] for each name, without dropout: (K, D)."""
    ids, attn = tokenizer.encode_prompts(names, LONGEST_TAG)
    was_training = body.training
    device = body.embeddings.word_embeddings.weight.device
    states = body.eval()(ids.to(device), attn.to(device))
    body.train(was_training)
    return states[:, 0]
