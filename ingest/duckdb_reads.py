"""Queries of the embedded store: the coarsest exact roll-up, and samples where it does not reach.

A roll-up cell is used if it lies whole in a bucket and no hot sample touches it; everything else comes from finer data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.cells import (
    HOUR_MS,
    MINUTE_MS,
    Columns,
    Grid,
    Partials,
    combined,
    concatenated,
    joined,
    newest,
    pairs,
    taken,
)
from ingest.duckdb_layout import GOOD, Day, Places, Shape, file_name, hot_table, raw_file
from ingest.store import DAY_MS, Buckets, Sample, Samples

ROWS = ("series", "time_ms", "value", "quality")
FIGURES = ("series", "cell", "count", "bad", "min", "max", "total", "last", "last_ms")
_SAMPLE = "signal, time_ms, value, quality"
_FIGURES = 'signal, cell, "count", bad, "min", "max", total, "last", last_ms'
MOST_TOGETHER = 24
"""Day files read by one statement."""
MOST_ROWS = 700_000
"""Samples (at one a second) or cells of several signals in memory together; one signal may need more."""
I64 = NDArray[np.int64]


class Reading:
    """One query: a snapshot of the database and the places that belong to it.

    Args:
        connection: A cursor in a transaction.
        places: Opens day files.
        shape: The leased shape.
        ids: Signal id of each series, in order.
    """

    def __init__(self, connection: Any, places: Places, shape: Shape, ids: Sequence[int]) -> None:
        self._db, self._places, self._shape, self._ids = connection, places, shape, list(ids)
        self._among = f"signal in ({', '.join(str(number) for number in ids)})"
        self._order = np.argsort(np.array(self._ids, np.int64))
        self._sorted = np.array(self._ids, np.int64)[self._order]

    def range(self, grid: Grid) -> list[Partials]:
        """Return the figures of every bucket, in parts."""
        hot = self.hot(grid.start_ms, grid.end_ms)
        days = self._days(grid.start_ms, grid.end_ms)
        is_coarse = any(day.raw_gone for day in days)
        if grid.holds(HOUR_MS) or any(day.minute_gone for day in days):
            return self._by_hours(grid, hot, days)
        if grid.holds(MINUTE_MS) or is_coarse:
            return self._by_minutes(grid, hot, days, None)
        return self._by_samples(grid, hot, days)

    def hot(self, start_ms: int, end_ms: int) -> Columns:
        """Return the hot samples in order of arrival."""
        where = f"time_ms >= {start_ms} and time_ms < {end_ms}"
        return self._united(_SAMPLE, [(hot_table(number), where) for number in self._shape.generations], ROWS)

    def samples(self, start_ms: int, end_ms: int) -> Columns:
        """Return the samples below the hot ones, oldest place first."""
        sources = [part for day in self._days(start_ms, end_ms) for part in self._of_day(day, start_ms, end_ms)]
        return self._united(_SAMPLE, sources, ROWS)

    def _of_day(self, day: Day, start_ms: int, end_ms: int, condition: str = "true") -> list[tuple[str, str]]:
        begin, end = max(start_ms, day.day * DAY_MS), min(end_ms, (day.day + 1) * DAY_MS)
        where = f"time_ms >= {begin} and time_ms < {end} and {condition}"
        return [(source, where) for source in self._raw(day)]

    def _of_minutes(self, grid: Grid, cut: I64, touched: I64) -> Columns:
        """Return at least the samples of the cut and the touched minutes."""
        sources, touched = list[tuple[str, str]](), np.unique(touched)
        for day in self._days(grid.start_ms, grid.end_ms):
            here, dirty = (minutes[minutes // 1440 == day.day] for minutes in (cut, touched))
            both = np.union1d(here, dirty)
            if not len(both):
                continue
            begin = max(grid.start_ms, int(both[0]) * MINUTE_MS)
            end = min(grid.end_ms, (int(both[-1]) + 1) * MINUTE_MS)
            conditions = []
            if len(both) != both[-1] - both[0] + 1:
                conditions += [_near_boundaries(grid)] if len(here) else []
                listed = ", ".join(map(str, dirty.tolist()))
                conditions += [f"time_ms // {MINUTE_MS} in ({listed})"] if listed else []
            sources += self._of_day(day, begin, end, f"({' or '.join(conditions)})" if conditions else "true")
        return self._united(_SAMPLE, sources, ROWS)

    def _by_samples(self, grid: Grid, hot: Columns, days: Sequence[Day]) -> list[Partials]:
        parts, hot_days = [], np.unique(hot["time_ms"] // DAY_MS)
        for day in days:
            begin, end = max(grid.start_ms, day.day * DAY_MS), min(grid.end_ms, (day.day + 1) * DAY_MS)
            if not day.is_open and day.day not in hot_days and end - begin > HOUR_MS:
                # one sorted file without repetitions: DuckDB counts faster than it hands over
                parts.append(self._counted(day, grid, begin, end))
                continue
            mine = (hot["time_ms"] >= begin) & (hot["time_ms"] < end)
            rows = joined([self._united(_SAMPLE, self._of_day(day, begin, end), ROWS), taken(hot, mine)], ROWS)
            parts.append(Partials.of_samples(newest(rows, "time_ms"), grid))
        lonely = ~np.isin(hot["time_ms"] // DAY_MS, np.array([day.day for day in days], np.int64))
        return [*parts, Partials.of_samples(newest(taken(hot, lonely), "time_ms"), grid)]

    def _by_minutes(
        self, grid: Grid, hot: Columns, days: Sequence[Day], uncovered: tuple[I64, I64] | None
    ) -> list[Partials]:
        """Return minutes and the samples of cut or touched minutes.

        ``uncovered`` are the (hours of all signals, pairs of signal and hour) that hours left open; None for all.
        """
        cut, gone = grid.splits(MINUTE_MS), _cells_of(days, "raw_gone", DAY_MS // MINUTE_MS)
        touched = hot["time_ms"] // MINUTE_MS
        dirty = np.unique(pairs(hot["series"], touched))
        cells = newest(self._minutes(grid, uncovered), "cell")
        cell = cells["cell"].astype(np.int64)
        mask = ~np.isin(cell, cut) & ~np.isin(pairs(cells["series"], cell), dirty) | gone(cell)
        mask &= (cell >= grid.start_ms // MINUTE_MS) & (cell <= (grid.end_ms - 1) // MINUTE_MS)
        if uncovered is not None:
            mask &= np.isin(cell // 60, uncovered[0]) | np.isin(pairs(cells["series"], cell // 60), uncovered[1])
        rows = joined([self._of_minutes(grid, cut, touched), hot], ROWS)
        minute = rows["time_ms"] // MINUTE_MS
        fine = np.isin(minute, cut) | np.isin(pairs(rows["series"], minute), dirty)
        fine &= ~(gone(minute) & np.isin(pairs(rows["series"], minute), pairs(cells["series"], cell)))
        samples = newest(taken(rows, fine), "time_ms")
        return [Partials.of_cells(taken(cells, mask), grid, MINUTE_MS), Partials.of_samples(samples, grid)]

    def _by_hours(self, grid: Grid, hot: Columns, days: Sequence[Day]) -> list[Partials]:
        cut, gone = grid.splits(HOUR_MS), _cells_of(days, "minute_gone", 24)
        dirty = np.unique(pairs(hot["series"], hot["time_ms"] // HOUR_MS))
        condition = f"cell >= {grid.start_ms // HOUR_MS} and cell <= {(grid.end_ms - 1) // HOUR_MS}"
        cells = newest(self._figures("hour", condition), "cell")
        cell = cells["cell"].astype(np.int64)
        mask = ~np.isin(cell, cut) & ~np.isin(pairs(cells["series"], cell), dirty) | gone(cell)
        parts = [Partials.of_cells(taken(cells, mask), grid, HOUR_MS)]
        left = cut[~gone(cut)]
        return parts + self._by_minutes(grid, hot, days, (left, dirty[~gone(dirty % (1 << 48))]))

    def _minutes(self, grid: Grid, uncovered: tuple[I64, I64] | None) -> Columns:
        begin, end = grid.start_ms // MINUTE_MS, (grid.end_ms - 1) // MINUTE_MS
        hours = None if uncovered is None else np.union1d(uncovered[0], uncovered[1] % (1 << 48))
        sources: list[tuple[str, str]] = []
        for day in self._days(grid.start_ms, grid.end_ms):
            condition = f"cell >= {max(begin, day.day * 1440)} and cell <= {min(end, day.day * 1440 + 1439)}"
            if hours is not None:
                here = hours[hours // 24 == day.day]
                if not len(here):
                    continue
                condition = f"cell >= {here[0] * 60} and cell < {(here[-1] + 1) * 60}"
                if here[-1] - here[0] + 1 > len(here):
                    condition += f" and cell // 60 in ({', '.join(map(str, here.tolist()))})"
            if day.minute:
                sources.append((f'"{file_name("minute", day.day, day.minute)}".minute', condition))
            if day.is_open:
                sources.append((day.minute_table, condition))
        return self._united(_FIGURES, sources, FIGURES)

    def _united(self, columns: str, sources: Sequence[tuple[str, str]], names: Sequence[str]) -> Columns:
        """Return the rows of (source, condition) pairs in their order, many by one statement."""
        parts = []
        for at in range(0, len(sources), MOST_TOGETHER):
            some = sources[at : at + MOST_TOGETHER]
            statements = [f"(select {columns} from {source} where {self._among} and {where})" for source, where in some]
            with self._places.attached([source.split('"')[1] for source, _ in some if '"' in source]):
                parts.append(self._numbered(self._db.execute(" union all ".join(statements)).fetchnumpy()))
        return joined(parts, names)

    def _figures(self, source: str, condition: str) -> Columns:
        query = f"select {_FIGURES} from {source} where {self._among} and {condition}"
        return self._numbered(self._db.execute(query).fetchnumpy())

    def _counted(self, day: Day, grid: Grid, begin: int, end: int) -> Partials:
        """Return the figures of a closed day, counted by DuckDB."""
        if not day.raw:
            return Partials.of_samples(joined([], ROWS), grid)
        name = file_name("raw", day.day, day.raw)
        bucket = f"(time_ms - {grid.start_ms}) * {grid.buckets} // {grid.end_ms - grid.start_ms}"
        with self._places.attached([name]):
            where = f"from {raw_file(day)} where {self._among} and time_ms >= {begin} and time_ms < {end}"
            good = self._db.execute(
                f"""select signal, {bucket} as bucket, count(*) as "count", min(value) as "min", max(value) as "max",
                    sum(value) as total, arg_max(value, time_ms) as "last", max(time_ms) as last_ms
                {where} and {GOOD} group by all"""
            ).fetchnumpy()
            bad = self._db.execute(
                f"select signal, {bucket} as bucket, count(*) as bad {where} and not {GOOD} group by all"
            ).fetchnumpy()
        sound, broken = self._numbered(good), self._numbered(bad)
        sound["bad"] = np.zeros(len(sound["series"]), np.int64)
        zeros = np.zeros(len(broken["series"]))
        none: Columns = dict.fromkeys(("min", "max", "total", "last"), zeros)
        none |= dict.fromkeys(("count", "last_ms"), zeros.astype(np.int64))
        both: list[Columns] = [sound, none | broken]
        return concatenated([Partials(**{field: rows[field] for field in Partials.__slots__}) for rows in both])

    def _numbered(self, found: Mapping[str, Any]) -> Columns:
        columns = {name: np.asarray(np.ma.filled(values, np.nan)) for name, values in found.items() if name != "signal"}
        columns["series"] = self._order[np.searchsorted(self._sorted, np.asarray(found["signal"]))]
        return columns

    def _days(self, start_ms: int, end_ms: int) -> list[Day]:
        first, last = start_ms // DAY_MS, (end_ms - 1) // DAY_MS
        return sorted((d for d in self._shape.days.values() if first <= d.day <= last), key=lambda d: d.day)

    def _raw(self, day: Day) -> list[str]:
        """Return the sources of a day's samples, oldest first."""
        file = [raw_file(day)] if day.raw else []
        return [*file, day.raw_table] if day.is_open else file

    def end_samples(self, limit_ms: int, *, newest_first: bool) -> dict[int, Sample]:
        """Return for each series its newest sample before a time, or its oldest from a time on."""
        found: dict[int, Sample] = {}
        bounds = (0, limit_ms) if newest_first else (limit_ms, 1 << 47)
        self._offer(found, self.hot(*bounds), newest_first=newest_first)
        waiting = {number: self._ids[number] for number in range(len(self._ids))}
        cell, order = limit_ms // HOUR_MS, "max" if newest_first else "min"
        limits = dict.fromkeys(waiting, cell)
        relation = "<=" if newest_first else ">="
        gone = [day.day for day in self._shape.days.values() if day.raw_gone]
        there = f"cell // 24 not in ({', '.join(map(str, gone))})" if gone else "true"
        while waiting:
            conditions = " or ".join(f"(signal = {waiting[n]} and cell {relation} {limits[n]})" for n in waiting)
            query = f"select signal, {order}(cell) from hour where ({conditions}) and {there} group by signal"
            hours = dict(self._db.execute(query).fetchall())
            waiting = {number: signal for number, signal in waiting.items() if signal in hours}
            for hour in set(hours.values()):
                begin, end = max(bounds[0], hour * HOUR_MS), min(bounds[1], (hour + 1) * HOUR_MS)
                mine = [number for number, signal in waiting.items() if hours[signal] == hour]
                part = Reading(self._db, self._places, self._shape, [self._ids[number] for number in mine])
                rows = part.samples(begin, end)
                rows["series"] = np.array(mine, np.int64)[rows["series"].astype(np.int64)]
                done = self._offer(found, rows, newest_first=newest_first, is_older_place=True)
                for number in mine:
                    limits[number] = hour - 1 if newest_first else hour + 1
                    if number in done or _is_settled(found.get(number), hour, newest_first=newest_first):
                        del waiting[number]
        return found

    def _offer(
        self, found: dict[int, Sample], rows: Columns, *, newest_first: bool, is_older_place: bool = False
    ) -> set[int]:
        unique = newest(rows, "time_ms")
        done = set()
        for number in np.unique(unique["series"]).tolist():
            where = np.flatnonzero(unique["series"] == number)[-1 if newest_first else 0]
            sample = Sample(
                time_ms=int(unique["time_ms"][where]),
                value=float(unique["value"][where]),
                quality=int(unique["quality"][where]),
            )
            known = found.get(number)
            is_nearer = known is None or (sample.time_ms > known.time_ms) == newest_first
            if known is None or (is_nearer and sample.time_ms != known.time_ms):
                found[number] = sample
            if is_older_place:
                done.add(number)
        return done


def _is_settled(sample: Sample | None, hour: int, *, newest_first: bool) -> bool:
    """Whether no sample of an hour further away can be nearer than the one found."""
    if sample is None:
        return False
    return sample.time_ms >= hour * HOUR_MS if newest_first else sample.time_ms < (hour + 1) * HOUR_MS


def _cells_of(days: Sequence[Day], what: str, cells: int) -> Callable[[I64], NDArray[np.bool_]]:
    """Return a test whether a cell belongs to a day that has nothing finer left."""
    gone = np.array([day.day for day in days if getattr(day, what)], np.int64)
    return lambda cell: np.isin(cell // cells, gone)


def _near_boundaries(grid: Grid) -> str:
    """Return the condition of times less than a minute from a boundary between buckets; cheaper than a list."""
    width = grid.end_ms - grid.start_ms
    near = MINUTE_MS * grid.buckets
    return f"((time_ms - {grid.start_ms}) * {grid.buckets} + {near}) % {width} < {2 * near}"


class DuckReads:
    """The reads of `ingest.store.HistoryReads`, for a store that offers a connection, ids and places."""

    _places: Places
    _ids: dict[str, int]

    @contextmanager
    def _reading(self, keys: Sequence[str]) -> Iterator[Reading]:
        raise NotImplementedError

    def keys(self) -> list[str]:
        """Return every signal that was ever stored."""
        return sorted(self._ids)

    def range(self, keys: Sequence[str], *, start_ms: int, end_ms: int, buckets: int) -> Mapping[str, Buckets]:
        """Return each signal by buckets; may be called beside the writer, from any thread."""
        known = [key for key in dict.fromkeys(keys) if key in self._ids]
        grid = Grid(start_ms=start_ms, end_ms=end_ms, buckets=buckets)
        found: dict[str, Buckets] = combined([], list(dict.fromkeys(keys)))
        for group in _groups(known, grid):
            with self._reading(group) as reading:
                parts = reading.range(grid)
            found |= combined(parts, group)
        return found

    def samples(self, key: str, *, start_ms: int, end_ms: int, limit: int) -> Samples:
        """Return the first samples of a range and where to go on."""
        rows, at, next_ms = joined([], ROWS), start_ms, None
        if key in self._ids:
            with self._reading([key]) as reading:
                rows, next_ms = _page(reading, at, end_ms, limit)
        return Samples(
            time_ms=rows["time_ms"].astype(np.int64),
            value=rows["value"].astype(np.float64),
            quality=rows["quality"].astype(np.uint8),
            next_ms=next_ms,
        )

    def last(self, keys: Sequence[str], *, before_ms: int) -> Mapping[str, Sample]:
        """Return the newest sample of each signal before a time."""
        return self._end(keys, before_ms, newest_first=True)

    def first(self, keys: Sequence[str], *, from_ms: int) -> Mapping[str, Sample]:
        """Return the oldest sample of each signal from a time on."""
        return self._end(keys, from_ms, newest_first=False)

    def _end(self, keys: Sequence[str], limit_ms: int, *, newest_first: bool) -> dict[str, Sample]:
        known = [key for key in dict.fromkeys(keys) if key in self._ids]
        if not known:
            return {}
        with self._reading(known) as reading:
            found = reading.end_samples(limit_ms, newest_first=newest_first)
        return {known[number]: sample for number, sample in found.items()}

    def count(self, keys: Sequence[str], *, start_ms: int, end_ms: int) -> Mapping[str, int]:
        """Return how many samples of any quality each signal has."""
        known = [key for key in dict.fromkeys(keys) if key in self._ids]
        result = dict.fromkeys(keys, 0)
        grid = Grid(start_ms=start_ms, end_ms=end_ms, buckets=1)
        for group in _groups(known, grid):
            with self._reading(group) as reading:
                parts = reading.range(grid)
            for part in parts:
                total = np.bincount(part.series, weights=part.count + part.bad, minlength=len(group))
                for key, count in zip(group, total.tolist(), strict=True):
                    result[key] += round(count)
        return result


def _page(reading: Reading, start_ms: int, end_ms: int, limit: int) -> tuple[Columns, int | None]:
    """Return up to limit samples, reading stretches of time that hold about as many."""
    pages: list[Columns] = []
    at, stretch, count = start_ms, HOUR_MS, 0
    while at < end_ms and count <= limit:
        if not stretch:
            nearest = reading.end_samples(at, newest_first=False).get(0)
            if nearest is None or nearest.time_ms >= end_ms:
                break
            at, stretch = nearest.time_ms, HOUR_MS
        until = min(end_ms, at + stretch)
        rows = newest(joined([reading.samples(at, until), reading.hot(at, until)], ROWS), "time_ms")
        pages.append(rows)
        found = len(rows["time_ms"])
        count, at = count + found, until
        # not more than four times as far as before: the samples may be denser there
        stretch = min(4 * stretch, max(HOUR_MS, stretch * (limit - count) // found)) if found else 0
    rows = joined(pages, ROWS)
    if count <= limit:
        return rows, None
    return {name: values[:limit] for name, values in rows.items()}, int(rows["time_ms"][limit])


def _groups(keys: Sequence[str], grid: Grid) -> list[list[str]]:
    """Return the keys in groups whose samples or cells may be in memory together."""
    width = grid.end_ms - grid.start_ms
    if grid.holds(HOUR_MS):
        each = width // HOUR_MS
    elif grid.holds(MINUTE_MS):
        each = width // MINUTE_MS
    else:
        each = min(width, DAY_MS) // 1000
    size = max(1, MOST_ROWS // max(1, each))
    return [list(keys[at : at + size]) for at in range(0, len(keys), size)]
