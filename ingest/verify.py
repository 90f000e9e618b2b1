"""A second opinion on a store: are the journal's samples in it, and do its roll-ups follow from its samples?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ingest.cells import HOUR_MS, MINUTE_MS, Columns, Grid, Partials, combined, newest
from ingest.history import Collected
from ingest.reading import PAGE
from ingest.spans import Digest
from ingest.store import MOST_BUCKETS, MOST_KEYS, Buckets, HistoryStore, TooBigError
from watchroom.births import BirthStore
from watchroom.errors import ContractError
from watchroom.frames import SampleFrame, decode
from watchroom.journal import Journal

MOST_VERIFIED = 2_000_000
"""Samples compared at once: about 100 MB."""
MOST_EXAMPLES = 10
READ_BYTES = 4 << 20


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What was compared, and what was wrong.

    Attributes:
        from_ms: Where the comparison with the journal begins: older records may be trimmed.
        signals: Signals compared.
        journal: Digest of the journal's samples; ``store`` of the store's since the same time.
        missing: Samples of the journal that the store lacks.
        different: Samples with another value or quality in the store.
        only_in_store: Samples the journal lacks: imported, or written while the comparison ran.
        cells: Minutes and hours compared with the samples below them.
        wrong_cells: Those that do not follow from them.
        unread: Frames of the journal that could not be read.
        examples: The first few differences, for people.
    """

    from_ms: int
    signals: int = 0
    journal: Digest = field(default_factory=Digest)
    store: Digest = field(default_factory=Digest)
    missing: int = 0
    different: int = 0
    only_in_store: int = 0
    cells: int = 0
    wrong_cells: int = 0
    unread: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is missing, different or wrong."""
        return not (self.missing or self.different or self.wrong_cells)

    def tell(self, example: str) -> None:
        """Keep an example, if there are not enough yet."""
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(example)


class Verifier:
    """Compares journal, store and roll-ups of a range.

    Args:
        site: Site, the partition of the journal.
        journal: What should be stored.
        births: What its aliases mean.
        store: The open store.
    """

    def __init__(self, site: str, journal: Journal, *, births: BirthStore, store: HistoryStore) -> None:
        self._site, self._journal, self._births, self._store = site, journal, births, store

    def verify(self, *, start_ms: int, end_ms: int) -> Verdict:
        """Compare the samples with start <= t < end.

        Raises:
            TooBigError: If there are too many to compare at once.
            StoreError: If the store cannot be read.
        """
        keys = self._store.keys()
        total = 0
        for at in range(0, len(keys), MOST_KEYS):
            some = keys[at : at + MOST_KEYS]
            total += sum(self._store.count(some, start_ms=start_ms, end_ms=end_ms).values())
        _check_size(total)
        verdict = Verdict(from_ms=max(start_ms, self._begin_ms()))
        journal = self._journalled(verdict, end_ms)
        for key in sorted({*keys, *journal}):
            verdict.signals += 1
            stored = self._stored(key, start_ms, end_ms)
            self._compare(key, journal.get(key), stored, verdict)
            for cell_ms in (MINUTE_MS, HOUR_MS):
                self._compare_cells(key, stored, cell_ms, start_ms=start_ms, end_ms=end_ms, verdict=verdict)
        return verdict

    def _begin_ms(self) -> int:
        """Return the time from which the journal holds every sample; a sample never arrives before its time."""
        begin = self._journal.begin(self._site)
        first = self._journal.read(self._site, begin, max_bytes=1)
        return first[0].arrived_ms if first and begin else 0

    def _journalled(self, verdict: Verdict, end_ms: int) -> dict[str, Columns]:
        """Return the journal's samples that the store has confirmed, by key."""
        collected, position, at = Collected(), self._store.position(), self._journal.begin(self._site)
        while at < position:
            records = self._journal.read(self._site, at, max_bytes=READ_BYTES)
            if not records:
                break
            at = records[-1].offset + 1
            for record in records:
                if record.payload and record.offset < position:
                    try:
                        self._take(record.gateway, record.payload, collected, verdict.from_ms, end_ms)
                    except ContractError:
                        verdict.unread += 1
            _check_size(collected.size)
        return _by_key(collected)

    def _take(self, gateway: str, payload: bytes, collected: Collected, start_ms: int, end_ms: int) -> None:
        frame = decode(payload)
        if not isinstance(frame, SampleFrame):
            return
        inside = (frame.time_ms >= start_ms) & (frame.time_ms < end_ms)
        if not inside.any():
            return
        birth = self._births.get(self._site, gateway, frame.header.epoch, frame.header.schema)
        if birth is None:
            raise ContractError("birth", gateway)
        part = SampleFrame(
            header=frame.header, value=frame.value[inside], alias=frame.alias[inside],
            time_ms=frame.time_ms[inside], quality=frame.quality[inside],
        )  # fmt: skip
        collected.add(part, tuple(signal.key for signal in birth.signals))

    def _stored(self, key: str, start_ms: int, end_ms: int) -> Columns:
        pages, at = [], start_ms
        while True:
            page = self._store.samples(key, start_ms=at, end_ms=end_ms, limit=PAGE)
            pages.append(page)
            if page.next_ms is None:
                break
            at = page.next_ms
        columns: Columns = {
            name: np.concatenate([getattr(page, name) for page in pages]) for name in ("time_ms", "value", "quality")
        }
        return columns | {"series": np.zeros(len(columns["time_ms"]), np.int64)}

    def _compare(self, key: str, journal: Columns | None, stored: Columns, verdict: Verdict) -> None:
        since = stored["time_ms"] >= verdict.from_ms
        times, values, qualities = (stored[name][since] for name in ("time_ms", "value", "quality"))
        verdict.store.feed(times, values, qualities)
        if journal is None:
            verdict.only_in_store += len(times)
            return
        verdict.journal.feed(journal["time_ms"], journal["value"], journal["quality"])
        where = np.searchsorted(times, journal["time_ms"])
        found = where < len(times)
        found[found] = times[where[found]] == journal["time_ms"][found]
        verdict.missing += int((~found).sum())
        verdict.only_in_store += len(times) - int(found.sum())
        for time_ms in journal["time_ms"][~found][:MOST_EXAMPLES].tolist():
            verdict.tell(f"{key} at {time_ms}: not in the store")
        at = where[found]
        value, quality = journal["value"][found], journal["quality"][found]
        same = ((values[at] == value) | (np.isnan(values[at]) & np.isnan(value))) & (qualities[at] == quality)
        verdict.different += int((~same).sum())
        for number in np.flatnonzero(~same)[:MOST_EXAMPLES].tolist():
            verdict.tell(
                f"{key} at {times[at[number]]}: {value[number]} ({quality[number]}) in the journal,"
                f" {values[at[number]]} ({qualities[at[number]]}) in the store"
            )

    def _compare_cells(
        self, key: str, stored: Columns, cell_ms: int, *, start_ms: int, end_ms: int, verdict: Verdict
    ) -> None:
        """Compare what the store answers for whole cells with its own samples."""
        for grid in _grids(cell_ms, start_ms, end_ms):
            inside = (stored["time_ms"] >= grid.start_ms) & (stored["time_ms"] < grid.end_ms)
            if not inside.any():
                continue
            part = {name: column[inside] for name, column in stored.items()}
            want = combined([Partials.of_samples(part, grid)], [key])[key]
            got = self._store.range([key], start_ms=grid.start_ms, end_ms=grid.end_ms, buckets=grid.buckets)[key]
            wrong = _wrong(want, got, grid)
            verdict.cells += len(want.t)
            verdict.wrong_cells += len(wrong)
            for number in sorted(wrong)[:MOST_EXAMPLES]:
                begin = grid.start_ms + number * cell_ms
                verdict.tell(f"{key}, {cell_ms // 1000} s from {begin}: does not follow from its samples")


def _grids(cell_ms: int, start_ms: int, end_ms: int) -> Iterator[Grid]:
    """Yield the whole cells of a range, as many at once as a query may have."""
    at, end = -(-start_ms // cell_ms) * cell_ms, end_ms // cell_ms * cell_ms
    while at < end:
        buckets = min(MOST_BUCKETS, (end - at) // cell_ms)
        yield Grid(start_ms=at, end_ms=at + buckets * cell_ms, buckets=buckets)
        at += buckets * cell_ms


def _wrong(want: Buckets, got: Buckets, grid: Grid) -> set[int]:
    """Return the buckets in which two answers differ."""
    rows = [_rows(buckets, grid) for buckets in (want, got)]
    numbers = rows[0].keys() | rows[1].keys()
    return {number for number in numbers if not _is_same(rows[0].get(number), rows[1].get(number))}


def _rows(buckets: Buckets, grid: Grid) -> dict[int, tuple[float, ...]]:
    columns = (buckets.t, buckets.min, buckets.max, buckets.last, buckets.count, buckets.bad, buckets.mean)
    numbers = grid.number(np.array(buckets.t, np.int64)).tolist()
    return dict(zip(numbers, zip(*columns, strict=True), strict=True))


def _is_same(want: tuple[float, ...] | None, got: tuple[float, ...] | None) -> bool:
    if want is None or got is None:
        return False
    # the mean alone depends on the order of adding
    return want[:-1] == got[:-1] and abs(want[-1] - got[-1]) <= 1e-9 * max(1.0, abs(want[1]), abs(want[2]))


def _by_key(collected: Collected) -> dict[str, Columns]:
    batch = collected.batch()
    rows: Columns = {"time_ms": batch.time_ms, "value": batch.value, "quality": batch.quality}
    unique = newest(rows | {"series": batch.series.astype(np.int64)}, "time_ms")
    order = np.argsort(unique["series"], kind="stable")
    edges = np.searchsorted(unique["series"][order], np.arange(len(batch.keys) + 1))
    return {
        key: {name: unique[name][order[edges[n] : edges[n + 1]]] for name in rows} for n, key in enumerate(batch.keys)
    }


def _check_size(samples: int) -> None:
    if samples > MOST_VERIFIED:
        raise TooBigError("samples", asked=samples, most=MOST_VERIFIED, hint="verify a shorter time at once")
