"""Claims that are true or false of a synthetic study, each to be read alone, as a reader asks an engine.

True ones are the study's own sentences. False ones are their denials and other sides, what the report denies said as if
it were there, and sentences borrowed from other studies: those are worded as true ones are, so that nothing but the CT
tells them apart.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from core.report.rephrase import negate_sentence, swap_side
from core.structures import parts_of
from core.synthesis.claims import KINDS, swap_side_name
from core.synthesis.studies import CONFUSED
from trainers.cells import undeniable
from trainers.stored_study import NOWHERE, Facts, Words, region_of

T = TypeVar("T")

DENIALS = 4
"""Most denials of what is there among the false claims of a study: the words alone give them away."""


class AskedClaim(NamedTuple):
    """A claim about a CT."""

    text: str
    region: int
    """Number of the study's region that makes the claim true; `NOWHERE` = the claim is false."""


def claims_about(
    words: Words, others: Sequence[Facts], false_claims: int, rng: np.random.Generator
) -> list[AskedClaim]:
    """Every sentence of a study that is true somewhere, and false claims, up to `false_claims` of them borrowed."""
    true = [facts for facts in words.statements if region_of(facts) != NOWHERE]
    asked = [AskedClaim(str(facts["text"]), region_of(facts)) for facts in true]
    false = [swap_side(str(facts["text"])) for facts in true if is_false_on_other_side(words, facts)]
    alone = [facts for facts in words.statements if facts["is_alone"]]
    denied = [str(facts["text"]) for facts in alone if facts["existence"] == "absent" and is_finding(facts)]
    false += [negate_sentence(text) for text in denied]
    borrowed = [str(facts["text"]) for facts in others if is_false_of(words, facts)]
    false += _some(list(dict.fromkeys(borrowed)), false_claims, rng)
    plain = [facts for facts in alone if region_of(facts) != NOWHERE]
    denials = [negate_sentence(str(facts["text"])) for facts in _some(plain, DENIALS // 2, rng)]
    false += denials + _some(denied, DENIALS - len(denials), rng)
    known = {claim.text for claim in asked}
    return asked + [AskedClaim(text, NOWHERE) for text in dict.fromkeys(false) if text not in known]


def is_false_of(words: Words, facts: Facts) -> bool:
    """Whether a sentence of another study is false here: there is nothing like it, or only in other places.

    A finding that the patient may really have is never called absent.
    """
    if facts["existence"] != "present" or not is_finding(facts) or not facts["is_alone"]:
        return False
    kind = KINDS[str(facts["kind"])]
    if kind.finding in undeniable((), words.never_denied):
        return False
    alike = {name: {KINDS[name].finding, *CONFUSED.get(name, ())} for name in words.painted}
    own = [painted for name, painted in words.painted.items() if kind.finding in alike[name]]
    here, elsewhere = {part for painted in own for part in _parts(painted)}, _parts(facts)
    return not own or (kind.place != "organ" and bool(here and elsewhere) and not here & elsewhere)


def is_finding(facts: Facts) -> bool:
    """Whether a sentence speaks of a finding, and not of an organ that is normal."""
    return facts["kind"] in KINDS


def is_false_on_other_side(words: Words, facts: Facts) -> bool:
    """Whether a sentence of the study is false when left and right are exchanged in it: nothing of it lies there."""
    text, organs = str(facts["text"]), facts["organs"]
    if not is_finding(facts) or facts["laterality"] not in ("left", "right") or swap_side(text) == text:
        return False
    assert isinstance(organs, list | tuple)
    return is_false_of(words, facts | {"existence": "present", "organs": [swap_side_name(name) for name in organs]})


def _parts(facts: Facts) -> frozenset[int]:
    """Label numbers of the structures that a sentence names."""
    organs = facts["organs"]
    assert isinstance(organs, list | tuple)
    return frozenset(part for name in organs for part in parts_of(name))


def _some(items: Sequence[T], most: int, rng: np.random.Generator) -> list[T]:
    """At most so many of the items, drawn."""
    return [items[place] for place in rng.permutation(len(items))[: max(most, 0)]]
