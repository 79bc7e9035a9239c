"""What a search gives back."""

from typing import Any, NamedTuple


class Hit(NamedTuple):
    """One report that was found."""

    study_id: str
    score: float  # in [-1, 1]; see `ReportIndex` for what is compared
    passage: str  # the sentence of the report nearest to the query
    text: str  # the whole report
    labels: dict[str, bool]  # the 18 CT-RATE labels
    volume: str  # path of its CT as the source table gave it, or ""
    row: int


class SearchResult(NamedTuple):
    """The answer to one query."""

    hits: tuple[Hit, ...]  # best first; equal scores in the order of the source table
    remaining: int  # reports that were left after filters, the query itself excluded
    milliseconds: float  # embedding the query, search, reading the texts; opening index and engine came before


def describe_result(result: SearchResult) -> dict[str, Any]:
    """The answer as the JSON document of `index search`."""
    return {
        "results": [
            {
                "study_id": hit.study_id,
                "score": round(hit.score, 6),
                "text": hit.text,
                "passage": hit.passage,
                "labels": hit.labels,
                "volume": hit.volume,
            }
            for hit in result.hits
        ],
        "remaining": result.remaining,
        "milliseconds": round(result.milliseconds, 3),
    }
