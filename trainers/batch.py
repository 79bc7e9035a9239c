"""The one batch that datasets make and recipes read: names, shapes, dtypes, padding.

A dataset item has the shapes below without the leading B, and `study_id` as a str. Axes: B studies, T report tokens,
F findings tokens, S sentences, Q questions of W tokens and V traits, O organs of the view's organ map with U tokens of
text each (T, F, S, Q, W, U may differ between studies: `collate` pads them), X Y Z voxels towards R, A, S, I J H voxels
of a finer volume, E features and C labels of a study, A = 3 axes, L = gx*gy*gz patches counted x-major (index = (x*gy +
y)*gz + z), R regions, M cells of 2x2x2 voxels counted x-major, N kinds of finding. An absent input is an absent key,
never None.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError

Sample = Mapping[str, Tensor | str]
Batch = dict[str, Tensor | list[str]]

IGNORE = -100
"""Label of a token that the masked-language loss leaves out."""


class Field(NamedTuple):
    """One tensor of the batch, without its leading B."""

    dims: str  # axis letters; one size each over all tensors of a batch
    dtype: torch.dtype
    pad: float = 0  # fills T, F and S of shorter studies
    meaning: str = ""


FIELDS: dict[str, Field] = {
    "feature": Field("E", torch.float32, meaning="what a frozen encoder says of the whole study"),
    "label": Field("C", torch.float32, meaning="1 = the label is true of the study, 0 = it is not"),
    "label_class": Field("", torch.int64, meaning="number of the study's only right class"),
    "voxel_class": Field("XYZ", torch.uint8, meaning="class of each voxel, 0 = background"),
    "draw_seed": Field("", torch.int64, meaning="seed of the draws that a model makes for this study in this step"),
    "image": Field("1XYZ", torch.float32, meaning="HU clipped and scaled linearly to [-1, 1]"),
    "organ_mask": Field("XYZ", torch.uint8, meaning="organ class per voxel, 0 = background"),
    "image_v2": Field("1XYZ", torch.float32, meaning="the same crop as image, flipped and brightened by chance"),
    "organ_mask_v2": Field("XYZ", torch.uint8, meaning="organ_mask with the flips of image_v2"),
    "organ_ids": Field("OU", torch.int64, meaning="tokens of what is said of each organ, [CLS] first, 0 = padding"),
    "organ_attn": Field("OU", torch.bool, meaning="True = real token"),
    "organ_text_id": Field("O", torch.int64, meaning="hash of the organ's whole text: equal for equal texts"),
    "organ_abnormal": Field("O", torch.int8, meaning="1 abnormal, 0 normal, -1 unknown"),
    "findings_ids": Field("F", torch.int64, meaning="tokens of the findings, [CLS] first, 0 = padding"),
    "findings_attn": Field("F", torch.bool, meaning="True = real token"),
    "findings_sent": Field("F", torch.int16, meaning="sentence number 1..S per token, 0 = none"),
    "report_ids": Field("T", torch.int64, meaning="tokens of the whole report (findings + impression), [CLS] first"),
    "report_attn": Field("T", torch.bool, meaning="True = real token"),
    "report_sent": Field("T", torch.int16, meaning="sentence number 1..S per report token, 0 = none"),
    "mlm_in": Field("T", torch.int64, meaning="report_ids with masked tokens replaced by [MASK]"),
    "mlm_labels": Field("T", torch.int64, IGNORE, meaning="original id at masked real tokens, -100 elsewhere"),
    "mlm_weight": Field("T", torch.float32, meaning="what each token counts in the language loss; sums to T"),
    "report_entity": Field("T", torch.bool, meaning="True = token of a word about a finding"),
    "sr_corner": Field("A", torch.int16, meaning="first patch (x, y, z) of the window that is super-resolved"),
    "image_hr": Field("1IJH", torch.float32, meaning="that window in a finer volume, values as in image"),
    "crop_start": Field("A", torch.int32, meaning="voxel (x, y, z) of the volume where the crop begins, before flips"),
    "crop_flipped": Field("A", torch.bool, meaning="True = the crop was reversed along x, y, z after cutting"),
    "sentence_target": Field("SL", torch.float32, meaning="fraction of patch l inside sentence s's true region"),
    "sentence_target_valid": Field("S", torch.bool, meaning="True = the region is known (all zero = truly absent)"),
    "sent_organ": Field("SO", torch.bool, meaning="True = sentence s of the report speaks about organ o of organ_mask"),
    "tags": Field("K", torch.int8, meaning="-1 = denied, 0 = not mentioned, 1 = present, in the order of the model's"),
    "asked_ids": Field("QW", torch.int64, meaning="tokens of claims that stand alone, [CLS] first, 0 = padding"),
    "asked_attn": Field("QW", torch.bool, meaning="True = real token"),
    "asked_traits": Field("QV", torch.float32, meaning="what each claim says, columns of core.report.traits.TRAITS"),
    "asked_target": Field("QL", torch.float32, meaning="as sentence_target; all zero = the claim is false"),
    "asked_valid": Field("Q", torch.bool, meaning="True = a claim, False = padding"),
    "asked_region": Field("Q", torch.int16, -1, "where the claim is true, row of region_cells; -1 = nowhere"),
    "region_cells": Field("RM", torch.uint8, meaning="voxels of each cell inside region r"),
    "kind_region": Field("N", torch.int16, meaning="region of each kind of finding; -1 = not there, -2 = unknown"),
    "cell_class": Field("M", torch.uint8, meaning="structure class of each cell, 0 = none of them"),
}

PADDED = frozenset("TFSQWUR")
WORDS = ("study_id", "trouble", "note")
"""Entries that are words, a list of B str: which study it is, what was wrong with one that it stands in for, and what a
person should know of it although it is used."""

ASAP_REQUIRES = (
    "image organ_mask findings_ids findings_attn findings_sent report_ids report_attn mlm_in mlm_labels".split()
)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack dataset items into a batch, padding T, F and S to the longest; refuses items with different keys."""
    keys = set(samples[0])
    for sample in samples[1:]:
        if set(sample) != keys:
            raise ConfigError(
                f"Studies of one batch offer different inputs ({sorted(keys ^ set(sample))} not in all). "
                "Give every study the same files, or leave that input out for all."
            )
    longest = _longest(samples)
    batch: Batch = {key: [str(sample.get(key, "")) for sample in samples] for key in WORDS}
    for key in sorted(keys - set(WORDS)):
        batch[key] = torch.stack([_padded(key, sample[key], longest) for sample in samples])
    return batch


def check_batch(batch: Mapping[str, object], requires: Iterable[str] = ASAP_REQUIRES) -> None:
    """Refuse a batch that lacks an input, or has one of the wrong dtype, rank or size; names the culprit."""
    missing = [key for key in requires if key not in batch]
    if missing:
        raise ConfigError(
            f"The batch lacks {', '.join(missing)}; it has {', '.join(sorted(batch))}. "
            "Add the missing files to the data folder (masks/ for organ_mask, reports.csv for the text)."
        )
    sizes: dict[str, tuple[int, str]] = {}
    for key, value in batch.items():
        if isinstance(value, Tensor) and key in FIELDS:
            _check_field(key, value, sizes)
    for key in ("findings_attn", "report_attn"):
        attention = batch.get(key)
        if isinstance(attention, Tensor) and not bool(attention[:, 0].all()):
            raise ConfigError(f"{key} hides the first token of a study; expected [CLS] there, seen by all.")


def _check_field(key: str, value: Tensor, sizes: dict[str, tuple[int, str]]) -> None:
    field = FIELDS[key]
    dims = "B" + field.dims
    if value.dtype != field.dtype or value.ndim != len(dims):
        expected = f"{field.dtype} of axes ({', '.join(dims)})"
        raise ConfigError(f"{key} is {value.dtype} of shape {tuple(value.shape)}; expected {expected}.")
    for dim, size in zip(dims, value.shape, strict=True):
        wanted, first = sizes.setdefault(dim, (1 if dim == "1" else size, key))
        if size != wanted:
            raise ConfigError(f"Axis {dim} of {key} has size {size}; expected {wanted} as in {first}.")


def _longest(samples: Sequence[Sample]) -> dict[str, int]:
    """The largest size of each axis that may be padded."""
    longest: dict[str, int] = {}
    for sample in samples:
        for key, value in sample.items():
            if isinstance(value, Tensor) and key in FIELDS:
                for dim, size in zip(FIELDS[key].dims, value.shape, strict=True):
                    longest[dim] = max(size, longest.get(dim, 0))
    return longest


def _padded(key: str, value: Tensor | str, longest: Mapping[str, int]) -> Tensor:
    """`value` with its T, F and S axes grown to the longest of the batch."""
    if not isinstance(value, Tensor) or key not in FIELDS:
        raise ConfigError(f"Unknown batch entry {key!r}; expected one of {', '.join(FIELDS)}.")
    field = FIELDS[key]
    amount: list[int] = []
    for dim, size in reversed(list(zip(field.dims, value.shape, strict=True))):  # F.pad counts from the last axis
        amount += [0, longest[dim] - size if dim in PADDED else 0]
    return F.pad(value, amount, value=field.pad)
