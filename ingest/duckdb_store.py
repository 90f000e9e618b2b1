"""The embedded history store. The only module that opens DuckDB; other processes ask the engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import structlog

from ingest.store import DAY_MS, Buckets, Retention, SampleBatch
from watchroom.errors import StoreError
from watchroom.signals import USABLE

log = structlog.get_logger(__name__)

MEMORY_LIMIT = "192MB"
DAMAGED = "Corrupt WAL file"
"""How DuckDB says that its log has a hole: a page in the middle of the last commit that never reached the disk."""
_SCHEMA = """
create table if not exists signal (id integer primary key, key varchar not null unique);
create table if not exists sample (
    signal integer not null, time_ms bigint not null, value double, quality utinyint not null
);
create table if not exists position (one integer primary key, journal bigint not null);
insert into position values (1, 0) on conflict do nothing;
"""
_RANGE = f"""
select signal, max(time_ms) filter (good), min(value) filter (good), max(value) filter (good),
  avg(value) filter (good), arg_max(value, time_ms) filter (good), count(*) filter (good), count(*) filter (not good)
from (
  select *, quality in ({", ".join(str(int(q)) for q in sorted(USABLE))}) and not isnan(value) as good from sample
  where signal in (select unnest($signals)) and time_ms >= $start and time_ms < $end
)
group by signal, (time_ms - $start) * $buckets // ($end - $start)
having count(*) filter (good) > 0
order by 1, 2
"""


class DuckStore:
    """History in one DuckDB file beside the journal.

    Rows and the position commit in one transaction, so a batch that is repeated after a crash is never there twice.

    Args:
        path: The database file; made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write: Any = None
        self._ids: dict[str, int] = {}
        self._lock = threading.Lock()
        self._is_broken = False

    def open(self) -> None:
        """Open or make the file.

        A log that a power cut left damaged is put aside: the file then stands at an earlier position, from which the
        journal fills it again.
        """
        with _translated(self._path):
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
            self._write.execute(_SCHEMA)
            self._ids = dict(self._write.execute("select key, id from signal").fetchall())

    def _connect(self) -> Any:
        return duckdb.connect(str(self._path), config={"memory_limit": MEMORY_LIMIT, "threads": 2})

    def position(self) -> int:
        """Return the journal offset after the last one stored."""
        with _translated(self._path), self._lock:
            return self._stored_position()

    def write(self, batch: SampleBatch, *, position: int | None) -> None:
        """Store samples and position in one transaction."""
        with _translated(self._path), self._lock:
            if self._is_broken and self._revive() == position:
                return  # the commit had succeeded, what failed came after it
            known = dict(self._ids)
            self._write.execute("begin")
            try:
                for key in batch.keys:
                    if key not in known:
                        known[key] = len(known)
                        self._write.execute("insert into signal values (?, ?)", [known[key], key])
                if len(batch):
                    ids = np.array([known[key] for key in batch.keys], dtype=np.int32)
                    # DuckDB finds this local variable by its name
                    rows = {
                        "signal": ids[batch.series],
                        "time_ms": batch.time_ms,
                        "value": batch.value,
                        "quality": batch.quality,
                    }
                    self._write.execute("insert into sample select signal, time_ms, value, quality from rows")
                    del rows
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

    def range(self, keys: Sequence[str], *, start_ms: int, end_ms: int, buckets: int) -> Mapping[str, Buckets]:
        """Return each signal by buckets; may be called beside the writer, from any thread."""
        names = {self._ids[key]: key for key in keys if key in self._ids}
        result = {key: Buckets(t=[], min=[], max=[], mean=[], last=[], count=[], bad=[]) for key in keys}
        if not names:
            return result
        with _translated(self._path), self._write.cursor() as reader:
            rows = reader.execute(
                _RANGE, {"signals": list(names), "start": start_ms, "end": end_ms, "buckets": buckets}
            ).fetchall()
        for signal, time_ms, least, most, mean, last, count, bad in rows:
            series = result[names[signal]]
            series.t.append(time_ms)
            series.min.append(least)
            series.max.append(most)
            series.mean.append(mean)
            series.last.append(last)
            series.count.append(count)
            series.bad.append(bad)
        return result

    def expire(self, now_ms: int, keep: Retention) -> None:
        """Forget samples older than they are kept."""
        if not keep.raw_days:
            return
        with _translated(self._path), self._lock:
            self._write.execute("delete from sample where time_ms < ?", [now_ms - round(keep.raw_days * DAY_MS)])

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
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as exc:
        raise StoreError(f"history store {path}: {exc}") from exc
