"""Buckets from samples and roll-ups: which cells stand whole in a bucket, and how partial figures combine. Pure.

A *cell* is one minute or one hour of one signal, numbered from the epoch (``time_ms // cell_ms``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.spans import usable
from ingest.store import Buckets

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]
_SERIES = 1 << 48
"""Times are below this (the year 6429), so that (series, time) fits one integer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Buckets of equal width over start <= t < end."""

    start_ms: int
    end_ms: int
    buckets: int

    def number(self, time_ms: I64) -> I64:
        """Return the bucket of each time, shape (n,); times outside the range give numbers outside 0..buckets-1."""
        return (time_ms - self.start_ms) * self.buckets // (self.end_ms - self.start_ms)

    def splits(self, cell_ms: int) -> I64:
        """Return the cells that a boundary between buckets, the start or the end cuts in two, rising."""
        number = np.arange(self.buckets + 1, dtype=np.int64)
        boundary = self.start_ms - (-number * (self.end_ms - self.start_ms) // self.buckets)
        return np.unique(boundary[boundary % cell_ms != 0] // cell_ms)

    def holds(self, cell_ms: int) -> bool:
        """Whether using cells of this size spares reading what is finer."""
        width = self.end_ms - self.start_ms
        is_aligned = self.start_ms % cell_ms == 0 and width % (self.buckets * cell_ms) == 0
        return is_aligned or width >= 2 * cell_ms * self.buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class Partials:
    """Figures of parts of buckets, one row each, shape (n,).

    Attributes:
        series: Number of the signal.
        bucket: Number of the bucket.
        last_ms: Time of the last usable sample; of no meaning if count is 0.
        total: Sum of the usable values.
    """

    series: I64
    bucket: I64
    last_ms: I64
    min: F64
    max: F64
    total: F64
    last: F64
    count: I64
    bad: I64

    @classmethod
    def of_cells(cls, cells: Columns, grid: Grid, cell_ms: int) -> Partials:
        """Return roll-up rows ``series, cell, count, bad, min, max, total, last, last_ms`` (offset in the cell)."""
        begin = cells["cell"].astype(np.int64) * cell_ms
        # a cell that is cut although nothing finer is left counts where it begins, or where the range does
        inside = np.clip(begin, grid.start_ms, grid.end_ms - 1)
        return cls(
            series=cells["series"].astype(np.int64),
            bucket=grid.number(inside),
            last_ms=begin + cells["last_ms"],
            min=cells["min"],
            max=cells["max"],
            total=cells["total"],
            last=cells["last"],
            count=cells["count"].astype(np.int64),
            bad=cells["bad"].astype(np.int64),
        )

    @classmethod
    def of_samples(cls, samples: Columns, grid: Grid) -> Partials:
        """Return sorted, unique sample rows ``series, time_ms, value, quality``, reduced to their buckets."""
        series, time_ms, value = samples["series"].astype(np.int64), samples["time_ms"], samples["value"]
        good = usable(value, samples["quality"])
        group = series * grid.buckets + grid.number(time_ms)
        groups, bad = np.unique(group[~good], return_counts=True)
        none = np.zeros(len(groups))
        broken = cls(
            series=groups // grid.buckets, bucket=groups % grid.buckets, last_ms=none.astype(np.int64), min=none,
            max=none, total=none, last=none, count=none.astype(np.int64), bad=bad.astype(np.int64),
        )  # fmt: skip
        group, time_ms, value = group[good], time_ms[good], value[good]
        if not len(group):
            return broken
        begins = np.flatnonzero(np.concatenate(([True], group[1:] != group[:-1])))
        ends = np.concatenate((begins[1:], [len(group)])) - 1
        sound = cls(
            series=group[begins] // grid.buckets,
            bucket=group[begins] % grid.buckets,
            last_ms=time_ms[ends],
            min=np.minimum.reduceat(value, begins),
            max=np.maximum.reduceat(value, begins),
            total=np.add.reduceat(value, begins),
            last=value[ends],
            count=ends - begins + 1,
            bad=np.zeros(len(begins), np.int64),
        )
        return concatenated([broken, sound])


def concatenated(parts: Sequence[Partials]) -> Partials:
    """Return all rows of some partials."""
    names = Partials.__slots__
    return Partials(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def combined(parts: Sequence[Partials], keys: Sequence[str]) -> dict[str, Buckets]:
    """Return the buckets of each signal; ``series`` counts the keys."""
    result = {key: Buckets(t=[], min=[], max=[], mean=[], last=[], count=[], bad=[]) for key in keys}
    rows = concatenated(parts) if parts else None
    if rows is None or not len(rows.series):
        return result
    # rows without usable samples first, so that the last row of a group holds its last value
    order = np.lexsort((rows.last_ms, rows.count > 0, rows.bucket, rows.series))
    series, bucket = rows.series[order], rows.bucket[order]
    changes = (series[1:] != series[:-1]) | (bucket[1:] != bucket[:-1])
    begins = np.flatnonzero(np.concatenate(([True], changes)))
    ends = np.concatenate((begins[1:], [len(order)])) - 1
    is_empty = rows.count[order] == 0
    count = np.add.reduceat(rows.count[order], begins)
    least = np.minimum.reduceat(np.where(is_empty, np.inf, rows.min[order]), begins)
    most = np.maximum.reduceat(np.where(is_empty, -np.inf, rows.max[order]), begins)
    total = np.add.reduceat(np.where(is_empty, 0.0, rows.total[order]), begins)
    bad = np.add.reduceat(rows.bad[order], begins)
    last_ms, last = rows.last_ms[order][ends], rows.last[order][ends]
    for number, key in enumerate(keys):
        mine = np.flatnonzero((series[begins] == number) & (count > 0))
        found = result[key]
        found.t.extend(last_ms[mine].tolist())
        found.min.extend(least[mine].tolist())
        found.max.extend(most[mine].tolist())
        found.mean.extend((total[mine] / count[mine]).tolist())
        found.last.extend(last[mine].tolist())
        found.count.extend(count[mine].tolist())
        found.bad.extend(bad[mine].tolist())
    return result


def newest(rows: Columns, name: str) -> Columns:
    """Return rows sorted by (series, ``name``), of equal ones the one that stands last."""
    key = rows["series"].astype(np.int64) * _SERIES + rows[name]
    if len(key) < 2 or bool(np.all(key[1:] > key[:-1])):
        return rows
    order = np.argsort(key, kind="stable")
    key = key[order]
    kept = order[np.concatenate((key[1:] != key[:-1], [True]))]
    return {column: values[kept] for column, values in rows.items()}


def pairs(series: NDArray[Any], cell: NDArray[Any]) -> I64:
    """Return one integer for each (series, cell)."""
    joint: I64 = series.astype(np.int64) * _SERIES + cell
    return joint


def joined(parts: Sequence[Columns], names: Sequence[str]) -> Columns:
    """Return the columns of some results below each other; empty ones if there are none."""
    if not parts:
        return {name: np.zeros(0, np.float64 if name == "value" else np.int64) for name in names}
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def taken(rows: Columns, mask: NDArray[np.bool_]) -> Columns:
    """Return the rows a mask names."""
    return rows if bool(mask.all()) else {name: values[mask] for name, values in rows.items()}
