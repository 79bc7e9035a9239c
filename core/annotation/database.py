"""Opening the annotation database: one URL, SQLite now, any SQLAlchemy database later."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from core.errors import AnnotationError

BUSY_SECONDS = 10.0
"""How long a write waits for another process's."""


def connect(url: str, create: bool) -> sa.Engine:
    """A connection pool for `url`; for SQLite the file must exist unless `create`. Raises AnnotationError."""
    address = _parse_url(url)
    sqlite = address.get_backend_name() == "sqlite"
    if sqlite:
        _require_file(address, create)
    try:
        engine = sa.create_engine(address, connect_args={"timeout": BUSY_SECONDS} if sqlite else {})
    except (exc.ArgumentError, exc.NoSuchModuleError, ImportError) as error:
        raise AnnotationError(
            f'Cannot use the database "{address.render_as_string(hide_password=True)}": {error}. Install its driver, '
            "or use sqlite:///FILE."
        ) from error
    if sqlite:
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _parse_url(url: str) -> sa.URL:
    try:
        return sa.make_url(url)
    except exc.ArgumentError as error:
        raise AnnotationError(f'"{url[:100]}" is not a database URL; expected for example sqlite:///FILE.') from error


def _require_file(address: sa.URL, create: bool) -> None:
    """The database's folder is made when `create`; otherwise its file must be there."""
    if not address.database or address.database == ":memory:":
        raise AnnotationError("The database URL names no file; expected sqlite:///FILE, since annotations are kept.")
    path = Path(address.database)
    if path.is_dir() or (not create and not path.is_file()):
        found = "is a folder" if path.is_dir() else "does not exist"
        raise AnnotationError(f"The database file {path} {found}. Give the file that the app writes annotations to.")
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AnnotationError(f"The folder {path.parent} cannot be made: {error.strerror}.") from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # sqlite3's own BEGIN comes too late to keep two writers apart
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=FULL")  # a verdict that was shown as saved survives a power cut
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Writers take the lock at once and wait in line; a read that later writes would fail instead of waiting."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that writes: all of it or nothing. Raises AnnotationError when the database refuses."""
    with _explained(), engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One consistent view of the database. Raises AnnotationError when it cannot be read."""
    with _explained(), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what the disk or another process did into words; our own mistakes in SQL stay loud."""
    try:
        yield
    except (exc.ProgrammingError, exc.IntegrityError):
        raise
    except exc.DBAPIError as error:
        reason = str(error.orig)
        advice = "Close the other program and try again" if "locked" in reason else "Check the file, or use a copy"
        raise AnnotationError(f"The annotation database cannot be used: {reason}. {advice}.") from error
