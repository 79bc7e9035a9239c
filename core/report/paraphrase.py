"""The same statement in other words, by rules: other verbs, synonyms, abbreviations, units, word order."""

import re
from collections.abc import Sequence

from core.errors import ReportError
from core.report.mentions import read_sentence

_LOBES = {
    "left upper lobe": ("LUL", "upper lobe of the left lung", "left lung upper lobe"),
    "left lower lobe": ("LLL", "lower lobe of the left lung", "left lung lower lobe"),
    "right upper lobe": ("RUL", "upper lobe of the right lung", "right lung upper lobe"),
    "right middle lobe": ("RML", "middle lobe of the right lung", "right lung middle lobe"),
    "right lower lobe": ("RLL", "lower lobe of the right lung", "right lung lower lobe"),
}
SYNONYMS: tuple[tuple[str, ...], ...] = (
    *((name, *others) for name, others in _LOBES.items()),
    ("both lungs", "the lungs bilaterally"),
    ("pleural effusion", "pleural fluid", "fluid in the pleural space"),
    ("pericardial effusion", "pericardial fluid", "fluid around the heart"),
    ("pneumothorax", "air in the pleural space"),
    ("cardiomegaly", "enlargement of the heart", "cardiac enlargement"),
    ("ground-glass opacities", "ground glass opacification", "ground-glass densities", "hazy opacities"),
    ("ground-glass opacity", "ground glass opacification", "ground-glass density", "hazy opacity"),
    ("ground glass density", "ground-glass opacity", "ground glass attenuation"),
    ("consolidation", "airspace consolidation", "consolidated lung"),
    ("atelectasis", "atelectatic change"),
    ("emphysematous changes", "emphysema"),
    ("emphysema", "emphysematous change"),
    ("bronchiectasis", "bronchiectatic change", "dilated bronchi"),
    ("peribronchial thickening", "bronchial wall thickening"),
    ("bronchial wall thickening", "peribronchial thickening"),
    ("interlobular septal thickening", "thickening of the interlobular septa"),
    ("hiatal hernia", "hiatus hernia"),
    ("lymphadenopathy", "enlarged lymph nodes"),
    ("enlarged lymph nodes", "lymphadenopathy", "pathologically enlarged nodes"),
    ("pulmonary nodules", "lung nodules", "nodules in the lung"),
    ("pulmonary nodule", "lung nodule", "nodular lesion of the lung"),
    ("nodules", "nodular lesions"),
    ("nodule", "nodular lesion"),
    ("mass lesion", "mass"),
    ("fracture", "bony fracture"),
    ("calcified plaque", "calcific plaque"),
    ("atherosclerotic", "atheromatous"),
    ("degenerative changes", "degenerative change"),
    ("esophagus", "oesophagus"),
    ("mediastinum", "mediastinal compartment"),
    ("unremarkable", "normal"),
    ("normal", "unremarkable"),
    ("natural", "normal"),
    ("patent", "open"),
    ("open", "patent"),
    ("abnormality", "pathology"),
    ("evidence of", "sign of"),
    ("measuring", "with a size of"),
    ("in size", "in diameter"),
    ("approximately", "about"),
    ("multiple", "several", "numerous"),
    ("several", "multiple", "a number of"),
    ("a few", "some", "few"),
    ("mild", "slight"),
    ("minimal", "slight"),
    ("moderate", "medium"),
    ("extensive", "widespread"),
    ("diffuse", "widespread"),
)
"""Words that can stand for the first of their row."""
_SEEN = "observed|detected|noted|identified|seen|found|demonstrated|present|visible"
_VERBS = ("seen", "noted", "identified", "found", "visible", "observed", "detected")
_SEEN_FORM = re.compile(rf"\b(?P<is>is|are|was|were) (?P<no>not )?(?P<verb>{_SEEN})\b", re.IGNORECASE)
_THERE_IS = re.compile(r"^there (?P<is>is|are) (?P<rest>(?!no\b|not\b)[^,;]{3,160}?)(?P<end>\.?)$", re.IGNORECASE)
_NO_SEEN = re.compile(rf"^no (?P<what>[^,;]{{3,120}}?) (?:is|are|was|were) (?:{_SEEN})(?P<where>[^,;]{{0,80}}?)\.?$",
                      re.IGNORECASE)  # fmt: skip
_IN_FRONT = re.compile(r"^(?P<what>[^,;]{3,120}?) (?P<where>in the [^,;.]{3,60}?)\.?$", re.IGNORECASE)
_VERB_OR_DENIAL = re.compile(r"\b(?:no|not|without|none|is|are|was|were|has|have|had)\b", re.IGNORECASE)
_MM = re.compile(r"\b(\d{2,3}) ?mm\b")


def paraphrase_sentence(sentence: str, draws: Sequence[float]) -> str:
    """The sentence in other words with the same meaning; unchanged where no rule fits.

    `draws` (at least 4 numbers in [0, 1)) choose among the rules, so that the same draws give the same words.
    Raises ReportError for fewer draws.
    """
    if len(draws) < 4:
        raise ReportError(f"{len(draws)} draws given; a paraphrase takes at least 4 numbers between 0 and 1.")
    text = sentence.strip()
    for change, draw in zip(
        (_with_synonyms, _with_other_verb, _with_other_order, _with_centimetres), draws, strict=False
    ):
        changed = change(text, draw)
        text = changed if _reads_alike(text, changed) else text
    return text


def _reads_alike(first: str, second: str) -> bool:
    """Whether the parser finds the same presence and sides in both."""
    told = [{(m.existence, m.laterality) for m in read_sentence(text).mentions} for text in (first, second)]
    return first == second or told[0] == told[1]


def _with_synonyms(text: str, draw: float) -> str:
    """Every place where a row's first words stand gets other words of that row; no word is changed twice."""
    pattern = re.compile(r"\b(?:" + "|".join(re.escape(row[0]) for row in _BY_LENGTH) + r")\b", re.IGNORECASE)

    def replaced(match: re.Match[str]) -> str:
        others = _OTHERS[match.group().lower()]
        word = others[int(draw * len(others))]
        return word[:1].upper() + word[1:] if match.group()[0].isupper() else word

    return pattern.sub(replaced, text)


_BY_LENGTH = sorted(SYNONYMS, key=lambda row: len(row[0]), reverse=True)
_OTHERS = {row[0].lower(): row[1:] for row in SYNONYMS}


def _with_other_verb(text: str, draw: float) -> str:
    """ "was observed" -> "is seen"."""

    def replaced(match: re.Match[str]) -> str:
        others = [verb for verb in _VERBS if verb != match["verb"].lower()]
        tense = {"was": "is", "is": "was", "were": "are", "are": "were"}[match["is"].lower()]
        return f"{tense} {match['no'] or ''}{others[int(draw * len(others))]}"

    return _SEEN_FORM.sub(replaced, text)


def _with_other_order(text: str, draw: float) -> str:
    """ "There is X in Y." -> "X is present in Y.", "No X was seen in Y." -> "There is no X in Y.", "In Y, X."."""
    match = _THERE_IS.match(text)
    if match:
        return _restated(match, draw)
    match = _NO_SEEN.match(text)
    if match:
        opening = ("There is no", "No evidence of", "Absence of")[int(draw * 3)]
        return f"{opening} {match['what']}{match['where']}."
    match = _IN_FRONT.match(text)
    if match and draw < 0.5 and not _VERB_OR_DENIAL.search(match.group()):
        return f"{_capital(match['where'])}, {match['what'][:1].lower()}{match['what'][1:]}."
    return text


def _restated(match: re.Match[str], draw: float) -> str:
    """ "There is X in Y." with X or Y in front."""
    place = re.search(r" (?:in|at|on|within) (?:the|both) ", match["rest"])
    what, where = (match["rest"][: place.start()], match["rest"][place.start() :]) if place else (match["rest"], "")
    if draw < 0.5 or not where:
        return f"{_capital(what)} {match['is'].lower()} present{where}."
    return f"{_capital(where.strip())}, there {match['is'].lower()} {what}."


def _with_centimetres(text: str, draw: float) -> str:
    """ "23 mm" -> "2.3 cm", every other time; sizes of several diameters are left as they are."""
    if draw >= 0.5:
        return text
    return text if re.search(r"\d ?[x×] ?\d", text) else _MM.sub(lambda match: f"{int(match[1]) / 10:.1f} cm", text)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
