"""Cases on disk: a CT, perhaps organ masks, and sentences with the files that show where they are true."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from core.anatomy.provided import load_masks
from core.errors import AsapError, StudyError
from core.reading.study import open_study
from core.volume import Grid, Volume
from trainers.grounding.cases import Case, OpenedCase, Problem, Question, Sentence, Truth
from trainers.grounding.masks import NIFTI, grid_of


class MaskOnDisk(Protocol):
    """Where a sentence is true, in one file or several."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files."""
        ...

    def check(self, ct: Grid | None) -> None:
        """StudyError where headers alone tell that it is missing, or not the mask of a CT on grid `ct`."""
        ...

    def read(self, volume: Volume) -> np.ndarray:
        """(X, Y, Z) bool on the CT's RAS grid."""
        ...


@dataclass(frozen=True)
class ListedSentence:
    """A sentence with its mask."""

    sentence: Sentence
    mask: MaskOnDisk | None
    """None: the sentence is false of this CT."""


@dataclass(frozen=True)
class ListedCase:
    """One CT of a list."""

    name: str
    patient: str
    ct: Path
    """Anything the page opens."""
    sentences: tuple[ListedSentence, ...]
    organs: Path | None = None
    """Label map with the numbers of `core.structures`, on the CT's grid."""
    content_hash: str = ""
    """What the CT must hold; "" = not known."""

    def files(self) -> list[Path]:
        """Every file it is made of."""
        masks = [path for one in self.sentences if one.mask is not None for path in one.mask.paths]
        return list(dict.fromkeys([self.ct, *([self.organs] if self.organs else []), *masks]))


def check_case(case: ListedCase) -> tuple[ListedCase, list[Problem]]:
    """The case without the sentences whose mask cannot be its CT's, told from headers alone, and why they are left out.

    Raises StudyError where the CT or the organ masks are missing.
    """
    for path in (case.ct, case.organs):
        if path is not None and not path.exists():
            raise StudyError(f"{path} does not exist. Check the name, or the folder it is looked for in.")
    place = grid_of(case.ct) if case.ct.name.endswith(NIFTI) else None
    kept, problems = [], []
    for one in case.sentences:
        try:
            if one.mask is not None:
                one.mask.check(place)
            kept.append(one)
        except AsapError as error:
            problems.append(Problem(case.name, one.sentence.text, str(error)))
    return replace(case, sentences=tuple(kept)), problems


def to_case(listed: ListedCase, false: Sequence[Sentence] = ()) -> Case:
    """A case that can be opened; `false` are sentences of other cases that are false of this one."""
    told = [_describe(one.sentence) for one in listed.sentences] + [_describe(one) for one in false]
    stamps = [[str(path), _stamp(path)] for path in listed.files()]
    masks = [repr(one.mask) for one in listed.sentences]
    key = json.dumps([listed.name, listed.patient, listed.content_hash, told, stamps, masks])
    return Case(listed.name, listed.patient, key, _opener(listed, tuple(false)))


def _describe(sentence: Sentence) -> list[object]:
    return [sentence.text, sentence.finding, list(sentence.organs), list(sentence.said)]


def _stamp(path: Path) -> list[int]:
    told = path.stat()
    return [told.st_size, told.st_mtime_ns]


def _opener(listed: ListedCase, false: tuple[Sentence, ...]) -> Callable[[], OpenedCase]:
    def open_listed() -> OpenedCase:
        study = open_study(listed.ct)
        volume = study.volume
        if listed.content_hash and volume.content_hash != listed.content_hash:
            raise StudyError(
                f"{listed.ct.name} is another CT than the one that was annotated ({volume.content_hash[:12]}, expected "
                f"{listed.content_hash[:12]}). Give the annotated file."
            )
        masks = load_masks(listed.organs, volume) if listed.organs else None
        truths = [Truth(one.sentence, one.mask.paths[0].name, one.mask.read) for one in listed.sentences if one.mask]
        questions = [Question(one.sentence, one.mask is not None) for one in listed.sentences]
        questions += [Question(sentence, False) for sentence in false]
        return OpenedCase(volume, masks, tuple(truths), tuple(questions), tuple(study.receipt.warnings))

    return open_listed


def draw_false_sentences(cases: Sequence[ListedCase], count: int, seed: int) -> list[tuple[Sentence, ...]]:
    """For each case up to `count` sentences of the others, about findings that it is not said to have.

    Findings take turns, so that each is asked of as many cases; the same seed draws the same.
    """
    by_finding: dict[str, list[Sentence]] = {}
    for case in cases:
        for sentence in _true_of(case):
            if sentence not in by_finding.setdefault(sentence.finding, []):
                by_finding[sentence.finding].append(sentence)
    rng, drawn = np.random.default_rng(seed), []
    for case in cases:
        there = {one.sentence.finding for one in case.sentences}
        free = sorted(by_finding.keys() - there)
        order = [free[place] for place in rng.permutation(len(free))]
        chosen = [order[number % len(order)] for number in range(count)] if order else []
        picked = [by_finding[finding][rng.integers(len(by_finding[finding]))] for finding in chosen]
        drawn.append(tuple(dict.fromkeys(picked)))
    return drawn


def _true_of(case: ListedCase) -> Iterable[Sentence]:
    return (one.sentence for one in case.sentences if one.mask is not None)
