"""What a search compares."""

from typing import NamedTuple

import numpy as np

from core.errors import IndexFileError
from core.report.sentences import split_sentences

MAX_QUERY_CHARACTERS = 20_000
MAX_QUERY_SENTENCES = 64


class Query(NamedTuple):
    """A report vector, and sentence vectors where sentences count."""

    whole: np.ndarray  # (D,) float32
    sentences: np.ndarray  # (Q, D) float32; Q = 0 to compare whole reports only
    sentence_weight: float  # share of the best sentences in the score


def split_query(text: str) -> list[str]:
    """The sentences of a query. Raises IndexFileError when it is empty or far too long."""
    if len(text) > MAX_QUERY_CHARACTERS:
        raise IndexFileError(
            f"The query has {len(text)} characters; at most {MAX_QUERY_CHARACTERS}. Search for a part of it."
        )
    if not text.strip():
        raise IndexFileError("The query is empty. Type a phrase, a sentence or a report.")
    sentences = [span.text for span in split_sentences(text)] or [text.strip()]
    return sentences[:MAX_QUERY_SENTENCES]
