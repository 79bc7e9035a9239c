"""What a report says of one organ, as fVLM trains on it (spec 2.3)."""

from typing import NamedTuple

TEMPLATE = "{} shows no significant abnormalities."
"""Stands for an organ that the impression does not mention."""
DELETED = str.maketrans("", "", "\"'()")
"""Characters that the published loader takes out of every text."""


class Statement(NamedTuple):
    """One organ of one study in words."""

    full: str  # with the template; two studies with equal texts are positives of each other
    spoken: str  # what the text encoder reads: without the template where something follows it
    is_abnormal: bool  # the impression mentions the organ


def assemble_statement(organ: str, findings: str, impression: str) -> Statement:
    """Join what findings and impression say of an organ, "" = nothing: impression first, no space between.

    An organ that the impression does not mention counts as normal, whatever the findings say; the template stands in.
    """
    normal = TEMPLATE.format(organ)
    full = ((_closed(impression) or normal) + _closed(findings)).translate(DELETED)
    is_normal = full.startswith(normal)
    return Statement(full, full.removeprefix(normal) or full, not is_normal)


def _closed(text: str) -> str:
    """The text with a full stop at its end; "" stays."""
    return text if not text or text.endswith(".") else text + "."
