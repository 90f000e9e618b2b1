"""Reading and writing: snapshots do not wait, writers queue, an absent database is a StoreError."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text

from tests.postgres import Cluster
from watchroom.database.connect import open_database, reading, writing
from watchroom.database.tables import audit
from watchroom.errors import ConfigError, StoreError


def note(action: str) -> dict[str, object]:
    return {"at_ms": 1, "action": action, "detail": {}}


def count(engine: Engine) -> int:
    with reading(engine) as connection:
        return connection.execute(select(func.count()).select_from(audit)).scalar_one()


def test_a_failed_block_leaves_nothing(database: Engine) -> None:
    """What is written together is kept together or not at all."""

    def half() -> None:
        with writing(database) as connection:
            connection.execute(audit.insert().values(note("half")))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert count(database) == 0


def test_a_reader_sees_one_snapshot_and_does_not_wait(database: Engine) -> None:
    """A page that reads while the engine writes sees the state before, whole, and at once."""
    with writing(database) as writer:
        writer.execute(audit.insert().values(note("first")))
        with reading(database) as reader:
            assert reader.execute(select(func.count()).select_from(audit)).scalar_one() == 0
    with reading(database) as reader:
        assert reader.execute(select(func.count()).select_from(audit)).scalar_one() == 1
        with writing(database) as writer:
            writer.execute(audit.insert().values(note("second")))
        assert reader.execute(select(func.count()).select_from(audit)).scalar_one() == 1
    assert count(database) == 2


def test_writers_queue_instead_of_failing(tmp_path: Path) -> None:
    """Two processes that read and then write do not get 'database is locked'."""
    url = f"sqlite:///{tmp_path / 'watchroom.sqlite'}"
    first = open_database(url)
    with writing(first) as connection:
        connection.execute(text("CREATE TABLE n (v INTEGER)"))
        connection.execute(text("INSERT INTO n VALUES (0)"))

    def count_up() -> None:
        engine = open_database(url)
        for _ in range(25):
            with writing(engine) as connection:
                value = connection.execute(text("SELECT v FROM n")).scalar_one()
                connection.execute(text("UPDATE n SET v = :v"), {"v": value + 1})
        engine.dispose()

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with reading(first) as connection:
        assert connection.execute(text("SELECT v FROM n")).scalar_one() == 100
    first.dispose()


def test_every_sqlite_commit_is_synchronised(tmp_path: Path) -> None:
    """A committed alarm survives a power cut: WAL with synchronous FULL on every connection of the pool."""
    engine = open_database(f"sqlite:///{tmp_path / 'deep' / 'watchroom.sqlite'}")
    with engine.connect() as one, engine.connect() as two:
        for connection in (one.execution_options(watchroom_reads=True), two.execution_options(watchroom_reads=True)):
            assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
            assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
            assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    engine.dispose()


def test_a_full_sqlite_says_so(tmp_path: Path) -> None:
    """When the disk is full the caller learns to try again later, and loses nothing."""
    engine = open_database(f"sqlite:///{tmp_path / 'watchroom.sqlite'}")
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE t (v BLOB)"))
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count={pages + 2}"))
    with pytest.raises(StoreError, match="full"), writing(engine) as connection:
        connection.execute(text("INSERT INTO t VALUES (zeroblob(1000000))"))
    engine.dispose()


@pytest.mark.postgres
def test_a_postgres_that_restarts_is_a_store_error_and_comes_back(postgres_cluster: Cluster) -> None:
    """A database server that restarts is told as StoreError; the same engine works again afterwards."""
    engine = open_database(postgres_cluster.database())
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE t (v INTEGER)"))
    postgres_cluster.stop()
    try:
        with pytest.raises(StoreError), writing(engine) as connection:
            connection.execute(text("INSERT INTO t VALUES (1)"))
    finally:
        postgres_cluster.start()
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO t VALUES (2)"))
    with reading(engine) as connection:
        assert connection.execute(text("SELECT v FROM t")).scalars().all() == [2]
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d", "nonsense"])
def test_other_databases_are_refused_with_a_clear_sentence(url: str) -> None:
    """A wrong setting says which kinds of database are possible."""
    with pytest.raises(ConfigError, match="sqlite:///FILE"):
        open_database(url)
