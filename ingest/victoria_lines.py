"""How samples look in VictoriaMetrics: Influx lines out, export lines and query texts back. Pure.

VictoriaMetrics keeps numbers without a quality, so a sample becomes up to two time series of one signal:

* ``watchroom_value``: the value of a usable sample;
* ``watchroom_doubt``: beside it the quality code, where that is usable but not good;
* ``watchroom_bad``: the quality code of a sample that is not usable (exactly one for each);
* ``watchroom_raw``: beside it the value it nevertheless had.

So a good sample costs one point, and usable and bad samples are counted without reading them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ingest.store import SampleBatch
from watchroom.signals import USABLE, Quality

Columns = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8]]
"""Time, value and quality of one signal, by rising time."""
MEASUREMENT = "watchroom"
VALUE, DOUBT, BAD, RAW = (f"{MEASUREMENT}_{name}" for name in ("value", "doubt", "bad", "raw"))
MARK = f"{MEASUREMENT}_store"
"""Series whose label ``id`` tells one filling of a server from the next."""
_UNUSABLE = np.ones(256, np.bool_)
_UNUSABLE[[int(quality) for quality in USABLE]] = False
SHIFT_MS = 172_800_000
"""Queries are asked two days back with an offset of two days forward: VictoriaMetrics repeats an older value in
place of the newest 30 s (``-search.latencyOffset``), judged by the time asked for, not by the offset one."""
EARLIEST_MS = SHIFT_MS + 86_400_000
"""Nothing before is stored or found: with the offset a query would begin before 1970, which finds nothing at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """A part of a batch as line protocol.

    Attributes:
        body: Lines, joined by newlines.
        points: How many numbers VictoriaMetrics must count.
    """

    body: bytes
    points: int


def encode(batch: SampleBatch, site: str, *, most: int) -> Iterator[Lines]:
    """Yield a batch as line protocol in milliseconds, at most ``most`` samples a part.

    Only finite numbers are written: a text would silently become 0, and a wrong line would vanish behind a 204.
    """
    heads = [_head(key, site) for key in batch.keys]
    good = (batch.quality == int(Quality.GOOD)) & np.isfinite(batch.value)
    for start in range(0, len(batch), most):
        part = slice(start, start + most)
        chosen = good[part]
        series, times, values = batch.series[part], batch.time_ms[part], batch.value[part]
        columns = (series[chosen].tolist(), values[chosen].tolist(), times[chosen].tolist())
        lines = [f"{heads[s]}value={v!r} {t}" for s, v, t in zip(*columns, strict=True)]
        points = len(lines)
        rest = ~chosen
        if rest.any():
            odd = (series, values, batch.quality[part], times)
            for s, v, q, t in zip(*(column[rest].tolist() for column in odd), strict=True):
                has_value = math.isfinite(v)
                names = ("value", "doubt") if has_value and not _UNUSABLE[q] else ("raw", "bad")
                number = f"{names[0]}={v!r}," if has_value else ""
                lines.append(f"{heads[s]}{number}{names[1]}={q} {t}")
                points += 1 + has_value
        yield Lines(body="\n".join(lines).encode(), points=points)


def mark_line(mark: str, site: str, *, time_ms: int) -> bytes:
    """Return the line that says that a server holds what was written under a mark."""
    return f"{MEASUREMENT},site={_tag(site)},id={_tag(mark)} store=1 {time_ms}".encode()


def _head(key: str, site: str) -> str:
    equipment, _, signal = key.partition("/")
    return f"{MEASUREMENT},site={_tag(site)},equipment={_tag(equipment)},signal={_tag(signal)} "


def _tag(text: str) -> str:
    return re.sub(r"([\\,= ])", r"\\\1", text)


def selector(names: Sequence[str], site: str, *, equipment: str = "", signals: Sequence[str] = ()) -> str:
    """Return what selects time series in PromQL: all of a site, or some signals of one piece of equipment."""
    name = names[0] if len(names) == 1 else ""
    labels = [f"site={_quoted(site)}"]
    if not name:
        labels.insert(0, f"__name__=~{_quoted('|'.join(names))}")
    if equipment:
        labels.append(f"equipment={_quoted(equipment)}")
    if signals:
        labels.append(f"signal=~{_quoted('|'.join(re.escape(signal) for signal in signals))}")
    return f"{name}{{{','.join(labels)}}}"


def over(functions: Sequence[str], chosen: str, *, width_ms: int) -> str:
    """Return a query for figures of windows: each ends at the time asked plus SHIFT_MS, that time included."""
    names = ",".join(f'"{name}_over_time"' for name in functions)
    return f"aggr_over_time(({names}), {chosen}[{width_ms}ms] offset -{SHIFT_MS}ms)"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def key_of(labels: dict[str, str]) -> str:
    """Return the signal key of a time series."""
    return f"{labels.get('equipment', '')}/{labels.get('signal', '')}"


@dataclass(slots=True)
class _Columns:
    """What an export told about one signal, by kind of series."""

    parts: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = field(default_factory=dict)

    def add(self, name: str, times: Sequence[int], values: Sequence[float | None]) -> None:
        numbers = np.array([math.nan if value is None else value for value in values], np.float64)
        self.parts.setdefault(name, []).append((np.array(times, np.int64), numbers))

    def joined(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return one kind by rising time, once for each time, the last told of equal times."""
        found = self.parts.get(name)
        if not found:
            return np.zeros(0, np.int64), np.zeros(0)
        times = np.concatenate([part[0] for part in found])
        values = np.concatenate([part[1] for part in found])
        kept, first = np.unique(times[::-1], return_index=True)
        return kept, values[::-1][first]


def decode_export(lines: Iterable[bytes]) -> dict[str, Columns]:
    """Return signal key -> (time_ms, value, quality) by rising time, from the lines of ``/api/v1/export``.

    A time at which a signal is told usable and bad (somebody wrote it again with another quality) counts as bad.

    Raises:
        ValueError: If a line is not what VictoriaMetrics writes.
    """
    signals: dict[str, _Columns] = {}
    for line in lines:
        if line:
            series = json.loads(line)
            labels = series["metric"]
            columns = signals.setdefault(key_of(labels), _Columns())
            columns.add(labels["__name__"], series["timestamps"], series["values"])
    return {key: _merged(columns) for key, columns in signals.items()}


def _merged(columns: _Columns) -> Columns:
    good_times, good_values = columns.joined(VALUE)
    bad_times, bad_codes = columns.joined(BAD)
    is_bad = np.isin(good_times, bad_times, assume_unique=True)
    good_times, good_values = good_times[~is_bad], good_values[~is_bad]
    codes = _matched(good_times, columns.joined(DOUBT), missing=float(Quality.GOOD))
    raw = _matched(bad_times, columns.joined(RAW), missing=math.nan)
    times = np.concatenate((good_times, bad_times))
    order = np.argsort(times, kind="stable")
    values = np.concatenate((good_values, raw))[order]
    return times[order], values, np.concatenate((codes, bad_codes)).astype(np.uint8)[order]


def _matched(
    times: NDArray[np.int64], column: tuple[NDArray[np.int64], NDArray[np.float64]], *, missing: float
) -> NDArray[np.float64]:
    """Return a column's value at each time, or what stands for a missing one."""
    result = np.full(len(times), missing)
    known, values = column
    if len(known) and len(times):
        where = np.minimum(np.searchsorted(known, times), len(known) - 1)
        hit = known[where] == times
        result[hit] = values[where[hit]]
    return result
