"""Organs against what a report says of them, organ by organ over the whole batch (fVLM spec 5; ViSD-Boost stage 3)."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from core.errors import ConfigError
from core.models.contrast import Gather, TargetRule, contrast, pair_targets

EmbedTexts = Callable[[Tensor, Tensor], Tensor]
"""ids (N, T) int64, attn (N, T) bool -> unit vectors (N, E)."""


class OrganLabels(NamedTuple):
    """What is known of the organs of some samples."""

    intact: Tensor  # (B, O) bool, True = in the crop and not cut off by it
    abnormal: Tensor  # (B, O) int8, 1 = abnormal, 0 = normal, -1 = unknown
    text_id: Tensor  # (B, O) int64, equal for equal texts


class Comparison(NamedTuple):
    """One organ whose samples are told apart in this step."""

    organ: int  # 0-based
    samples: Tensor  # (n,) int64: those with the organ intact, of all processes
    abnormal: Tensor  # (n,) bool
    targets: Tensor  # (n, n) float32, rows sum to 1
    counts: bool  # False = left out here: as released, where this process has no such sample


def plan_comparisons(labels: OrganLabels, gather: Gather, rule: TargetRule) -> list[Comparison]:
    """Which organs are compared: those with an abnormal sample anywhere and with samples that differ.

    The same on all processes but for `counts`. labels are this process's.
    """
    known = torch.stack([labels.intact.long(), labels.abnormal.long(), labels.text_id], dim=-1)
    intact, abnormal, text_id = gather(known).unbind(-1)
    told = torch.stack([intact, intact * (abnormal == 1)]).any(dim=1).cpu()  # one wait for the device
    own = intact[gather.own].any(dim=0).cpu()
    comparisons = []
    for organ in told.all(dim=0).nonzero()[:, 0].tolist():
        samples = intact[:, organ].nonzero()[:, 0]
        targets = pair_targets(text_id[samples, organ], abnormal[samples, organ], rule)
        if bool((targets == targets[0, 0]).all()):  # one sample, or none that differs from another
            continue
        counts = gather.mode == "full_grad" or bool(own[organ])
        comparisons.append(Comparison(organ, samples, abnormal[samples, organ] == 1, targets, counts))
    return comparisons


def wanted_texts(labels: OrganLabels, comparisons: Iterable[Comparison]) -> Tensor:
    """Whose texts have to be read: (B, O) bool, True = intact here and its organ is compared."""
    compared = torch.zeros_like(labels.intact)
    for comparison in comparisons:
        compared[:, comparison.organ] = True
    return labels.intact & compared


def embed_organ_texts(batch: Mapping[str, Tensor], wanted: Tensor, embed: EmbedTexts, once: bool) -> Tensor:
    """Text vectors of the wanted (sample, organ) pairs, zeros elsewhere: -> (B, O, E).

    batch: organ_ids (B, O, T) int64, organ_attn (B, O, T) bool, organ_text_id (B, O) int64. once: equal texts are read
    once, the same maths but for dropout, whose noise they then share; most texts are the same template. With nothing
    wanted one text is read all the same: processes that share shards of the weights must call the same modules.
    """
    sample, organ = wanted.nonzero(as_tuple=True)
    if not len(sample):
        sample = organ = torch.zeros(1, dtype=torch.int64, device=wanted.device)
    ids, attn = batch["organ_ids"][sample, organ], batch["organ_attn"][sample, organ]
    which = torch.arange(len(ids), device=ids.device)
    if once:
        which, first = _first_of_each(batch["organ_text_id"][sample, organ])
        ids, attn = ids[first], attn[first]
    longest = max(1, int(attn.sum(dim=1).max()))
    vectors = embed(ids[:, :longest], attn[:, :longest])[which]
    return vectors.new_zeros(*wanted.shape, vectors.shape[-1]).index_put((sample, organ), vectors)


def compare(images: Tensor, texts: Tensor, comparison: Comparison, gather: Gather, temperature: Tensor) -> Tensor:
    """Similarities over the temperature, image x text, of one organ's samples: -> (n, n) float32.

    images, texts (B, E): unit vectors of this process's samples, any value where the organ is not intact.
    """
    everyone = gather(torch.cat([images, texts], dim=-1).float())[comparison.samples]
    of_image, of_text = everyone.chunk(2, dim=-1)
    return of_image @ of_text.T / temperature


def organ_loss(logits: Tensor, targets: Tensor, back_targets: Tensor | None = None) -> Tensor:
    """Half of both directions of the soft-target cross-entropy: logits, targets (n, n) -> ()."""
    both = contrast(logits, targets, back_targets)
    return (both.image_to_text + both.text_to_image) / 2


def require_organs(batch: Mapping[str, Tensor], organs: int) -> None:
    """Refuse a batch whose organ fields are for another number of organs."""
    for name in ("organ_ids", "organ_abnormal", "organ_text_id"):
        if batch[name].shape[1] != organs:
            raise ConfigError(
                f"{name} is of {batch[name].shape[1]} organs; the model has {organs}. Use the same organ map for both."
            )


def _first_of_each(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """For numbers (P,): which distinct one each is (P,), and where each distinct one (U,) first occurs."""
    distinct, which = numbers.unique(return_inverse=True)
    places = torch.arange(len(numbers), device=numbers.device)
    return which, places.new_full((len(distinct),), len(numbers)).scatter_reduce(0, which, places, "amin")
