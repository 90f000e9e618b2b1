"""Connections to the SQL database: one way to open it, one to read, one to write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, NoSuchModuleError, OperationalError

from watchroom.database.migrations import migrate
from watchroom.errors import ConfigError, StoreError

__all__ = ["migrate", "open_database", "reading", "writing"]

BUSY_MS = 5_000
POOL_SIZE = 8


def open_database(url: str) -> Engine:
    """Return an engine for a SQLite file or a PostgreSQL server; nothing is connected yet.

    SQLite runs in WAL mode, synchronises every commit and takes its write lock when a transaction begins, so
    two writers wait for each other instead of failing. PostgreSQL is reached through psycopg 3.

    Args:
        url: SQLAlchemy URL, ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``.

    Raises:
        ConfigError: If the URL is of another kind, or the driver is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise ConfigError(
            "this is not a database URL", key="database", hint="sqlite:///FILE or postgresql://..."
        ) from exc
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed.database or "")
    if parsed.get_backend_name() != "postgresql":
        kind = parsed.get_backend_name()
        raise ConfigError(f"{kind} is not supported", key="database", hint="sqlite:///FILE or postgresql://...")
    try:
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            json_serializer=_json,
            pool_size=POOL_SIZE,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 5, "application_name": "watchroom"},
        )
    except (ImportError, NoSuchModuleError) as exc:
        raise ConfigError(
            "the PostgreSQL driver is missing", key="database", hint="pip install watchroom[postgres]"
        ) from exc


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Run the block in one writing transaction: committed at its end, rolled back by any exception.

    Blocks up to 5 s while another process writes to the same SQLite file.

    Raises:
        StoreError: If the database is away, full or locked; nothing of the block has been kept, except that
            an error during the commit itself leaves it open whether it was.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except (OperationalError, InterfaceError) as exc:
        raise StoreError(_problem(exc)) from exc


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Run the block over one consistent snapshot; never waits for a writer and never blocks one.

    Raises:
        StoreError: If the database is away.
    """
    options: dict[str, Any] = {"watchroom_reads": True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    try:
        with engine.connect() as connection:
            yield connection.execution_options(**options)
    except (OperationalError, InterfaceError) as exc:
        raise StoreError(_problem(exc)) from exc


def _open_sqlite(database: str) -> Engine:
    if not database or database == ":memory:":
        raise ConfigError("the database must be a file", key="database", hint="sqlite:///FILE")
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        f"sqlite:///{database}", json_serializer=_json, pool_size=POOL_SIZE, connect_args={"check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # sqlite3 must not begin transactions by itself: it would begin them without the write lock
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "wal_autocheckpoint=4000",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("watchroom_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _problem(exc: OperationalError | InterfaceError) -> str:
    # the statement and its parameters may hold personal data: only the driver's first line is told
    text = str(exc.orig).strip().splitlines()
    return text[0] if text else type(exc.orig).__name__
