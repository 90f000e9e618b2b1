"""The embedded history store. Only the ``ingest.duckdb_*`` modules use DuckDB; other processes ask the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import structlog

from ingest.cells import HOUR_MS
from ingest.duckdb_compaction import Compaction, refresh
from ingest.duckdb_layout import SAMPLE, SCHEMA, Places, hot_table
from ingest.duckdb_reads import DuckReads, Reading
from ingest.store import Retention, SampleBatch
from watchroom.errors import StoreError

log = structlog.get_logger(__name__)

MEMORY_LIMIT = "192MB"
DAMAGED = "Corrupt WAL file"
"""How DuckDB says that its log has a hole: a page in the middle of the last commit that never reached the disk."""
MOST_HOT = 1_000_000
"""Samples of one generation; what a query must look through unsorted."""
MOST_TIME_MS = 1 << 47


class DuckStore(DuckReads):
    """History in one DuckDB file beside the journal, and a folder of files for closed days.

    Rows and the position commit in one transaction, so a batch that is repeated after a crash changes nothing. A file
    of the first version (one table ``sample``) is taken over as its first generation.

    Args:
        path: The database file; made when missing. Day files stand in ``days`` beside it.
        most_hot: Samples after which a new generation begins.
    """

    def __init__(self, path: Path, *, most_hot: int = MOST_HOT) -> None:
        self._path, self._most_hot = path, most_hot
        self._write: Any = None
        self._ids: dict[str, int] = {}
        self._lock, self._tending = threading.Lock(), threading.Lock()
        self._is_broken = False
        self._places = Places(path.with_name(path.stem + "-days"))
        self._generation, self._hot, self._hot_hour = 0, 0, 0

    def open(self) -> None:
        """Open or make the file.

        A log that a power cut left damaged is put aside: the file then stands at an earlier position, from which the
        journal fills it again.
        """
        with self._translated():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._write = self._connect()
            except duckdb.Error as exc:
                if DAMAGED not in str(exc):
                    raise
                wal = self._path.with_name(self._path.name + ".wal")
                log.error("history log damaged, put aside", path=str(wal), problem=str(exc))
                wal.replace(wal.with_name(wal.name + ".damaged"))
                self._write = self._connect()
            self._write.execute(SCHEMA)
            self._places.use(self._write.cursor())
            self._adopt()
            refresh(self._write, self._places)
            self._places.sweep()
            self._ids = dict(self._write.execute("select key, id from signal").fetchall())

    def _connect(self) -> Any:
        # one thread: every statement runs in the thread that asked, which the system can rank below the alarms
        config: dict[str, Any] = {"memory_limit": MEMORY_LIMIT, "threads": 1, "preserve_insertion_order": True}
        return duckdb.connect(str(self._path), config=config)

    def _adopt(self) -> None:
        """Find the newest generation, or make the first."""
        (newest,) = self._write.execute("select max(id) from generation").fetchone()
        if newest is None:
            found = self._write.execute("select count(*) from duckdb_tables() where table_name = 'sample'").fetchone()
            if found[0]:
                self._write.execute("insert into generation values (0)")
            self._begin_generation(1)
        else:
            self._generation = newest
        self._hot = self._write.execute(f"select count(*) from {hot_table(self._generation)}").fetchone()[0]

    def _begin_generation(self, number: int) -> None:
        self._write.execute("begin")
        try:
            self._write.execute(f"create table {hot_table(number)} ({SAMPLE})")
            self._write.execute("insert into generation values (?)", [number])
            self._write.execute("commit")
        except BaseException:
            with suppress(duckdb.Error):
                self._write.execute("rollback")
            raise
        self._generation, self._hot = number, 0

    def position(self) -> int:
        """Return the journal offset after the last one stored."""
        with self._translated(), self._lock:
            return self._stored_position()

    def write(self, batch: SampleBatch, *, position: int | None) -> None:
        """Store samples and position in one transaction."""
        with self._translated(), self._lock:
            if self._is_broken and self._revive() == position:
                return  # the commit had succeeded, what failed came after it
            known = dict(self._ids)
            self._write.execute("begin")
            try:
                for key in batch.keys:
                    if key not in known:
                        known[key] = len(known)
                        self._write.execute("insert into signal values (?, ?)", [known[key], key])
                stored = self._insert(batch, known)
                if position is not None:
                    self._write.execute("update position set journal = ?", [position])
                self._write.execute("commit")
            except BaseException as exc:
                self._is_broken = isinstance(exc, duckdb.FatalException)
                # a commit that failed has ended the transaction by itself; its own message is the one to tell
                with suppress(duckdb.Error):
                    self._write.execute("rollback")
                raise
            self._ids = known
            self._hot += stored
            if self._hot >= self._most_hot:
                self._rotate()

    def _insert(self, batch: SampleBatch, ids: dict[str, int]) -> int:
        if not len(batch):
            return 0
        numbers = np.array([ids[key] for key in batch.keys], dtype=np.int32)
        # DuckDB finds this local variable by its name
        rows: dict[str, Any] = {
            "signal": numbers[batch.series],
            "time_ms": batch.time_ms,
            "value": batch.value,
            "quality": batch.quality,
        }
        sound = (batch.time_ms >= 0) & (batch.time_ms < MOST_TIME_MS)
        if not sound.all():
            log.warning("samples outside of all time not stored", count=int((~sound).sum()))
            rows = {name: column[sound] for name, column in rows.items()}
        self._write.execute(
            f"insert into {hot_table(self._generation)} select signal, time_ms, value, quality from rows"
        )
        return len(rows["signal"])

    def _rotate(self) -> None:
        self._begin_generation(self._generation + 1)
        refresh(self._write, self._places)

    def tend(self, now_ms: int, *, should_stop: Callable[[], bool]) -> None:
        """Compact what is complete and turn days that are over into files; see `ingest.store.Tended`."""
        with self._translated():
            with self._lock:
                if self._write is None or self._is_broken:
                    return
                hour = now_ms // HOUR_MS
                if self._hot and hour > self._hot_hour:
                    # the first call only notes the hour: a generation spans a full one
                    if self._hot_hour:
                        self._rotate()
                    self._hot_hour = hour
                below = self._generation
            with self._compaction(should_stop) as work:
                work.compact(below=below)
                work.close_days(now_ms)

    def expire(self, now_ms: int, keep: Retention) -> None:
        """Forget whole days whose class is not kept any longer; an old day that is open is compacted first."""
        with self._translated(), self._compaction(lambda: False) as work:
            work.expire(now_ms, keep)

    @contextmanager
    def _compaction(self, should_stop: Callable[[], bool]) -> Iterator[Compaction]:
        with self._tending:
            with self._lock:
                if self._write is None:
                    raise StoreError(f"history store {self._path} is not open")
                connection = self._write.cursor()
            with connection:
                yield Compaction(
                    connection, self._places, republish=lambda: self._republish(connection), should_stop=should_stop
                )

    @property
    def places(self) -> Places:
        """Where everything stands, for tests and tools."""
        return self._places

    def cursor(self) -> Any:
        """Return a connection of its own to the open database, for tests and tools."""
        return self._write.cursor()

    def settle(self) -> None:
        """Begin a new generation, so that the next `tend` compacts everything stored until now."""
        with self._translated(), self._lock:
            if self._hot:
                self._rotate()

    def _republish(self, connection: Any) -> None:
        with self._lock:
            refresh(connection, self._places)

    @contextmanager
    def _reading(self, keys: Sequence[str]) -> Iterator[Reading]:
        if self._write is None:
            raise StoreError(f"history store {self._path} is not open")
        ids = [self._ids[key] for key in keys]
        with self._translated(), self._places.lease() as shape, self._write.cursor() as connection:
            connection.execute("begin")
            yield Reading(connection, self._places, shape, ids)
            connection.execute("commit")

    def _stored_position(self) -> int:
        row = self._write.execute("select journal from position").fetchone()
        return int(row[0])

    def _revive(self) -> int:
        """Open the file anew and return its position: after a failed checkpoint DuckDB refuses everything else."""
        self.close()
        self.open()
        self._is_broken = False
        return self._stored_position()

    def close(self) -> None:
        """Close the file."""
        if self._write is not None:
            self._write.close()
            self._write = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except duckdb.FatalException as exc:
            self._is_broken = True
            raise StoreError(f"history store {self._path}: {exc}") from exc
        except (duckdb.Error, OSError) as exc:
            raise StoreError(f"history store {self._path}: {exc}") from exc
