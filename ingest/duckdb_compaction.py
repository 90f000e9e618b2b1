"""Background work of the embedded store: hot samples to sorted tables and roll-ups, closed days to files, retention.

Every step is one transaction of at most `MOST_ROWS` samples, or one file that nobody knows until it is whole. A step
that was stopped or killed is done again: its result is the same (see `ingest.duckdb_layout`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from ingest.cells import HOUR_MS, MINUTE_MS
from ingest.duckdb_layout import (
    CELL,
    FILED,
    GOOD,
    SAMPLE,
    Day,
    Places,
    file_name,
    hot_table,
    put_day,
    quoted,
    raw_file,
    read_shape,
)
from ingest.store import DAY_MS, Retention
from watchroom.disk import RealDisk

log = structlog.get_logger(__name__)

MOST_ROWS = 1_000_000
"""Samples one transaction sorts: about 100 MB and one or two seconds of a core."""
HOLD_MS = 120_000
"""A bad sample spoils the time until the next one, at most this long and not past midnight UTC."""
GRACE_MS = 600_000
"""How long after its end a day may still get samples before it becomes a file."""
LATE_ROWS = 100_000
LATE_MS = HOUR_MS
DRAFT = "draft"
_SAMPLE = "signal, time_ms, value, quality"
_HELD_CELLS = HOLD_MS // MINUTE_MS
_NEWEST = "lead(time_ms) over (partition by signal order by time_ms, age, r) is distinct from time_ms"

_MINUTES = f"""
with sample as (
    select *, {GOOD} as good, lead(time_ms) over (partition by signal order by time_ms) as next_ms from merged
), figures as (
    select signal, time_ms // {MINUTE_MS} as cell, count(*) filter (good) as "count",
        count(*) filter (not good) as bad, min(value) filter (good) as "min", max(value) filter (good) as "max",
        sum(value) filter (good) as total, arg_max(value, time_ms) filter (good) as "last",
        max(time_ms) filter (good) % {MINUTE_MS} as last_ms
    from sample group by all
), spoilt as (
    select signal, cell, sum(least(until, (cell + 1) * {MINUTE_MS}) - greatest(time_ms, cell * {MINUTE_MS})) as bad_ms
    from (
        select signal, time_ms, time_ms // {MINUTE_MS} + unnest(range({_HELD_CELLS + 1})) as cell,
            least(coalesce(next_ms, time_ms + {HOLD_MS}), time_ms + {HOLD_MS}) as until
        from sample where not good
    ) where until > cell * {MINUTE_MS} group by all
)
select c.signal, c.cell, coalesce(f."count", 0), coalesce(f.bad, 0), coalesce(s.bad_ms, 0),
    coalesce(f."min", 0), coalesce(f."max", 0),
    -- a sum of decimals is one, up to the noise of adding: without the noise it takes a third of the room
    coalesce(case when abs(round(total, 6) - total) <= 1e-13 * abs(total) then round(total, 6) else total end, 0),
    coalesce(f."last", 0), coalesce(f.last_ms, 0)
from cells c left join figures f using (signal, cell) left join spoilt s using (signal, cell)
"""
_HOURS = f"""
with newest as (
    select * from ({{minutes}}) qualify row_number() over (partition by signal, cell order by age desc, r desc) = 1
)
select signal, cell // 60, sum("count"), sum(bad), sum(bad_ms),
    coalesce(min("min") filter ("count" > 0), 0), coalesce(max("max") filter ("count" > 0), 0), sum(total),
    coalesce(arg_max("last", cell) filter ("count" > 0), 0),
    coalesce(max(cell::bigint * {MINUTE_MS} + last_ms) filter ("count" > 0) % {HOUR_MS}, 0)
from newest group by all
"""


class Compaction:
    """Keeps the store sorted, rolled up and trimmed. One thread.

    Args:
        connection: A connection of its own to the open store.
        places: Where everything stands; changed only by this class and by the writer's new generations.
        republish: Makes the places known again after a change.
        should_stop: Asked between steps.
    """

    def __init__(
        self, connection: Any, places: Places, *, republish: Callable[[], None], should_stop: Callable[[], bool]
    ) -> None:
        self._db, self._places = connection, places
        self._republish, self._should_stop = republish, should_stop

    def compact(self, *, below: int) -> None:
        """Move every generation before ``below`` into the tables of its days."""
        for generation in self._places.shape.generations:
            if generation < below and not self._move(generation):
                return

    def close_days(self, now_ms: int) -> None:
        """Turn days that are over, and days with enough late samples, into files."""
        for day in sorted(self._places.shape.days.values(), key=lambda day: day.day):
            if self._should_stop():
                return
            is_over = (day.day + 1) * DAY_MS + GRACE_MS <= now_ms
            if day.is_open and is_over and (not day.version or self._is_worth_it(day, now_ms)):
                self._close(day)

    def expire(self, now_ms: int, keep: Retention) -> None:
        """Forget samples, minutes and hours older than they are kept; whole days only."""
        raw_before, minute_before = _day_before(now_ms, keep.raw_days), _day_before(now_ms, keep.minute_days)
        for day in list(self._places.shape.days.values()):
            if self._should_stop():
                return
            if day.is_open and day.day < raw_before:
                self._close(day)
                day = self._places.shape.days[day.day]
            kept = day
            if day.day < raw_before and day.raw:
                kept = replace(kept, raw=0, raw_gone=True, minute=kept.minute)
            if day.day < minute_before and day.minute and kept.raw_gone:
                kept = replace(kept, minute=0, minute_gone=True)
            if kept != day:
                with self._transaction():
                    put_day(self._db, kept)
                self._settle()
        if keep.hour_days:
            self._db.execute("delete from hour where cell < ?", [_day_before(now_ms, keep.hour_days) * 24])

    def _is_worth_it(self, day: Day, now_ms: int) -> bool:
        """Whether late samples above a file are many, or have rested for long enough."""
        (count,) = self._db.execute(f"select count(*) from {day.raw_table}").fetchone()
        return count >= LATE_ROWS or now_ms // LATE_MS % 6 == 0

    def _move(self, generation: int) -> bool:
        table = hot_table(generation)
        for begin_ms, end_ms in self._steps(table):
            if self._should_stop():
                return False
            self._step(table, begin_ms, end_ms)
        with self._transaction():
            self._db.execute("delete from generation where id = ?", [generation])
        self._settle()
        return True

    def _steps(self, table: str) -> list[tuple[int, int]]:
        """Return the ranges of time to move at once: days, or hours of a day that holds too much."""
        query = f"select time_ms // {DAY_MS}, time_ms // {HOUR_MS}, count(*) from {table} group by all order by 1, 2"
        steps: list[tuple[int, int]] = []
        hours: dict[int, list[tuple[int, int]]] = {}
        for day, hour, count in self._db.execute(query).fetchall():
            hours.setdefault(day, []).append((hour, count))
        for day, counts in hours.items():
            if sum(count for _, count in counts) <= MOST_ROWS:
                steps.append((day * DAY_MS, (day + 1) * DAY_MS))
            else:
                steps.extend((hour * HOUR_MS, (hour + 1) * HOUR_MS) for hour, _ in counts)
        return steps

    def _step(self, table: str, begin_ms: int, end_ms: int) -> None:
        """Move one range of one day."""
        number = begin_ms // DAY_MS
        day = self._places.shape.days.get(number, Day(day=number))
        files = [file_name(kind, number, version) for kind, version in _files_of(day)]
        with self._places.attached(files), self._transaction():
            if not day.is_open:
                day = replace(day, is_open=True)
                self._db.execute(f"create table {day.raw_table} ({SAMPLE})")
                self._db.execute(f"create table {day.minute_table} ({CELL})")
                put_day(self._db, day)
            self._fresh(table, begin_ms, end_ms)
            if not day.raw_gone or not day.minute_gone:
                self._roll_up(day)
            self._db.execute(f"insert into {day.raw_table} select * from fresh order by signal, time_ms")
            for name in ("fresh", "cells", "merged"):
                self._db.execute(f"drop table if exists {name}")
        self._republish()

    def _fresh(self, table: str, begin_ms: int, end_ms: int) -> None:
        self._db.execute(
            f"""create or replace temp table fresh as select signal, time_ms, value, quality from (
                select *, 0 as age, rowid as r from {table} where time_ms >= ? and time_ms < ?
            ) qualify {_NEWEST}""",
            [begin_ms, end_ms],
        )

    def _roll_up(self, day: Day) -> None:
        """Write the minutes and hours that the fresh samples touch."""
        last_cell = (day.day + 1) * (DAY_MS // MINUTE_MS) - 1
        self._db.execute(
            f"""create or replace temp table cells as select distinct signal, cell from (
                select distinct signal, time_ms // {MINUTE_MS} + unnest(range({_HELD_CELLS + 1})) as cell from fresh
            ) where cell <= {last_cell}"""
        )
        if day.raw_gone:
            # the samples behind old minutes are gone: those minutes stay, others may still be added
            for source in self._minute_sources(day):
                self._db.execute(
                    f"delete from cells using {source} m where cells.signal=m.signal and cells.cell=m.cell"
                )
        around = f"""(signal, time_ms // {MINUTE_MS}) in
            (select distinct signal, cell - unnest(range({_HELD_CELLS + 1})) from cells)"""
        span = (
            "time_ms >= (select min(cell) from cells) * {0} - {1} and time_ms < (select max(cell) + 1 from cells) * {0}"
        )
        bounds = span.format(MINUTE_MS, HOLD_MS)
        sources = [f"select {_SAMPLE}, {age} as age, rowid as r from {source} where {bounds} and {around}"
                   for age, source in enumerate([*self._raw_sources(day), "fresh"])]  # fmt: skip
        self._db.execute(
            f"""create or replace temp table merged as select signal, time_ms, value, quality
            from ({" union all ".join(sources)}) qualify {_NEWEST}"""
        )
        self._db.execute(f"insert into {day.minute_table} {_MINUTES} order by c.signal, c.cell")
        touched = "(signal, cell // 60) in (select distinct signal, cell // 60 from cells)"
        minutes = [f"select *, {age} as age, rowid as r from {source} where {touched}"
                   for age, source in enumerate(self._minute_sources(day))]  # fmt: skip
        self._db.execute(f"insert into hour {_HOURS.format(minutes=' union all '.join(minutes))}")

    def _raw_sources(self, day: Day) -> list[str]:
        file = [raw_file(day)] if day.raw else []
        return [*file, day.raw_table]

    def _minute_sources(self, day: Day) -> list[str]:
        file = [f'"{file_name("minute", day.day, day.minute)}".minute'] if day.minute else []
        return [*file, day.minute_table]

    def _close(self, day: Day) -> None:
        """Write the files of a day, then let everybody use them."""
        version = day.version + 1
        files = [file_name(kind, day.day, number) for kind, number in _files_of(day)]
        with self._places.attached(files):
            raw = self._file("raw", day, version, FILED, self._sorted_samples(day)) if not day.raw_gone else False
            minute = self._file("minute", day, version, CELL, self._sorted_minutes(day))
        if raw is None or minute is None:
            return
        closed = replace(day, raw=version if raw else 0, minute=version if minute else 0, is_open=False)
        begin, end = day.day * 24, (day.day + 1) * 24
        with self._transaction():
            put_day(self._db, closed)
            # the hours of the day as they stand now, once and sorted
            self._db.execute(
                """create or replace temp table hours as select * exclude r from (
                    select *, rowid as r from hour where cell >= ? and cell < ?
                ) qualify row_number() over (partition by signal, cell order by r desc) = 1""",
                [begin, end],
            )
            self._db.execute("delete from hour where cell >= ? and cell < ?", [begin, end])
            self._db.execute("insert into hour select * from hours order by signal, cell")
            self._db.execute("drop table hours")
        self._settle()
        log.debug("history day closed", day=day.day, version=version)

    def _file(self, kind: str, day: Day, version: int, columns: str, queries: Iterator[str]) -> bool | None:
        """Write one sorted file; True if it holds anything, None if told to stop."""
        path = self._places.path(file_name(kind, day.day, version))
        draft = path.with_name(path.name + ".new")
        self._places.folder.mkdir(exist_ok=True)
        for old in (draft, draft.with_name(draft.name + ".wal")):
            old.unlink(missing_ok=True)
        self._db.execute(f"attach '{quoted(draft)}' as {DRAFT}")
        try:
            self._db.execute(f"create table {DRAFT}.{kind} ({columns})")
            for query in queries:
                if self._should_stop():
                    return None
                self._db.execute(f"insert into {DRAFT}.{kind} {query}")
            (count,) = self._db.execute(f"select count(*) from {DRAFT}.{kind}").fetchone()
            self._db.execute(f"checkpoint {DRAFT}")
        finally:
            self._db.execute(f"detach {DRAFT}")
        if not count:
            draft.unlink()
            return False
        _sync(draft)
        draft.replace(path)
        RealDisk().sync_folder(path.parent)
        return True

    def _sorted_samples(self, day: Day) -> Iterator[str]:
        sources = self._raw_sources(day)
        for first, last in self._shares(sources):
            rows = [f"select {_SAMPLE}, {age} as age, rowid as r from {source} where signal between {first} and {last}"
                    for age, source in enumerate(sources)]  # fmt: skip
            time = f"(time_ms - {day.day * DAY_MS})"
            yield f"""select signal, {time} // 1000, {time} % 1000, value, quality from ({" union all ".join(rows)})
                qualify {_NEWEST} order by signal, time_ms"""

    def _sorted_minutes(self, day: Day) -> Iterator[str]:
        sources = self._minute_sources(day)
        for first, last in self._shares(sources):
            rows = [f"select *, {age} as age, rowid as r from {source} where signal between {first} and {last}"
                    for age, source in enumerate(sources)]  # fmt: skip
            yield f"""select * exclude (age, r) from ({" union all ".join(rows)})
                qualify row_number() over (partition by signal, cell order by age desc, r desc) = 1
                    and ("count" > 0 or bad > 0 or bad_ms > 0) order by signal, cell"""

    def _shares(self, sources: list[str]) -> list[tuple[int, int]]:
        """Return ranges of signals that hold about as much as one step may sort."""
        rows = " union all ".join(f"select signal from {source}" for source in sources)
        counts = self._db.execute(f"select signal, count(*) from ({rows}) group by signal order by signal").fetchall()
        shares: list[tuple[int, int]] = []
        first, size = 0, 0
        for signal, count in counts:
            if size and size + count > MOST_ROWS:
                shares.append((first, signal - 1))
                first, size = signal, 0
            size += count
        return [*shares, (first, counts[-1][0])] if counts else []

    def _settle(self) -> None:
        """Publish, then remove what only the shape before needed; left for the next start if somebody reads on."""
        before = self._places.shape
        self._republish()
        after = self._places.shape
        while not self._places.wait_for_readers(0.2):
            if self._should_stop():
                return
        for table in sorted(before.tables() - after.tables()):
            self._db.execute(f"drop table if exists {table}")
        self._places.remove(sorted(before.files() - after.files()))

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """``begin`` and ``commit`` around some statements, ``rollback`` if one fails."""

    def __init__(self, connection: Any) -> None:
        self._db = connection

    def __enter__(self) -> None:
        self._db.execute("begin")

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.execute("commit" if kind is None else "rollback")


def refresh(connection: Any, places: Places) -> None:
    """Publish what the database says."""
    places.publish(read_shape(connection))


def _files_of(day: Day) -> list[tuple[str, int]]:
    return [(kind, number) for kind, number in (("raw", day.raw), ("minute", day.minute)) if number]


def _day_before(now_ms: int, days: float) -> int:
    """Return the first day that is kept; 0 days keep everything."""
    return int((now_ms - days * DAY_MS) // DAY_MS) if days else -(1 << 31)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
