"""Which rows belong to which: lists of numbers of unequal length in two flat arrays."""

from typing import NamedTuple

import numpy as np


class Postings(NamedTuple):
    """Row i has the members `members[starts[i]:starts[i + 1]]`."""

    starts: np.ndarray  # (N + 1,) int64
    members: np.ndarray  # (P,) int32

    def of(self, row: int) -> np.ndarray:
        """Members of one row (n,) int32."""
        return self.members[self.starts[row] : self.starts[row + 1]]

    def of_many(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Members of several rows end to end (n,), and where each row's begin in that (len(rows),)."""
        counts = self.starts[rows + 1] - self.starts[rows]
        begins = np.cumsum(counts) - counts
        at = np.arange(int(counts.sum())) + np.repeat(self.starts[rows] - begins, counts)
        return self.members[at], begins


def collect_postings(lists: list[list[int]]) -> Postings:
    """Postings of rows given as lists."""
    counts = np.fromiter((len(members) for members in lists), np.int64, len(lists))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    flat = np.fromiter((member for members in lists for member in members), np.int32, int(starts[-1]))
    return Postings(starts, flat)


def invert_postings(postings: Postings, size: int) -> Postings:
    """For each of `size` possible members, the rows that have it, ascending."""
    counts = np.diff(postings.starts)
    rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    order = np.argsort(postings.members, kind="stable")
    totals = np.bincount(postings.members, minlength=size)
    return Postings(np.concatenate([[0], np.cumsum(totals)]).astype(np.int64), rows[order])
