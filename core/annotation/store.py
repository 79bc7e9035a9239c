"""Verdicts, notes and regions of every CT, kept under its content hash, with a history that can be undone."""

import datetime
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from core.annotation.database import connect, reading, writing
from core.annotation.records import (
    ANONYMOUS,
    MAX_NOTE,
    MAX_TITLE,
    Action,
    Annotation,
    CaseSummary,
    Change,
    Evidence,
    SentenceRef,
    annotation_fields,
    read_fields,
    require_author,
    require_hash,
    require_sentence,
    require_text,
    require_verdict,
)
from core.annotation.regions import Region, StoredRegion, decode_grid, encode_grid, require_region
from core.annotation.rows import change_values, read_annotation, read_change, read_region, region_values
from core.annotation.schema import ANNOTATION, CASE, CHANGE, REGION, bring_up_to_date
from core.errors import AnnotationError
from core.volume import Grid


def now_utc() -> str:
    """The present moment as ISO 8601 in UTC, microseconds kept so that changes sort."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


class AnnotationStore:
    """An annotation database; several processes may have it open. Every method raises AnnotationError."""

    def __init__(self, url: str, create: bool = True, clock: Callable[[], str] = now_utc) -> None:
        """Open `url` ("sqlite:///FILE"), making or upgrading its tables; `create` False needs an existing database."""
        self._clock = clock
        self._database = connect(url, create)
        with writing(self._database) as connection:
            bring_up_to_date(connection, clock(), create)

    def close(self) -> None:
        """Release the files."""
        self._database.dispose()

    def describe_case(self, content_hash: str, title: str, grid: Grid) -> None:
        """Keep what a person calls a CT and the grid of its file; the latest description holds."""
        fields = {"title": require_text(title, MAX_TITLE, "title"), "grid": encode_grid(grid)}
        with writing(self._database) as connection:
            self._ensure_case(connection, require_hash(content_hash))
            connection.execute(CASE.update().where(CASE.c.content_hash == content_hash).values(fields))

    def record(
        self,
        content_hash: str,
        sentence: SentenceRef | tuple[int, str],
        verdict: str,
        note: str = "",
        author: str = ANONYMOUS,
        evidence: Evidence | None = None,
    ) -> Annotation:
        """Store an author's verdict on a sentence (index from 1, text), replacing that author's earlier one."""
        place, now = require_sentence(sentence), self._clock()
        fresh = Annotation(
            content_hash=require_hash(content_hash),
            sentence=place,
            author=require_author(author),
            verdict=require_verdict(verdict),
            note=require_text(note, MAX_NOTE, "note"),
            evidence=evidence,
            created_utc=now,
            updated_utc=now,
        )
        with writing(self._database) as connection:
            self._ensure_case(connection, fresh.content_hash)
            before = _find(connection, fresh)
            if before is not None:
                fresh = Annotation(**vars(fresh) | {"created_utc": before.created_utc})
            _put(connection, fresh)
            _log(connection, fresh, "record", now, before=before, after=fresh)
        return fresh

    def undo(self, content_hash: str, author: str = ANONYMOUS, sentence_text: str | None = None) -> Change | None:
        """Take back the author's latest change of this CT (or of one sentence of it) that still stands.

        Called again it goes further back. Returns the change that was taken back, None when there is none.
        """
        name, now = require_author(author), self._clock()
        with writing(self._database) as connection:
            row = connection.execute(_undoable(require_hash(content_hash), name, sentence_text)).mappings().first()
            if row is None:
                return None
            change = read_change(row)
            if change.action == "record":
                _restore(connection, change)
            else:
                removed = now if change.action == "add region" else None
                connection.execute(REGION.update().where(REGION.c.id == change.region).values(removed_utc=removed))
            values = change_values(content_hash, row["sentence_key"], name, "undo", now)
            values |= {"before": row["after"], "after": row["before"], "undoes": change.number}
            connection.execute(CHANGE.insert().values(values | {"region_id": change.region}))
        return change

    def for_case(self, content_hash: str, author: str | None = None) -> tuple[Annotation, ...]:
        """Current verdicts on a CT, of everybody or of one author, by sentence then author."""
        query = sa.select(ANNOTATION).where(ANNOTATION.c.content_hash == require_hash(content_hash))
        if author is not None:
            query = query.where(ANNOTATION.c.author == require_author(author))
        query = query.order_by(ANNOTATION.c.sentence_index, ANNOTATION.c.author, ANNOTATION.c.id)
        with reading(self._database) as connection:
            return tuple(read_annotation(row) for row in connection.execute(query).mappings())

    def cases(self) -> tuple[CaseSummary, ...]:
        """Every CT with a change, the latest first."""
        query = (
            sa.select(CASE.c.content_hash, CASE.c.title, sa.func.max(CHANGE.c.at_utc).label("last"))
            .join(CHANGE, CHANGE.c.content_hash == CASE.c.content_hash)
            .group_by(CASE.c.content_hash, CASE.c.title)
            .order_by(sa.desc("last"), CASE.c.content_hash)
        )
        with reading(self._database) as connection:
            verdicts = _count_by_case(connection, ANNOTATION, sa.true())
            regions = _count_by_case(connection, REGION, REGION.c.removed_utc.is_(None))
            return tuple(
                CaseSummary(row.content_hash, row.title, verdicts.get(row[0], 0), regions.get(row[0], 0), row.last)
                for row in connection.execute(query)
            )

    def case_grid(self, content_hash: str) -> Grid | None:
        """The grid of the CT's file, if it was described."""
        query = sa.select(CASE.c.grid).where(CASE.c.content_hash == require_hash(content_hash))
        with reading(self._database) as connection:
            text = connection.execute(query).scalar_one_or_none()
        return decode_grid(text) if text else None

    def history(self, content_hash: str) -> tuple[Change, ...]:
        """Every change of a CT, oldest first."""
        query = sa.select(CHANGE).where(CHANGE.c.content_hash == require_hash(content_hash)).order_by(CHANGE.c.id)
        with reading(self._database) as connection:
            return tuple(read_change(row) for row in connection.execute(query).mappings())

    def add_region(
        self, content_hash: str, sentence: SentenceRef | tuple[int, str], region: Region, author: str = ANONYMOUS
    ) -> StoredRegion:
        """Store a painted mask or a box for a sentence; a sentence may have several."""
        place, name, now = require_sentence(sentence), require_author(author), self._clock()
        values = region_values(require_region(region)) | {
            "content_hash": require_hash(content_hash),
            "sentence_key": place.key,
            "sentence_index": place.index,
            "sentence_text": place.text,
            "author": name,
            "created_utc": now,
        }
        with writing(self._database) as connection:
            self._ensure_case(connection, content_hash)
            key = connection.execute(REGION.insert().values(values)).inserted_primary_key
            number = int(key[0]) if key else 0
            log = change_values(content_hash, place.key, name, "add region", now)
            connection.execute(CHANGE.insert().values(log | {"region_id": number}))
        return StoredRegion(number, content_hash, place, name, now, region)

    def remove_region(self, number: int, author: str = ANONYMOUS) -> None:
        """Take a region out of sight; `undo` brings it back."""
        name, now = require_author(author), self._clock()
        with writing(self._database) as connection:
            query = sa.select(REGION).where(REGION.c.id == number, REGION.c.removed_utc.is_(None))
            row = connection.execute(query).mappings().first()
            if row is None:
                raise AnnotationError(f"There is no region {number}; it may have been removed. Reload the case.")
            connection.execute(REGION.update().where(REGION.c.id == number).values(removed_utc=now))
            log = change_values(row["content_hash"], row["sentence_key"], name, "remove region", now)
            connection.execute(CHANGE.insert().values(log | {"region_id": number}))

    def regions(self, content_hash: str) -> tuple[StoredRegion, ...]:
        """The regions of a CT that were not removed, by sentence then age."""
        query = (
            sa.select(REGION)
            .where(REGION.c.content_hash == require_hash(content_hash), REGION.c.removed_utc.is_(None))
            .order_by(REGION.c.sentence_index, REGION.c.id)
        )
        with reading(self._database) as connection:
            return tuple(read_region(row) for row in connection.execute(query).mappings())

    def _ensure_case(self, connection: sa.Connection, content_hash: str) -> None:
        known = connection.execute(sa.select(CASE.c.content_hash).where(CASE.c.content_hash == content_hash)).first()
        if known is None:
            connection.execute(CASE.insert().values(content_hash=content_hash, created_utc=self._clock()))


def _count_by_case(connection: sa.Connection, table: sa.Table, which: sa.ColumnElement[bool]) -> dict[str, int]:
    query = sa.select(table.c.content_hash, sa.func.count()).where(which).group_by(table.c.content_hash)
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def _same_sentence(annotation: Annotation) -> sa.ColumnElement[bool]:
    return sa.and_(
        ANNOTATION.c.content_hash == annotation.content_hash,
        ANNOTATION.c.sentence_key == annotation.sentence.key,
        ANNOTATION.c.author == annotation.author,
    )


def _find(connection: sa.Connection, annotation: Annotation) -> Annotation | None:
    """The present annotation of the same author, CT and sentence."""
    row = connection.execute(sa.select(ANNOTATION).where(_same_sentence(annotation))).mappings().first()
    return read_annotation(row) if row is not None else None


def _put(connection: sa.Connection, annotation: Annotation) -> None:
    """Write an annotation in place of the present one of its author, CT and sentence."""
    connection.execute(ANNOTATION.delete().where(_same_sentence(annotation)))
    evidence = json.dumps(asdict(annotation.evidence)) if annotation.evidence else None
    connection.execute(
        ANNOTATION.insert().values(
            content_hash=annotation.content_hash,
            sentence_key=annotation.sentence.key,
            sentence_index=annotation.sentence.index,
            sentence_text=annotation.sentence.text,
            author=annotation.author,
            verdict=annotation.verdict,
            note=annotation.note,
            created_utc=annotation.created_utc,
            updated_utc=annotation.updated_utc,
            evidence=evidence,
        )
    )


def _restore(connection: sa.Connection, change: Change) -> None:
    """Bring back the annotation from before a "record"."""
    if change.before is not None:
        _put(connection, read_fields(change.before))
    elif change.after is not None:
        connection.execute(ANNOTATION.delete().where(_same_sentence(read_fields(change.after))))


def _undoable(content_hash: str, author: str, sentence_text: str | None) -> sa.Select[Any]:
    """The latest change of an author that is no undo and was not undone."""
    undone = sa.select(CHANGE.c.undoes).where(CHANGE.c.undoes.is_not(None))
    query = sa.select(CHANGE).where(
        CHANGE.c.content_hash == content_hash,
        CHANGE.c.author == author,
        CHANGE.c.action != "undo",
        CHANGE.c.id.not_in(undone),
    )
    if sentence_text is not None:
        query = query.where(CHANGE.c.sentence_key == SentenceRef(1, sentence_text).key)
    return query.order_by(CHANGE.c.id.desc()).limit(1)


def _log(
    connection: sa.Connection,
    of: Annotation,
    action: Action,
    at_utc: str,
    *,
    before: Annotation | None,
    after: Annotation | None,
) -> None:
    values = change_values(of.content_hash, of.sentence.key, of.author, action, at_utc)
    states = {
        name: json.dumps(annotation_fields(state)) if state is not None else None
        for name, state in (("before", before), ("after", after))
    }
    connection.execute(CHANGE.insert().values(values | states))
