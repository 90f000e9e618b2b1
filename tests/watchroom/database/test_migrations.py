"""One schema and one migration history for SQLite and PostgreSQL."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Insert, MetaData, Table, inspect, text

from watchroom.database.connect import migrate, open_database
from watchroom.database.migrations import HEAD, VERSIONS, current, upgrade
from watchroom.database.tables import metadata
from watchroom.errors import ConfigError


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def test_the_known_versions_are_those_of_the_folder() -> None:
    """The quick check at the start knows exactly the migrations that are packaged, the newest last."""
    config = Config()
    config.set_main_option("script_location", "watchroom:database")
    scripts = list(ScriptDirectory.from_config(config).walk_revisions())
    assert [script.revision for script in reversed(scripts)] == list(VERSIONS)
    assert VERSIONS[-1] == HEAD


def test_a_new_database_has_the_schema_of_the_tables(database: Engine) -> None:
    """A first start makes every table and says which revision it is."""
    with database.connect() as connection:
        assert current(connection) == HEAD
    assert differences(database) == []


def test_the_migrations_lead_to_the_same_schema(database_url: str) -> None:
    """A database brought up step by step is the same as one made at once."""
    engine = open_database(database_url)
    with engine.begin() as connection:
        upgrade(connection)
    assert differences(engine) == []
    stepwise = {name: shape(engine, name) for name in inspect(engine).get_table_names() if name != "alembic_version"}
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    migrate(engine)
    assert {name: shape(engine, name) for name in stepwise} == stepwise
    assert len(stepwise) == len(metadata.tables)
    engine.dispose()


def shape(engine: Engine, table: str) -> object:
    """Return what the server says about a table's columns, keys and indexes."""
    look = inspect(engine)
    columns = [(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(table)]
    indexes = sorted((i["name"] or "", tuple(map(str, i["column_names"]))) for i in look.get_indexes(table))
    unique = sorted(tuple(u["column_names"]) for u in look.get_unique_constraints(table))
    foreign = sorted(tuple(f["constrained_columns"]) for f in look.get_foreign_keys(table))
    return columns, indexes, unique, foreign, look.get_pk_constraint(table)["constrained_columns"]


def test_alarms_attached_before_get_the_time_they_were_raised(database_url: str) -> None:
    """A ticket of an older Watchroom goes on showing its newest alarms first."""
    engine = open_database(database_url)
    with engine.begin() as connection:
        upgrade(connection, "0001")
        for table, values in (
            ("alarm", {"id": "a", "site": "s", "row": "r", "raised_ms": 1234}),
            ("ticket", {"id": "t", "number": "WX-1", "site": "s"}),
            ("ticket_alarm", {"ticket_id": "t", "alarm_id": "a"}),
        ):
            connection.execute(_filled(connection, table, values))
        upgrade(connection)
        assert connection.execute(text("SELECT attached_ms FROM ticket_alarm")).scalar_one() == 1234
    engine.dispose()


def _filled(connection: Connection, name: str, values: Mapping[str, object]) -> Insert:
    """Return an insert of a row into a table as it is now, every other column that must have a value filled."""
    table = Table(name, MetaData(), autoload_with=connection)
    blank: dict[type, object] = {int: 0, float: 0.0, bool: False, str: "", dict: {}, object: {}}  # the last two: JSON
    needed = {column.name: blank[column.type.python_type] for column in table.c if not column.nullable}
    return table.insert().values({**needed, **values})


def test_starting_again_changes_nothing_and_does_not_load_alembic(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart does not pay for a migration tool that it does not need."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "alembic"]:
        monkeypatch.delitem(sys.modules, name)
    migrate(database)
    assert "alembic" not in sys.modules


def test_several_processes_may_start_at_once(database_url: str) -> None:
    """Engine and pages start together on an empty database: one makes it, the others wait."""
    problems: list[BaseException] = []

    def start() -> None:
        engine = open_database(database_url)
        try:
            migrate(engine)
        except BaseException as exc:
            problems.append(exc)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert problems == []


def test_a_newer_database_is_refused(database: Engine) -> None:
    """A program that is older than the database does not touch it."""
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="9999"):
        migrate(database)
