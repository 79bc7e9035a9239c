"""Claims that are true or false of a synthetic study, to teach whether a finding is there and not only where.

A false claim is borrowed from another study, so that true and false ones are worded alike: nothing but the CT tells
them apart. Only lungs and pleura are asked about; whether an organ of a real patient is normal nobody checked.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from core.models.tokens import ReportTokenizer
from core.report.rephrase import negate_sentence, swap_side
from core.synthesis.claims import KINDS

Told = tuple[str, Mapping[str, object]]
"""A sentence and its facts: kind, existence, laterality, whether that is all (`is_alone`), what else is there."""


class Question(NamedTuple):
    """A claim about a CT."""

    text: str
    region: int | None
    """Number of the study's sentence, from 0, whose region makes the claim true; None = the claim is false."""


def ask_about(
    own: Sequence[Told], others: Sequence[Told], false_claims: int, never_denied: Sequence[str] = ()
) -> list[Question]:
    """Every claim of a study, its denial and its other side, and up to `false_claims` of `others` that are false here.

    A claim of `others` is false when the study has no finding of that name, not even a suspected one, and its
    patient's own anatomy is not among the kinds `never_denied`.
    """
    told = [kind for _, facts in own for kind in _kinds_there(facts)]
    there = {KINDS[kind].finding for kind in (*told, *never_denied)}
    questions = []
    for number, (text, facts) in enumerate(own):
        if _is_asked(facts):
            questions += [Question(text, number), Question(negate_sentence(text), None)]
            if facts["laterality"] in ("left", "right") and swap_side(text) != text:
                questions.append(Question(swap_side(text), None))
    free = [text for text, facts in others if _is_asked(facts) and KINDS[_kind(facts)].finding not in there]
    return questions + [Question(text, None) for text in dict.fromkeys(free[:false_claims])]


def _kind(facts: Mapping[str, object]) -> str:
    return str(facts["kind"])


def _kinds_there(facts: Mapping[str, object]) -> list[str]:
    """Kinds that a sentence says are there, or may be."""
    first = [_kind(facts)] if facts["existence"] != "absent" else []
    also = facts.get("also", [])
    return [*first, *map(str, also if isinstance(also, list) else [])]


def _is_asked(facts: Mapping[str, object]) -> bool:
    """Whether a sentence claims one finding of lungs or pleura outright, and nothing else."""
    is_alone = bool(facts.get("is_alone", True))
    return is_alone and facts["existence"] == "present" and KINDS[_kind(facts)].place != "organ"


def question_fields(
    questions: Sequence[Question], shares: Tensor, tokenizer: ReportTokenizer, max_tokens: int
) -> dict[str, Tensor]:
    """The batch fields `asked_*` of `trainers.batch`; shares (S, L) of the study's sentences per patch.

    What lies outside of the crop is there and cannot be seen: such a question does not count.
    """
    nowhere = torch.zeros(shares.shape[1])
    target = [nowhere if asked.region is None else shares[asked.region] for asked in questions]
    if not questions:
        ids, attn = torch.zeros((0, 1), dtype=torch.int64), torch.zeros((0, 1), dtype=torch.bool)
    else:
        ids, attn = tokenizer.encode_prompts([asked.text for asked in questions], max_tokens)
    return {
        "asked_ids": ids,
        "asked_attn": attn,
        "asked_target": torch.stack(target) if target else shares.new_zeros((0, shares.shape[1])),
        "asked_valid": torch.tensor([q.region is None or bool(shares[q.region].any()) for q in questions]).bool(),
    }
