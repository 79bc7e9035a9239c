"""The opposite of a sentence: negated, or on the other side. For negation margins and training pairs."""

import re

from core.errors import ReportError
from core.report.mentions import read_sentence
from core.structures import spoken_name

MOST_PLACES = 2
"""Structures named in a plain opposite."""

_MASS_NOUN = re.compile(
    r"(?:\w+ly |minimal |mild |small |large |focal |diffuse |right |left |bilateral |pulmonary |bibasal |patchy "
    r"|linear |lymph |significant |pathological |active |hepatic |free |hilar |mediastinal |centrilobular ){0,4}"
    r"(?:evidence|atelectasis|emphysema|bronchiectasis|lymphadenopathy|cardiomegaly|fibrosis|calcification|ascites"
    r"|pneumonia|honeycombing|thickening|steatosis|enlargement|fluid|\w{3,}s)\b",
    re.IGNORECASE,
)
_QUANTITY = (
    r"(?:(?:a|an|one|two|three|several|multiple|some|numerous|many|the|again a|a few|few|any) ){0,2}"  # dropped by "no"
)
_SEEN = (
    r"(?:clearly |definitely )?(?:seen|observed|detected|noted|present|identified|found|visible|demonstrated|evident"
    r"|visualised|visualized|apparent|enlarged|dilated|thickened|increased|calcified|collapsed|widened)"
)
_AUXILIARY = r"(?:is|are|was|were|has been|have been)"

_TO_POSITIVE: tuple[tuple[str, str], ...] = (
    (r"\bthere is no evidence of\b", "there is evidence of"),
    (r"\b(there (?:is|was)) (?:no|not any)\b", r"\1 {article}"),
    (r"\b(there (?:are|were)) (?:no|not any)\b", r"\1"),
    (rf"\b({_AUXILIARY}) (?:not|no longer) ", r"\1 "),
    (r"\b(?:does) not (\w+)\b", r"\1s"),
    (r"\b(?:do|did) not (\w+)\b", r"\1"),
    (r"\b(show|shows|contain|contains|has|have|demonstrates?) no\b", r"\1 {article}"),
    (r"\bwithout\b", "with"),
    (r"\b(?:free of|negative for)\b", "positive for"),
    (r"^(\W*)(?:no|neither)\b", r"\1{article}"),
    (r"\bno\b", "{article}"),
    (r"\b(?:are|is|was|were) absent\b", "is present"),
)
_TO_NEGATIVE: tuple[tuple[str, str], ...] = (
    (rf"\b(there (?:is|are|was|were)) {_QUANTITY}", r"\1 no "),
    (rf"\b({_AUXILIARY}) (?=(?:\w+ly |also |only )?{_SEEN}\b)", r"\1 not "),
    (r"\bshows? ", "does not show "),
    (r"\bcontains? ", "does not contain "),
    (r"\bdemonstrates? ", "does not demonstrate "),
    (r"\bmeasures? ", "does not measure "),
    (rf"\b({_AUXILIARY}|has|have) ", r"\1 not "),
)
_NORMALITY = (
    (r"\babnormal\b", "normal"),
    (r"\b(?:normal|unremarkable|natural)\b", "abnormal"),
    (r"\bclear\b", "not clear"),
    (r"\bpatent\b", "not patent"),
    (r"\b(?:preserved|intact)\b", "not preserved"),
)
_DENIAL = re.compile(r"\b(?:no|not|without|neither|absent|free of|negative for|no longer)\b\b", re.IGNORECASE)


def negate_sentence(sentence: str) -> str:
    """The sentence with the opposite meaning, one statement changed; a denial becomes a claim and back.

    "There is a nodule in the left lower lobe." <-> "There is no nodule in the left lower lobe."; "The heart is
    normal." <-> "The heart is abnormal.". Where changing words does not turn the meaning round, the result is a plain
    sentence about the first finding. It always differs. Raises ReportError for a sentence without words.
    """
    core = sentence.strip()
    if not any(char.isalpha() for char in core):
        raise ReportError(f"{core[:40]!r} holds no words to negate. Give a sentence of a report.")
    if _DENIAL.search(core):
        changed = _first_change(core, _TO_POSITIVE)
    else:
        changed = _first_change(core, _NORMALITY)
        changed = changed if changed != core else _denied(core)
    opposite = _capitalised(changed, core)
    if opposite != core and _reads_opposite(core, opposite):
        return opposite
    return _plain_opposite(core) if read_sentence(core).mentions else f"It is not the case: {core}"


def _reads_opposite(core: str, opposite: str) -> bool:
    """Whether the parser agrees; true as well for sentences that state no finding, or several things at once."""
    before, after = read_sentence(core).mentions, read_sentence(opposite).mentions
    states = {mention.existence for mention in before}
    if states not in ({"present"}, {"absent"}):
        return True
    return bool({mention.existence for mention in after} - states - {"uncertain"})


def _plain_opposite(core: str) -> str:
    """The opposite of a sentence's first finding in plain words: "There is no lung nodule in the left lower lobe."."""
    mention = read_sentence(core).mentions[0]
    finding = mention.finding[:1].lower() + mention.finding[1:]
    place = " and ".join(f"the {spoken_name(name)}" for name in mention.organs[:MOST_PLACES])
    claim = f"{finding} in {place}" if place else finding
    if mention.existence == "present":
        return f"There is no {claim}."
    return " ".join(f"There is {_article(claim)} {claim}.".split())


def _denied(core: str) -> str:
    """A claim turned into a denial; a phrase without a verb gets "No" in front."""
    changed = _first_change(core, _TO_NEGATIVE)
    if changed == core:
        return "No " + re.sub(rf"^{_QUANTITY}", "", _uncapitalised(core), count=1, flags=re.IGNORECASE)
    return re.sub(r"\band (?:an?|the) ", "or ", changed) if " no " in changed else changed


def _first_change(text: str, rules: tuple[tuple[str, str], ...]) -> str:
    """The text after the first rule that fits; unchanged if none does."""
    for pattern, replacement in rules:
        match = re.search(pattern, text, re.IGNORECASE)
        if match:
            after = text[match.end() :]
            new = match.expand(replacement).replace("{article}", _article(after.lstrip()))
            return " ".join(f"{text[: match.start()]}{new} {after}".split()).replace(" .", ".")
    return text


def _article(noun_phrase: str) -> str:
    """ "a", "an" or "" before the words that lost their "no"."""
    if not noun_phrase or _MASS_NOUN.match(noun_phrase):
        return ""
    return "an" if noun_phrase[0].lower() in "aeiou" else "a"


def _capitalised(text: str, like: str) -> str:
    return text[:1].upper() + text[1:] if like[:1].isupper() else text[:1].lower() + text[1:]


def _uncapitalised(text: str) -> str:
    """Lower-case first letter, unless the first word is an abbreviation ("LAD")."""
    first = text.split(None, 1)[0]
    return text if first[1:2].isupper() or not first[1:] else text[:1].lower() + text[1:]


_OTHER_SIDE = {
    "left": "right",
    "right": "left",
    "lt": "rt",
    "rt": "lt",
    "lul": "rul",
    "rul": "lul",
    "lll": "rll",
    "rll": "lll",
    "rml": "lingula",
    "leftward": "rightward",
    "rightward": "leftward",
    "middle lobe": "lingula",
    "lingula": "middle lobe",
    "lingular segment": "middle lobe",
}
_SIDED = re.compile(r"\b(?:" + "|".join(sorted(_OTHER_SIDE, key=len, reverse=True)) + r")\b", re.IGNORECASE)


def swap_side(sentence: str) -> str:
    """The sentence mirrored: left <-> right, middle lobe <-> lingula; unchanged when it names no side."""
    return _SIDED.sub(lambda match: _as_written(_OTHER_SIDE[match.group().lower()], match.group()), sentence)


def _as_written(word: str, like: str) -> str:
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
