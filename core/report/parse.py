"""A report's text -> sentences with findings, and the 18 CT-RATE labels."""

import re
from typing import Any

from core.errors import ReportError
from core.findings import CT_RATE_LABELS
from core.report.mentions import SentenceReading, read_sentence
from core.report.parsed import ParsedReport, Sentence
from core.report.rephrase import negate_sentence, swap_side
from core.report.sentences import section_of, split_sentences

__all__ = ["labels18", "negate_sentence", "parse_report", "report_to_json", "swap_side"]

MAX_CHARACTERS = 200_000
"""A longer text is no radiology report."""
MAX_SENTENCE_CHARACTERS = 4_000
"""Findings are not looked for in a longer sentence: it is not prose."""

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_NOT_FINDINGS = frozenset(
    "technique indication indications history comparison procedure exam examination".split()
    + ["clinical information", "clinical history", "clinical indication", "clinical details"]
    + ["reason for exam", "reason for examination"]
)
"""Sections that say why and how the scan was made, not what it shows."""


def parse_report(text: str) -> ParsedReport:
    """Read a report: sentences, what each says, and the 18 labels.

    Raises ReportError when the text is empty, not text, or longer than `MAX_CHARACTERS`.
    """
    _require_report(text)
    spans = split_sentences(text)
    if not spans:
        raise ReportError("The report holds no words. Paste the text of a radiology report.")
    sentences = []
    for index, (span, section) in enumerate(zip(spans, section_of(text, spans), strict=True), start=1):
        states = section not in _NOT_FINDINGS and len(span.text) <= MAX_SENTENCE_CHARACTERS
        reading = read_sentence(span.text) if states else SentenceReading((), (), "")
        sentences.append(Sentence(index, span.text, span.start, span.end, *reading))
    return ParsedReport(text, tuple(sentences), labels18(sentences))


def labels18(sentences: list[Sentence]) -> dict[str, bool]:
    """CT-RATE label -> whether any sentence says it is present, in the order of the label table."""
    present = {m.finding for s in sentences for m in s.mentions if m.existence == "present"}
    return {label: label in present for label in CT_RATE_LABELS}


def report_to_json(parsed: ParsedReport) -> dict[str, Any]:
    """The parsed report in the shape of the command line's `parse`; size_mm is the largest diameter or null."""
    return {
        "sentences": [
            {
                "index": sentence.index,
                "text": sentence.text,
                "findings": [
                    {
                        "finding": mention.finding,
                        "existence": mention.existence,
                        "organs": list(mention.organs),
                        "laterality": mention.laterality,
                        "size_mm": mention.size_mm,
                    }
                    for mention in sentence.mentions
                ],
            }
            for sentence in parsed.sentences
        ],
        "labels18": dict(parsed.labels18),
    }


def _require_report(text: object) -> None:
    if not isinstance(text, str):
        raise ReportError(f"The report is {type(text).__name__}, not text. Give the report as plain text (UTF-8).")
    if not text.strip():
        raise ReportError("The report is empty. Paste the text of a radiology report.")
    if len(text) > MAX_CHARACTERS:
        raise ReportError(
            f"The report has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read. Give one report at a time."
        )
    if len(_CONTROL.findall(text)) > 0.05 * len(text):
        raise ReportError("The report is not readable text (control characters). Save it as plain text (UTF-8).")
