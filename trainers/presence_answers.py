"""Questions whose truth is known, put to an engine: claims about synthetic studies, read as those of a report are."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.anatomy.masks import OrganMasks
from core.errors import ConfigError
from core.grounding.engine import GroundingEngine
from core.grounding.query import SentenceQuery, query_of
from core.grounding.readout import Canvas, ground_sentences, make_canvas
from core.report.parse import parse_report
from core.structures import BY_NAME, parts_of
from core.synthesis.claims import KINDS
from core.synthesis.patients import Patient
from core.synthesis.reports import draw_claim
from core.synthesis.sentences import STYLES, write_sentence
from core.synthesis.studies import SyntheticStudy
from core.volume import Grid, Volume
from trainers.claims import AskedClaim, claims_about, is_finding
from trainers.presence_fit import Answer
from trainers.stored_study import NOWHERE, Facts, StoredStudy, region_of, store

BORROWED = 12
"""Random claims drawn for a study, of which the false ones may be asked."""
SEEN = 0.5
"""A finding counts as there when at least this share of it lies in what the engine sees."""
HIDDEN = ("pleura", "pericardium")
"""Structures that are in a study's labels where a finding was painted only: no engine for organs would give them."""


class Question(NamedTuple):
    """One sentence about a study."""

    query: SentenceQuery
    is_there: bool  # the finding that it claims, or denies


def ask_study(
    engine: GroundingEngine, study: SyntheticStudy, patient: Patient, number: int, rng: np.random.Generator
) -> list[Answer]:
    """Every true claim about a study and about as many false ones, as claims and as denials, each by its scores."""
    scene = study.scene
    volume = Volume(np.rint(np.clip(scene.hu, -1024, 3071)).astype(np.int16), scene.grid, scene.grid)
    masks = OrganMasks(_without_hidden(scene.labels), "truth")
    features = engine.embed_volume(volume, masks)
    canvas = make_canvas(volume, features, masks)
    asked = questions_about(study, store(study, patient.never_denied), canvas, rng)
    found = ground_sentences(engine, features, canvas, [one.query for one in asked])
    return [
        Answer(patient.name, number, one.query.asked.finding, one.is_there, *grounding.presence)
        for one, grounding in zip(asked, found, strict=True)
        if grounding.presence is not None
    ]


def questions_about(
    study: SyntheticStudy, stored: StoredStudy, canvas: Canvas, rng: np.random.Generator
) -> list[Question]:
    """Sentences about a study that state one finding outright, with the truth; `stored` is the study itself.

    A finding that lies outside of what the engine sees is not asked for, and a claim and its denial only once.
    """
    words = stored.words
    denied = [facts for facts in words.statements if facts["existence"] == "absent" and facts["is_alone"]]
    denials = {str(facts["text"]) for facts in denied if is_finding(facts)}
    claims = claims_about(words, _draw_others(rng), 2 + len(words.painted), rng)
    claims += [AskedClaim(text, NOWHERE) for text in sorted(denials)]
    claims += _said_again(study, stored, rng)
    questions: dict[frozenset[str], Question] = {}
    for place in rng.permutation(len(claims)):  # whether a claim or its denial is asked is chance
        text, region = claims[place]
        query = _read(text, len(questions) + 1)
        if query is None or (region != NOWHERE and not _is_seen(stored.regions[region], study.scene.grid, canvas)):
            continue
        is_there = text not in denials and (region != NOWHERE) != query.asked.is_denied
        questions.setdefault(frozenset((query.text, query.negation)), Question(query, is_there))
    return list(questions.values())


def _said_again(study: SyntheticStudy, stored: StoredStudy, rng: np.random.Generator) -> list[AskedClaim]:
    """Every finding of a study in other words than the report's: there are few of each kind."""
    claims = []
    for finding in study.findings:
        style = STYLES[int(rng.integers(len(STYLES)))]
        text = write_sentence(finding.claim, style, rng).text
        claims.append(AskedClaim(text, region_of(stored.words.painted[finding.claim.kind])))
    return claims


def _read(text: str, number: int) -> SentenceQuery | None:
    """A sentence as a report's are read; None for one that does not state one finding."""
    sentences = parse_report(text).sentences
    if len(sentences) != 1:
        return None
    query = query_of(sentences[0])
    return None if query.asked.why_not else replace(query, index=number)


def _draw_others(rng: np.random.Generator) -> list[Facts]:
    """Random claims as the sentences of another study."""
    others: list[Facts] = []
    for kind in rng.choice(sorted(KINDS), BORROWED).tolist():
        style = STYLES[int(rng.integers(len(STYLES)))]
        told = write_sentence(draw_claim(kind, rng), style, rng)
        facts = {"text": told.text, "kind": told.kind, "existence": told.existence, "laterality": told.laterality}
        others.append({**facts, "organs": list(told.organs), "is_alone": not told.also, "region": NOWHERE})
    return others


def _is_seen(region: np.ndarray, grid: Grid, canvas: Canvas) -> bool:
    """Whether enough of a region (X, Y, Z) on `grid` lies in what the engine sees."""
    at = np.rint(canvas.grid.to_voxel(grid.to_mm(np.argwhere(region)))).astype(int)
    is_in = ((at >= 0) & (at < np.array(canvas.grid.shape))).all(axis=1)
    seen = canvas.inside[tuple(at[is_in].T)].sum()
    return bool(seen >= SEEN * len(at))


def _without_hidden(labels: np.ndarray) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    for name in HIDDEN:
        table[list(parts_of(name))] = BY_NAME["body"].number
    return table[labels]


class AnswerFile:
    """Answers kept line by line, so that a long run can be gone on with; None keeps nothing."""

    def __init__(self, path: Path | None, about: dict[str, object]) -> None:
        self._path = path
        self.answers: list[Answer] = []
        self.done: set[int] = set()
        if path is None:
            return
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        lines = text.splitlines()
        if lines and json.loads(lines[0]) != about:
            raise ConfigError(
                f"{path} holds answers of another model, seed or kind of study; expected {json.dumps(about)}. Name "
                "another file, or delete this one."
            )
        if not lines:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(about) + "\n", encoding="utf-8")
        elif not text.endswith("\n"):
            self._append("\n")
        for line in lines[1:]:
            self._take(line)

    def add(self, number: int, answers: Sequence[Answer]) -> None:
        """Keep what was answered about study `number`."""
        self.done.add(number)
        self.answers += answers
        if self._path is not None:
            self._append(json.dumps({"number": number, "answers": answers}) + "\n")

    def _append(self, text: str) -> None:
        assert self._path is not None
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)

    def _take(self, line: str) -> None:
        """A line of an earlier run; the last one may be torn and is then asked for again."""
        try:
            told = json.loads(line)
        except ValueError:
            return
        self.done.add(int(told["number"]))
        self.answers += [Answer(*answer) for answer in told["answers"]]
