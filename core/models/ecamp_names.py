"""ECAMP's published names and ours, and what of its two-dimensional weights a model of volumes can use."""

from collections.abc import Mapping

from torch import Tensor

PUBLISHED_NAMES: tuple[tuple[str, str | None], ...] = (
    ("decoder_pred.", "decoder_pred_layer."),
    ("bert_encoder.model.bert.embeddings.position_ids", None),  # computed here
    ("bert_encoder.model.bert.embeddings.", "text_embeddings."),
    ("bert_encoder.model.bert.pooler.", None),  # no computation reads it
    ("bert_encoder.model.bert.context_fusion_layer.", "bert_decoder.bert.fusion_layer."),
    ("bert_encoder.model.bert.cross_attn_layer.", "bert_decoder.bert.fusion_layer."),  # in older files
    ("bert_encoder.model.bert.encoder.", "bert_decoder.bert.encoder."),
    ("bert_encoder.model.cls.", "bert_decoder.cls."),
)
"""Beginning of a published name -> ours, None = left out; other names are the same."""

FLAT_KERNELS = ("patch_embed.proj.weight", "super_res.conv1.weight", "super_res.conv2.weight")
"""Convolutions over pictures; here they are one voxel deep."""

VOLUME_PARTS = (
    "blocks.",
    "norm.",
    "bert_mlp.",
    "bert_decoder.bert.",
    "bert_decoder.cls.predictions.transform.",
)
"""Beginnings of our names that a model of volumes takes from one of pictures (spec 7, recipes_common 9): the encoder's
blocks and the text decoder, but nothing that depends on voxels, on the grid or on the vocabulary."""


def published_names(name: str) -> str | None:
    """Our name of a published weight; None = it has no place here."""
    for published, ours in PUBLISHED_NAMES:
        if name.startswith(published):
            return None if ours is None else ours + name.removeprefix(published)
    return name


def published_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published two-dimensional weights under our names and shapes."""
    kept = {}
    for name, value in tensors.items():
        ours = published_names(name)
        if ours is not None:
            kept[ours] = value[..., None] if ours in FLAT_KERNELS and value.ndim == 4 else value
    return kept


def volume_name(name: str) -> str | None:
    """Our name of a published weight that a model of volumes can take, None for all others."""
    ours = published_names(name)
    return ours if ours is not None and ours.startswith(VOLUME_PARTS) else None
