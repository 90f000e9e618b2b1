"""Reads from VictoriaMetrics: exact for what fits in memory, by PromQL windows for long ranges.

Measured on 1.79.5 and avoided here: the newest 30 s of a query are an older value repeated (`SHIFT_MS`), windows are
open at their start and closed at their end (so one that ends a millisecond early is ours), and a window that begins
before 1970 finds nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ingest.spans import usable
from ingest.store import Buckets, Sample, Samples
from ingest.victoria_lines import (
    BAD,
    DOUBT,
    EARLIEST_MS,
    RAW,
    SHIFT_MS,
    VALUE,
    Columns,
    decode_export,
    key_of,
    over,
    selector,
)
from ingest.victoria_link import VictoriaLink

EVERY = (VALUE, DOUBT, BAD, RAW)
FIGURES = ("tlast", "min", "max", "avg", "last", "count")
EXACT_SAMPLES = 50_000
"""Ranges of up to this many samples are read raw and cut into buckets here, to the millisecond."""
PARTS = 1_000
LOOK_MS = (3_600_000, 86_400_000, 30 * 86_400_000, 400 * 86_400_000)
"""How far a search for the next sample looks at a time; at last over everything."""
LATENCY_MS = 60_000
_NONE: Columns = (np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8))


class VictoriaReads:
    """Everything a history store can be asked, of one site.

    Args:
        link: The server.
        site: Site id, a label of every series.
    """

    def __init__(self, link: VictoriaLink, site: str) -> None:
        self._link, self._site = link, site

    def keys(self) -> list[str]:
        """Return every signal that was ever stored, sorted."""
        return sorted({key_of(labels) for labels in self._link.series(selector((VALUE, BAD), self._site))})

    def range(self, keys: Sequence[str], *, start_ms: int, end_ms: int, buckets: int) -> Mapping[str, Buckets]:
        """Return each signal by buckets.

        Up to EXACT_SAMPLES a signal the buckets are cut to the millisecond. Longer ranges are cut by the server, which
        knows only whole milliseconds: if the range is no multiple, its last bucket is the shorter one.
        """
        result = {key: Buckets(t=[], min=[], max=[], mean=[], last=[], count=[], bad=[]) for key in keys}
        for key, number in self.count(keys, start_ms=start_ms, end_ms=end_ms).items():
            if number and number <= EXACT_SAMPLES:
                columns = self._raw(key, start_ms=start_ms, end_ms=end_ms)
                result[key] = bucketed(columns, start_ms=start_ms, end_ms=end_ms, buckets=buckets)
            elif number:
                self._by_server(key, result[key], start_ms=start_ms, end_ms=end_ms, buckets=buckets)
        return result

    def samples(self, key: str, *, start_ms: int, end_ms: int, limit: int) -> Samples:
        """Return the first samples of a range and where to go on."""
        until, has_more = self._until(key, start_ms=start_ms, end_ms=end_ms, limit=limit)
        time_ms, value, quality = self._raw(key, start_ms=start_ms, end_ms=until)
        has_more = has_more or len(time_ms) > limit
        time_ms, value, quality = time_ms[:limit], value[:limit], quality[:limit]
        following = int(time_ms[-1]) + 1 if has_more and len(time_ms) else None
        return Samples(time_ms=time_ms, value=value, quality=quality, next_ms=following)

    def last(self, keys: Sequence[str], *, before_ms: int) -> Mapping[str, Sample]:
        """Return the newest sample of each signal before a time."""
        windows = [(max(0, before_ms - look), before_ms) for look in LOOK_MS]
        return self._found(keys, [*windows, (0, before_ms)], function="tlast")

    def first(self, keys: Sequence[str], *, from_ms: int) -> Mapping[str, Sample]:
        """Return the oldest sample of each signal from a time on."""
        newest = _newest_ms()
        windows = [(from_ms, from_ms + look) for look in LOOK_MS if from_ms + look < newest]
        return self._found(keys, [*windows, (from_ms, newest)], function="tfirst")

    def count(self, keys: Sequence[str], *, start_ms: int, end_ms: int) -> Mapping[str, int]:
        """Return how many samples of any quality each signal has."""
        result = dict.fromkeys(keys, 0)
        for name in (VALUE, BAD):
            for key, figures in self._window(keys, ("count",), name, start_ms=start_ms, end_ms=end_ms):
                result[key] += int(figures["count"])
        return result

    def _raw(self, key: str, *, start_ms: int, end_ms: int) -> Columns:
        equipment, _, signal = key.partition("/")
        chosen = selector(EVERY, self._site, equipment=equipment, signals=(signal,))
        lines = self._link.export(chosen, start_ms=max(EARLIEST_MS, start_ms), end_ms=end_ms)
        return decode_export(lines).get(key, _NONE)

    def _by_server(self, key: str, result: Buckets, *, start_ms: int, end_ms: int, buckets: int) -> None:
        width = -(-(end_ms - start_ms) // buckets)
        whole = (end_ms - start_ms) // width
        cuts = [(start_ms, whole, width), (start_ms + whole * width, 1, end_ms - start_ms - whole * width)]
        for begin, number, wide in cuts:
            if wide <= 0 or number <= 0:
                continue
            usable_rows = self._points(key, FIGURES, VALUE, start_ms=begin, number=number, width_ms=wide)
            bad = self._points(key, ("count",), BAD, start_ms=begin, number=number, width_ms=wide)
            for index, row in sorted(usable_rows.items()):
                result.t.append(round(row["tlast"] * 1000))
                result.min.append(row["min"])
                result.max.append(row["max"])
                result.mean.append(row["avg"])
                result.last.append(row["last"])
                result.count.append(int(row["count"]))
                result.bad.append(int(bad.get(index, {}).get("count", 0)))

    def _points(
        self, key: str, functions: Sequence[str], name: str, *, start_ms: int, number: int, width_ms: int
    ) -> dict[int, dict[str, float]]:
        """Return index of the window -> figures, of windows side by side from the start on."""
        equipment, _, signal = key.partition("/")
        text = over(functions, selector((name,), self._site, equipment=equipment, signals=(signal,)), width_ms=width_ms)
        begin = start_ms + width_ms - 1 - SHIFT_MS
        end = begin + (number - 1) * width_ms
        result: dict[int, dict[str, float]] = {}
        for series in self._link.query_range(text, start_ms=begin, end_ms=end, step_ms=width_ms):
            figure = series["metric"]["rollup"].removesuffix("_over_time")
            for time_s, number_text in series["values"]:
                index = (round(time_s * 1000) - begin) // width_ms
                result.setdefault(index, {})[figure] = float(number_text)
        return result

    def _window(
        self, keys: Sequence[str], functions: Sequence[str], name: str, *, start_ms: int, end_ms: int
    ) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield (key, figures) over one window, for the signals that have a sample in it."""
        start_ms, end_ms = max(EARLIEST_MS, start_ms), min(end_ms, _newest_ms())
        if end_ms <= start_ms:
            return
        by_equipment: dict[str, list[str]] = {}
        for key in keys:
            equipment, _, signal = key.partition("/")
            by_equipment.setdefault(equipment, []).append(signal)
        for equipment, signals in by_equipment.items():
            chosen = selector((name,), self._site, equipment=equipment, signals=signals)
            text = over(functions, chosen, width_ms=end_ms - start_ms)
            found: dict[str, dict[str, float]] = {}
            for series in self._link.query(text, time_ms=end_ms - 1 - SHIFT_MS):
                figure = series["metric"]["rollup"].removesuffix("_over_time")
                found.setdefault(key_of(series["metric"]), {})[figure] = float(series["value"][1])
            yield from found.items()

    def _found(self, keys: Sequence[str], windows: Sequence[tuple[int, int]], *, function: str) -> dict[str, Sample]:
        """Return the sample of each signal that stands first (or last) in the first window that has one."""
        result: dict[str, Sample] = {}
        for start_ms, end_ms in windows:
            wanted = [key for key in keys if key not in result]
            times: dict[str, list[int]] = {}
            for name in (VALUE, BAD):
                for key, figures in self._window(wanted, (function,), name, start_ms=start_ms, end_ms=end_ms):
                    times.setdefault(key, []).append(round(figures[function] * 1000))
            for key, candidates in times.items():
                at_ms = max(candidates) if function == "tlast" else min(candidates)
                time_ms, value, quality = self._raw(key, start_ms=at_ms, end_ms=at_ms + 1)
                if len(time_ms):
                    result[key] = Sample(time_ms=at_ms, value=float(value[0]), quality=int(quality[0]))
            if len(result) == len(keys):
                break
        return result

    def _until(self, key: str, *, start_ms: int, end_ms: int, limit: int) -> tuple[int, bool]:
        """Return (end of a prefix of the range that is small enough to read, whether samples follow it).

        The prefix holds at least one sample if the range does, and little more than the limit.
        """
        start_ms, newest = max(EARLIEST_MS, start_ms), _newest_ms()
        whole, is_cut = min(end_ms, newest), False
        while True:
            if self.count((key,), start_ms=start_ms, end_ms=whole)[key] <= max(limit, EXACT_SAMPLES):
                return whole, is_cut
            width = -(-(whole - start_ms) // PARTS)
            number = -(-(whole - start_ms) // width)
            sums = [0] * number
            for name in (VALUE, BAD):
                points = self._points(key, ("count",), name, start_ms=start_ms, number=number, width_ms=width)
                for index, row in points.items():
                    sums[index] += int(row["count"])
            total, parts = 0, 0
            while parts < number and total + sums[parts] <= max(limit, EXACT_SAMPLES):
                total += sums[parts]
                parts += 1
            is_cut = True
            if total:
                return start_ms + parts * width, True
            # nothing before the first part that is too big: look into that one
            start_ms, whole = start_ms + parts * width, min(whole, start_ms + (parts + 1) * width)


def _newest_ms() -> int:
    """Return the end of what may be asked: the server takes nothing later, and asked later it repeats old values."""
    return int(time.time() * 1000) + SHIFT_MS - LATENCY_MS


def bucketed(columns: Columns, *, start_ms: int, end_ms: int, buckets: int) -> Buckets:
    """Return samples of one signal, by rising time within the range, as buckets; none where no sample is usable."""
    time_ms, value, quality = columns
    number = (time_ms - start_ms) * buckets // (end_ms - start_ms)
    good = usable(value, quality)
    where, times, values = number[good], time_ms[good], value[good]
    present, first, count = np.unique(where, return_index=True, return_counts=True)
    if not len(present):
        return Buckets(t=[], min=[], max=[], mean=[], last=[], count=[], bad=[])
    newest = first + count - 1
    bad = np.bincount(np.searchsorted(present, number[~good & np.isin(number, present)]), minlength=len(present))
    return Buckets(
        t=times[newest].tolist(),
        min=np.minimum.reduceat(values, first).tolist(),
        max=np.maximum.reduceat(values, first).tolist(),
        mean=(np.add.reduceat(values, first) / count).tolist(),
        last=values[newest].tolist(),
        count=count.tolist(),
        bad=bad.tolist(),
    )
