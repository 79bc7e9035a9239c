"""Sets of tokens of different sizes, one after the other: no padding that a minimum, a mean or a loss could meet."""

from typing import NamedTuple

import torch
from torch import Tensor


class TokenSets(NamedTuple):
    """T tokens of N sets; every set has at least one."""

    values: Tensor  # (T, D), all tokens of set 0, then of set 1, and so on
    owner: Tensor  # (T,) int64, ascending: the set of each token
    place: Tensor  # (T,) int64: its number within the set, from 0
    number: int  # N

    def sizes(self) -> Tensor:
        """Tokens of each set, (N,) int64."""
        return torch.bincount(self.owner, minlength=self.number)

    def pad(self, values: Tensor) -> Tensor:
        """Values (T, ...) of these tokens as (N, longest, ...), zero where a set is shorter."""
        longest = int(self.place.max()) + 1 if len(self.place) else 0
        padded = values.new_zeros(self.number, longest, *values.shape[1:])
        return padded.index_put((self.owner, self.place), values)

    def unpad(self, padded: Tensor) -> Tensor:
        """Inverse of `pad`: (N, longest, ...) -> (T, ...)."""
        return padded[self.owner, self.place]

    def is_real(self) -> Tensor:
        """Where `pad` puts a token: (N, longest) bool, False = padding."""
        return self.pad(torch.ones_like(self.owner, dtype=torch.bool))

    def means(self, values: Tensor) -> Tensor:
        """Mean over each set of one value per token: (T,) -> (N,)."""
        sums = values.new_zeros(self.number).index_add(0, self.owner, values)
        return sums / self.sizes().clamp(min=1)

    def minima(self, values: Tensor) -> Tensor:
        """Least of each set of one value per token: (T,) -> (N,)."""
        return values.new_zeros(self.number).scatter_reduce(0, self.owner, values, "amin", include_self=False)

    def maxima(self, values: Tensor) -> Tensor:
        """Greatest of each set of one value per token: (T,) -> (N,)."""
        return values.new_zeros(self.number).scatter_reduce(0, self.owner, values, "amax", include_self=False)

    def with_first(self, first: Tensor) -> "TokenSets":
        """Each set with one more token (N, D) before its others; `rest` takes their values apart again."""
        numbers = torch.arange(self.number, device=self.owner.device)
        order = torch.cat([numbers, self.owner]).argsort(stable=True)
        place = torch.cat([torch.zeros_like(numbers), self.place + 1])[order]
        owner = torch.cat([numbers, self.owner])[order]
        return TokenSets(torch.cat([first, self.values])[order], owner, place, self.number)

    def without_first(self) -> "TokenSets":
        """Inverse of `with_first`."""
        kept = self.place > 0
        return TokenSets(self.values[kept], self.owner[kept], self.place[kept] - 1, self.number)


def token_sets(values: Tensor, owner: Tensor, number: int) -> TokenSets:
    """Sets from their tokens (T, D) and owners (T,), which must ascend and name each of `number` sets."""
    sizes = torch.bincount(owner, minlength=number)
    starts = sizes.cumsum(0) - sizes
    return TokenSets(values, owner, torch.arange(len(owner), device=owner.device) - starts[owner], number)
