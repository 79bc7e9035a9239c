"""Tables of the annotation database, and how older databases become the present one."""

from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sa

from core.errors import AnnotationError

METADATA = sa.MetaData()

SCHEMA_VERSION = sa.Table(
    "schema_version",
    METADATA,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("applied_utc", sa.String(40), nullable=False),
)

CASE = sa.Table(
    "annotated_case",
    METADATA,
    sa.Column("content_hash", sa.String(128), primary_key=True),
    sa.Column("title", sa.String(200), nullable=False, server_default=""),
    sa.Column("grid", sa.Text),  # JSON: shape and affine of the CT's file
    sa.Column("created_utc", sa.String(40), nullable=False),
)

ANNOTATION = sa.Table(
    "annotation",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("content_hash", sa.String(128), nullable=False),
    sa.Column("sentence_key", sa.String(64), nullable=False),
    sa.Column("sentence_index", sa.Integer, nullable=False),
    sa.Column("sentence_text", sa.Text, nullable=False),
    sa.Column("author", sa.String(100), nullable=False),
    sa.Column("verdict", sa.String(20), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("created_utc", sa.String(40), nullable=False),
    sa.Column("updated_utc", sa.String(40), nullable=False),
    sa.Column("evidence", sa.Text),  # JSON of `Evidence`; since version 2
    sa.UniqueConstraint("content_hash", "sentence_key", "author"),
)

REGION = sa.Table(  # since version 2
    "region",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("content_hash", sa.String(128), nullable=False, index=True),
    sa.Column("sentence_key", sa.String(64), nullable=False),
    sa.Column("sentence_index", sa.Integer, nullable=False),
    sa.Column("sentence_text", sa.Text, nullable=False),
    sa.Column("author", sa.String(100), nullable=False),
    sa.Column("grid", sa.Text, nullable=False),  # JSON: shape and affine of the CT's file
    sa.Column("box_mm", sa.Text),  # JSON: low and high corner; NULL for a drawn mask
    sa.Column("mask", sa.LargeBinary),  # gzipped NIfTI; NULL for a box
    sa.Column("created_utc", sa.String(40), nullable=False),
    sa.Column("removed_utc", sa.String(40)),
)

CHANGE = sa.Table(
    "change",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("content_hash", sa.String(128), nullable=False, index=True),
    sa.Column("sentence_key", sa.String(64), nullable=False),
    sa.Column("author", sa.String(100), nullable=False),
    sa.Column("action", sa.String(20), nullable=False),
    sa.Column("at_utc", sa.String(40), nullable=False),
    sa.Column("before", sa.Text),  # JSON
    sa.Column("after", sa.Text),  # JSON
    sa.Column("region_id", sa.Integer),  # since version 2
    sa.Column("undoes", sa.Integer),
)


class Migration(NamedTuple):
    """One step from version - 1 to `version`; never edited once released."""

    version: int
    name: str
    apply: Callable[[sa.Connection], None]


def _add_regions_and_evidence(connection: sa.Connection) -> None:
    connection.execute(sa.text("ALTER TABLE annotation ADD COLUMN evidence TEXT"))
    connection.execute(sa.text("ALTER TABLE change ADD COLUMN region_id INTEGER"))
    REGION.create(connection)


MIGRATIONS: tuple[Migration, ...] = (Migration(2, "regions and evidence", _add_regions_and_evidence),)
"""Ascending; a new database is made at the last version at once."""
LATEST = MIGRATIONS[-1].version


def bring_up_to_date(connection: sa.Connection, now_utc: str, may_create: bool) -> None:
    """Create the tables, or apply the migrations that are missing, inside the caller's transaction.

    Raises AnnotationError for a database of something else or of a newer program.
    """
    tables = set(sa.inspect(connection).get_table_names())
    if SCHEMA_VERSION.name not in tables:
        if tables or not may_create:
            raise AnnotationError(
                f"The database is not one of this program (tables: {', '.join(sorted(tables))[:100] or 'none'}). "
                "Give the URL of an annotation database, or of a file that does not exist yet."
            )
        METADATA.create_all(connection)
        _note_version(connection, LATEST, "created", now_utc)
        return
    found = connection.execute(sa.select(sa.func.max(SCHEMA_VERSION.c.version))).scalar_one() or 0
    if found > LATEST or found < 1:
        raise AnnotationError(
            f"The annotation database has schema version {found}; this program knows 1 to {LATEST}. Update the program."
        )
    for migration in MIGRATIONS:
        if migration.version > found:
            migration.apply(connection)
            _note_version(connection, migration.version, migration.name, now_utc)


def _note_version(connection: sa.Connection, version: int, name: str, now_utc: str) -> None:
    connection.execute(SCHEMA_VERSION.insert().values(version=version, name=name, applied_utc=now_utc))
