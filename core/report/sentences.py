"""Where the sentences of a report begin and end."""

import re
from collections.abc import Iterator
from typing import NamedTuple


class TextSpan(NamedTuple):
    """A piece of a report: `report[start:end] == text`."""

    start: int
    end: int
    text: str


_ABBREVIATIONS = frozenset(
    """dr drs mr mrs ms prof e.g i.e eg ie approx ca cf vs fig figs no nr incl excl resp max min avg diam est seg
    segm ant post lat med rt lt bilat acc ref hx pt pts dx tx st vol temp dept univ a.k.a s.p aprox cca ort
    i.v iv p.o""".split()
)
_UNITS = frozenset("mm cm m ml cc mg hu mmhg kg etc".split())
_STARTERS = frozenset("no there the a an normal trachea heart lungs lung both it this".split())
_CONNECTORS = frozenset(
    """of the in and with or to by on for a an is are was were at from this that which as no not without be been
    right left both upper lower middle measuring than into has have""".split()
)
_SECTIONS = (
    "findings impression impressions conclusion conclusions result results opinion comment comments technique"
    " indication indications history comparison recommendation recommendations summary report"
).split() + [
    "clinical information",
    "clinical history",
    "clinical indication",
    "clinical details",
    "reason for exam",
    "reason for examination",
    "chest ct",
    "ct chest",
    "thorax ct",
    "ct thorax",
    "procedure",
    "exam",
    "examination",
]
_HEADING = re.compile(r"(?:" + "|".join(sorted(_SECTIONS, key=len, reverse=True)) + r")[ \t]*:", re.IGNORECASE)
_HEADING_LINE = re.compile(
    r"(?m)^[ \t]*(?:" + "|".join(sorted(_SECTIONS, key=len, reverse=True)) + r")[ \t]*:?[ \t]*\r?$", re.IGNORECASE
)
_HEADING_END = re.compile(r"\b(?:" + "|".join(sorted(_SECTIONS, key=len, reverse=True)) + r")[ \t]*$", re.IGNORECASE)
_LONGEST_HEADING = 40
_MARKER = re.compile(r"(?:\(?\d{1,2}[.)](?=\s)|\d{1,2}\)(?=\w)|[a-hA-H]\)(?=\s))")
_BULLETS = "-–—•·*▪●◦►■‣>"
_LEAD = " \t\r\n\f\v\xa0\u2028\u2029\ufeff\"“”„»«'" + _BULLETS + ".,;:"
_TAIL = ' \t\r\n\f\v\xa0\u2028\u2029\ufeff"“”„»«;' + _BULLETS
_CANDIDATE = re.compile(r"(?<=\s)[\"“](?=\s+[A-Z])|[.!?…]+|[;•●▪■]|·(?=\s*[A-Z])|\n|\u2028|\u2029")
_LAST_WORD = re.compile(r"[\w.]{1,30}$")
_MAX_PARENTHESIS = 200
_SHORT_LINE = 40
"""A line of fewer characters was not wrapped for want of room."""
_LOOK_BACK = 200
"""Characters looked at on either side of a possible boundary, so that hostile text costs linear time."""


def split_sentences(text: str) -> list[TextSpan]:
    """Sentences of a report with their offsets, in order and without overlap.

    Decimals, abbreviations, initials, image references in brackets and wrapped lines do not end a sentence; list
    items, headings and blank lines do. List markers, bullets, quotation marks and section headings ("FINDINGS:")
    are left out of the sentences.
    """
    spans: list[TextSpan] = []
    for start, end in _pieces(text):
        span = _trimmed(text, start, end)
        if span:
            spans.append(span)
    return spans


def section_of(text: str, spans: list[TextSpan]) -> list[str]:
    """The section heading in force at each sentence, lower case; "" before the first."""
    headings = sorted([*_headings_with_colon(text), *_headings_on_a_line(text)])
    names, current, position = [], "", 0
    for span in spans:
        while position < len(headings) and headings[position][0] <= span.start:
            current = headings[position][1]
            position += 1
        names.append(current)
    return names


def _headings_with_colon(text: str) -> Iterator[tuple[int, str]]:
    """ "Impression: ...": offset and name. Looked for before each colon, of which a report has few."""
    for colon in re.finditer(":", text):
        before = max(0, colon.start() - _LONGEST_HEADING)
        match = _HEADING_END.search(text, before, colon.start())
        if match and _opens_line_or_sentence(text, match.start()):
            yield match.start(), match.group().strip().lower()


def _headings_on_a_line(text: str) -> Iterator[tuple[int, str]]:
    """ "IMPRESSION" alone on a line: offset and name."""
    start = 0
    for line in text.split("\n"):
        if len(line) <= _LONGEST_HEADING and _HEADING_LINE.fullmatch(line):
            yield start, line.strip(" \t\r:").lower()
        start += len(line) + 1


def _opens_line_or_sentence(text: str, start: int) -> bool:
    before = text[max(0, start - 4) : start].rstrip(' \t"“')
    return not before or before[-1] in ".!?\n\r:;"


def _pieces(text: str) -> list[tuple[int, int]]:
    """Raw ranges between sentence boundaries."""
    pieces, start, brackets, scanned = [], 0, 0, 0
    shouting = text.isupper()
    for match in _CANDIDATE.finditer(text):
        brackets = max(0, brackets + text.count("(", scanned, match.start()) - text.count(")", scanned, match.start()))
        scanned = match.start()
        if brackets and text.find(")", match.end(), match.end() + _MAX_PARENTHESIS) < 0:
            brackets = 0
        if not brackets and _is_boundary(text, start, match, shouting):
            pieces.append((start, match.end()))
            start = match.end()
    pieces.append((start, len(text)))
    return pieces


def _is_boundary(text: str, start: int, match: re.Match[str], shouting: bool) -> bool:
    mark = match.group()[0]
    if mark in "\n\u2028\u2029":
        return _breaks_line(text, start, match.start(), match.end(), shouting)
    if mark in '•●▪■·"“':
        return True
    if mark == ";":
        return _is_statement(text, start, match.start())
    return _ends_sentence(text, start, match)


_VERB = re.compile(r"\b(?:is|are|was|were|has|have|shows?|no)\b", re.IGNORECASE)
_OPENING = re.compile(r"\s*[\"“]?\s*(?:when|if|as|in|on|at|after|on)\b", re.IGNORECASE)


def _is_statement(text: str, start: int, end: int) -> bool:
    """Whether the words before a semicolon stand alone ("in the lung window; ..." does not)."""
    return bool(_VERB.search(text, max(start, end - _LOOK_BACK), end)) and not _OPENING.match(text, start, end)


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether a full stop, question mark, exclamation mark or ellipsis ends the sentence."""
    following = text[match.end() : match.end() + 40]
    if following and not following[0].isspace() and following[0] not in "\"'”’)]»•·":
        return _is_missing_space(text, match)
    word = _next_word(following)
    if not word:
        return True
    if match.group() != ".":
        return not word[0].islower() and not (len(match.group()) > 1 and word[0].isdigit())
    return _stop_ends(text, start, match.start(), word)


def _next_word(following: str) -> str:
    """The first word after a stop, quotation marks and bullets passed over; "" at the end of the text."""
    return following.lstrip(_LEAD + "([)]’").split(" ", 1)[0].split("\n", 1)[0]


def _is_missing_space(text: str, match: re.Match[str]) -> bool:
    """ "infection.Pleural": lower-case word, one stop, capital followed by lower case."""
    before, after = text[max(0, match.start() - 2) : match.start()], text[match.end() : match.end() + 2]
    return before.isalpha() and before.islower() and len(after) == 2 and after[0].isupper() and after[1].islower()


def _stop_ends(text: str, start: int, stop: int, word: str) -> bool:
    """Whether one full stop at `stop` ends the sentence, given the next word."""
    found = _LAST_WORD.search(text[max(start, stop - 31) : stop])
    last = found.group() if found else ""
    low = last.lower()
    segment = text[max(start, stop - _LOOK_BACK) : stop]
    if low in _ABBREVIATIONS:
        return low == "no" and not word[0].isdigit() and word[0].isupper() and len(segment.split()) > 2
    if low in _UNITS or low.isdigit():
        return _ends_after_number(segment, low, word)
    if len(last) == 1 and last.isalpha():
        return not _is_initial(segment, last)
    return True


def _ends_after_number(segment: str, low: str, word: str) -> bool:
    if low.isdigit() and not segment.strip(_LEAD + "(").strip("0123456789"):
        return False  # only a list number so far
    return not word[0].islower() or (low in _UNITS and word.lower() in _STARTERS)


def _is_initial(segment: str, letter: str) -> bool:
    """ "J. Doe": a capital that follows nothing, a title, an initial or another name."""
    before = segment[: -len(letter)].rstrip()[-40:].split()
    if before and before[-1].lower() in ("by", "with"):
        return letter.isupper()
    return letter.isupper() and (
        not before or before[-1][0].isupper() and (before[-1].endswith(".") or len(before) == 1)
    )


def _breaks_line(text: str, start: int, newline: int, after: int, shouting: bool) -> bool:
    """Whether a line end is a sentence end and not a wrapped line."""
    line_end = text.find("\n", after, after + _LOOK_BACK)
    following = text[after : line_end if line_end >= 0 else after + _LOOK_BACK].strip()
    last_newline = text.rfind("\n", max(start, newline - _LOOK_BACK), newline)
    line = text[max(start, last_newline + 1) : newline].strip()
    if not line or not following or following[0] in _BULLETS + '"“' or _MARKER.match(following):
        return True
    if line.endswith((":", ";", ".", "?", "!")) or _HEADING.match(following) or _HEADING_LINE.match(following):
        return True
    if _HEADING_LINE.match(line):
        return True
    return _is_note(line, following) or not _continues(line, following, shouting)


def _is_note(line: str, following: str) -> bool:
    """Whether two lines are notes of their own: the second begins like a statement, and the first had room for more."""
    first, last = following.split(None, 1)[0].lower().rstrip(".,:;"), line.rsplit(None, 1)[-1].lower()
    return first in _STARTERS and len(line) < _SHORT_LINE and last not in _CONNECTORS and line[-1] not in ",-("


def _continues(line: str, following: str, shouting: bool) -> bool:
    first, last = following.split(None, 1)[0], line.rsplit(None, 1)[-1].lower()
    if line.endswith((",", "-", "(")) or last in _CONNECTORS or last.rstrip(".") in _ABBREVIATIONS:
        return True
    if shouting:
        return len(line) >= 40
    if first[0].isupper():
        return len(line) >= 60 and len(first) > 1 and first.rstrip(".,;").isupper()
    return first[0].islower() or first[0].isdigit() or first[0] in "(["


def _trimmed(text: str, start: int, end: int) -> TextSpan | None:
    """The range without white space, list markers, bullets, quotes and section headings; None if nothing is left."""
    while start < end:
        moved = _skip(text, start, end)
        if moved == start:
            break
        start = moved
    while end > start and (text[end - 1] in _TAIL or text[end - 1].isspace()):
        end -= 1
    if not any(char.isalnum() for char in text[start:end]) or _HEADING_LINE.fullmatch(text[start:end]):
        return None
    return TextSpan(start, end, text[start:end])


def _skip(text: str, start: int, end: int) -> int:
    """Where the range starts after passing one lead character, list marker or heading."""
    if text[start] in _LEAD or text[start].isspace():
        return start + 1
    for pattern in (_MARKER, _HEADING):
        match = pattern.match(text, start, end)
        if match and match.end() < end:
            return match.end()
    return start
