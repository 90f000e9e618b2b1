"""Bring a database to the schema of this program, quickly when there is nothing to do."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, inspect, select, text
from sqlalchemy.exc import InterfaceError, OperationalError

from watchroom.database.tables import metadata
from watchroom.errors import ConfigError, StoreError

VERSIONS = tuple(sorted(file.stem[:4] for file in Path(__file__).with_name("versions").glob("[0-9]*.py")))
HEAD = VERSIONS[-1]
"""The newest revision in folder ``versions``."""
_LOCK = 0x57415443  # "WATC": advisory lock of PostgreSQL
_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def migrate(engine: Engine) -> None:
    """Make the tables, or bring them to the newest revision; safe when several processes start at once.

    A new database is created in one step and stamped; Alembic is loaded only to change an older one, because
    it costs a quarter of a second.

    Raises:
        ConfigError: If the database was made by a newer Watchroom.
        StoreError: If the database is away.
    """
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            _bring_to_head(connection)
    except (OperationalError, InterfaceError) as exc:
        raise StoreError(f"the database is away: {exc.orig}") from exc


def current(connection: Connection) -> str | None:
    """Return the revision of a database, None if it has no tables of ours."""
    if not inspect(connection).has_table(_version.name):
        return None
    return connection.execute(select(_version.c.version_num)).scalar_one_or_none()


def _bring_to_head(connection: Connection) -> None:
    revision = current(connection)
    if revision == HEAD:
        return
    if revision is None:
        metadata.create_all(connection)
        _version.create(connection, checkfirst=True)
        connection.execute(_version.insert().values(version_num=HEAD))
        return
    if revision not in VERSIONS:
        raise ConfigError(
            f"the database has revision {revision}, this program knows only up to {HEAD}",
            key="database",
            hint="start the newer Watchroom that made it",
        )
    upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to a revision inside the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "watchroom:database")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
