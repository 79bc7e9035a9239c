"""Finding the report of a volume among all reports, and the other way round (ASAP spec 6.6)."""

import re
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from core.report.sentences import split_sentences

DEPTHS = (1, 5, 10, 50)


def recall_at(
    queries: Tensor,
    gallery: Tensor,
    query_owners: Sequence[Hashable],
    gallery_owners: Sequence[Hashable],
    depths: Sequence[int] = DEPTHS,
) -> dict[int, float]:
    """Depth -> share of the queries (Q, E) with an item of their own owner among the nearest of the gallery (G, E).

    Nearest by cosine. Owners are studies: reconstructions of one study share its report, and each of them is a right
    answer. The published code gives each volume an owner of its own (`range(N)`): they then push each other out.
    Raises ConfigError where owners do not fit.
    """
    if len(query_owners) != len(queries) or len(gallery_owners) != len(gallery) or not len(queries):
        raise ConfigError(
            f"{len(queries)} queries of {len(query_owners)} studies, {len(gallery)} items of {len(gallery_owners)}; "
            "expected one study each, and at least one query."
        )
    numbers = {owner: number for number, owner in enumerate(dict.fromkeys([*query_owners, *gallery_owners]))}
    whose = torch.tensor([numbers[owner] for owner in gallery_owners])
    items = F.normalize(gallery, dim=1)
    found = []
    for query, owner in zip(F.normalize(queries, dim=1), query_owners, strict=True):
        order = (items @ query).topk(min(max(depths), len(items))).indices
        right = (whose[order] == numbers[owner]).nonzero()
        found.append(int(right[0]) if len(right) else len(items))
    ranks = np.array(found)
    return {depth: float((ranks < depth).mean()) for depth in depths}


def split_report(report: str, *, as_released: bool = False) -> list[str]:
    """The sentences that are looked for one by one.

    as_released: cut at every full stop and semicolon, decimals among them ("4.5 mm" -> "4", "5 mm").
    """
    if as_released:
        return [part.strip() for part in re.split("[.;]", report.replace("\n", " ")) if part.strip()]
    return [span.text for span in split_sentences(report)]
