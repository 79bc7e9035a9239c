"""Likeness of texts by their words: BLEU, ROUGE-L, CIDEr-D, with the conventions of the COCO caption evaluation.

rouge-score and sacrebleu give other numbers: other tokens, another F, other smoothing.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from core.errors import ReportError

Grams = Counter[tuple[str, ...]]

LONGEST = 4
"""Words in the longest n-gram."""
ROUGE_BETA = 1.2
"""Weight of recall in ROUGE-L's F."""
CIDER_SIGMA = 6.0
"""Width of CIDEr-D's penalty on lengths."""
_TINY, _SMALL = 1e-15, 1e-9  # keep BLEU defined without n-grams


def score_reports(
    references: Mapping[str, str], generated: Mapping[str, str], *, as_released: bool = False
) -> dict[str, float]:
    """BLEU_1 to BLEU_4, ROUGE_L and CIDEr of texts by study; CIDEr in [0, 10], the others in [0, 1].

    Words are what blanks separate: clean texts before (`trainers.metrics.report_words`). CIDEr needs several studies.
    as_released: double blanks are words to ROUGE_L, and METEOR is there and always 0, as in ASAP's table.
    Raises ReportError where the studies differ.
    """
    if set(references) != set(generated) or not references:
        missing = sorted(set(references) ^ set(generated))[:3]
        raise ReportError(f"References and texts are of other studies, such as {missing}; expected the same, some.")
    pairs = [(generated[study], reference) for study, reference in references.items()]
    scores = {f"BLEU_{n}": bleu for n, bleu in enumerate(score_bleu(pairs), start=1)}
    scores["ROUGE_L"] = sum(score_rouge(*pair, as_released=as_released) for pair in pairs) / len(pairs)
    scores["CIDEr"] = score_cider(pairs)
    return scores | ({"METEOR": 0.0} if as_released else {})


def score_bleu(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """BLEU-1 to BLEU-4 of a corpus of (text, reference): Papineni et al. 2002, equations of section 2.3."""
    right, tried = [0] * LONGEST, [0] * LONGEST
    text_words = reference_words = 0
    for text, reference in pairs:
        words, wanted = text.split(), reference.split()
        text_words, reference_words = text_words + len(words), reference_words + len(wanted)
        for n in range(LONGEST):
            grams = _count_grams(words, n + 1)
            right[n] += (grams & _count_grams(wanted, n + 1)).total()
            tried[n] += grams.total()
    brevity = min(1.0, math.exp(1 - 1 / ((text_words + _TINY) / (reference_words + _SMALL))))
    product, scores = 1.0, []
    for n in range(LONGEST):
        product *= (right[n] + _TINY) / (tried[n] + _SMALL)
        scores.append(brevity * product ** (1 / (n + 1)))
    return scores


def _count_grams(words: Sequence[str], n: int) -> Grams:
    return Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))


def score_rouge(text: str, reference: str, *, as_released: bool = False) -> float:
    """ROUGE-L's F with beta 1.2 (Lin 2004, equation 4) of one text.

    as_released: words are cut at single blanks, so that double blanks hold empty words, and two empty texts are alike.
    """
    words, wanted = (each.split(" ") if as_released else each.split() for each in (text, reference))
    common = measure_common(words, wanted)
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(wanted)
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


def measure_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence; a row of the table is one integer (Hyyro 2004)."""
    places: dict[str, int] = {}
    for at, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << at
    full = (1 << len(first)) - 1
    row = full  # 0 bits are the steps of the table's row
    for word in second:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(first) - row.bit_count()


def score_cider(pairs: Sequence[tuple[str, str]]) -> float:
    """CIDEr-D of (text, reference), 10 = all the same (Vedantam et al. 2015, equations 1 to 5, one reference a text).

    Words that stand in every reference weigh nothing. The length that is compared is the number of pairs of words,
    as in the public code.
    """
    references = [_grams_by_length(reference.split()) for _, reference in pairs]
    seen = Counter(gram for by_length in references for grams in by_length for gram in grams)
    total = 0.0
    for (text, _), reference in zip(pairs, references, strict=True):
        written = _grams_by_length(text.split())
        shift = written[1].total() - reference[1].total()
        cosine = sum(_compare(a, b, seen, len(pairs)) for a, b in zip(written, reference, strict=True)) / LONGEST
        total += 10 * cosine * math.exp(-(shift**2) / (2 * CIDER_SIGMA**2))
    return total / len(pairs)


def _grams_by_length(words: Sequence[str]) -> list[Grams]:
    return [_count_grams(words, n) for n in range(1, LONGEST + 1)]


def _compare(text: Grams, reference: Grams, seen: Grams, documents: int) -> float:
    """Cosine of two weighted counts, a text's counts clipped to the reference's."""
    one, other = ({g: c * _rarity(g, seen, documents) for g, c in grams.items()} for grams in (text, reference))
    norms = math.sqrt(sum(w * w for w in one.values())) * math.sqrt(sum(w * w for w in other.values()))
    shared = sum(min(weight, other[gram]) * other[gram] for gram, weight in one.items() if gram in other)
    return shared / norms if norms else shared


def _rarity(gram: tuple[str, ...], seen: Grams, documents: int) -> float:
    return math.log(documents) - math.log(max(1, seen[gram]))
