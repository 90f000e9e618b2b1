"""What every history store must do, to be run against each: a plain numpy reference and the batches that fill a store.

A test of one store makes a `Case` (by hand or with `cases()`), writes its batches and calls `check_everything`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import strategies as st

from ingest.spans import usable
from ingest.store import Buckets, HistoryReads, SampleBatch

KEYS = ("WP-01/outlet_pressure", "WP-01/p1_state", "TK-01/level")
Row = tuple[int, int, float, int]
"""(number of the key, time, value, quality)"""


def batch_of(rows: Sequence[Row], keys: Sequence[str] = KEYS) -> SampleBatch:
    """Return rows as a batch."""
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return SampleBatch(
        keys=keys,
        series=np.array(columns[0], np.uint32),
        time_ms=np.array(columns[1], np.int64),
        value=np.array(columns[2], np.float64),
        quality=np.array(columns[3], np.uint8),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Batches in the order they are written; a row may stand in several of them."""

    batches: tuple[tuple[Row, ...], ...]
    keys: tuple[str, ...] = KEYS

    def reference(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return what must be stored: key -> (time, value, quality) by rising time, the last written of each time."""
        newest = {(row[0], row[1]): row for batch in self.batches for row in batch}
        result = {}
        for number, key in enumerate(self.keys):
            rows = sorted(row for row in newest.values() if row[0] == number)
            result[key] = (
                np.array([row[1] for row in rows], np.int64),
                np.array([row[2] for row in rows], np.float64),
                np.array([row[3] for row in rows], np.uint8),
            )
        return result


def cases(*, span_ms: int, base_ms: int = 0, most: int = 80) -> st.SearchStrategy[Case]:
    """Return cases of any split, order and repetition of unique samples within a span of time."""
    row = st.tuples(
        st.integers(0, len(KEYS) - 1),
        st.integers(base_ms, base_ms + span_ms - 1),
        st.one_of(st.integers(-50, 50).map(lambda v: v / 4), st.floats(-1e6, 1e6), st.just(float("nan"))),
        st.sampled_from([0, 0, 0, 0, 1, 2, 4]),
    )

    @st.composite
    def draw_case(draw: st.DrawFn) -> Case:
        rows = draw(st.lists(row, max_size=most, unique_by=lambda r: (r[0], r[1])))
        picks = draw(st.lists(st.lists(st.integers(0, max(0, len(rows) - 1)), max_size=40), max_size=5))
        order = draw(st.permutations(rows))
        cut = draw(st.integers(0, len(order)))
        repeated = [tuple(rows[i] for i in pick if rows) for pick in picks]
        return Case(batches=tuple(draw(st.permutations([tuple(order[:cut]), tuple(order[cut:]), *repeated]))))

    return draw_case()


def reference_buckets(
    columns: tuple[np.ndarray, np.ndarray, np.ndarray], *, start_ms: int, end_ms: int, buckets: int
) -> Buckets:
    """Return the buckets of one signal, computed one by one."""
    time_ms, value, quality = columns
    inside = (time_ms >= start_ms) & (time_ms < end_ms)
    time_ms, value, good = time_ms[inside], value[inside], usable(value, quality)[inside]
    number = (time_ms - start_ms) * buckets // (end_ms - start_ms)
    found = Buckets(t=[], min=[], max=[], mean=[], last=[], count=[], bad=[])
    for bucket in np.unique(number[good]).tolist():
        here = (number == bucket) & good
        found.t.append(int(time_ms[here][-1]))
        found.min.append(float(value[here].min()))
        found.max.append(float(value[here].max()))
        found.mean.append(float(value[here].mean()))
        found.last.append(float(value[here][-1]))
        found.count.append(int(here.sum()))
        found.bad.append(int(((number == bucket) & ~good).sum()))
    return found


def check_range(store: HistoryReads, case: Case, *, start_ms: int, end_ms: int, buckets: int) -> None:
    """Every bucket is exactly that of the samples inside it."""
    found = store.range(case.keys, start_ms=start_ms, end_ms=end_ms, buckets=buckets)
    for key, columns in case.reference().items():
        want = reference_buckets(columns, start_ms=start_ms, end_ms=end_ms, buckets=buckets)
        got = found[key]
        assert (got.t, got.min, got.max, got.last) == (want.t, want.min, want.max, want.last), key
        assert (got.count, got.bad) == (want.count, want.bad), key
        assert got.mean == pytest.approx(want.mean, rel=1e-9, abs=1e-9), key


def check_samples(store: HistoryReads, case: Case, *, start_ms: int, end_ms: int, limit: int) -> None:
    """The pages of a raw range together are exactly its samples."""
    for key, columns in case.reference().items():
        inside = (columns[0] >= start_ms) & (columns[0] < end_ms)
        pages, at = [], start_ms
        while True:
            page = store.samples(key, start_ms=at, end_ms=end_ms, limit=limit)
            assert len(page) <= limit
            pages.append(page)
            if page.next_ms is None:
                break
            assert len(page), "a page that is not the last must hold something"
            at = page.next_ms
        for name, want in zip(("time_ms", "value", "quality"), columns, strict=True):
            got = np.concatenate([getattr(page, name) for page in pages])
            np.testing.assert_array_equal(got, want[inside], err_msg=f"{key} {name}")


def check_ends(store: HistoryReads, case: Case, *, at_ms: int) -> None:
    """First and last find the neighbours of a time, of any quality."""
    last, first = store.last(case.keys, before_ms=at_ms), store.first(case.keys, from_ms=at_ms)
    for key, columns in case.reference().items():
        for found, where in ((last, np.flatnonzero(columns[0] < at_ms)[-1:]), (first, _first(columns[0], at_ms))):
            assert (key in found) == bool(len(where)), key
            if len(where):
                sample = found[key]
                got = (sample.time_ms, sample.value, sample.quality)
                np.testing.assert_array_equal(got, [column[where[0]] for column in columns], err_msg=key)


def check_counts(store: HistoryReads, case: Case, *, start_ms: int, end_ms: int) -> None:
    """Counting needs no reading, and is exact."""
    found: Mapping[str, int] = store.count(case.keys, start_ms=start_ms, end_ms=end_ms)
    for key, columns in case.reference().items():
        assert found[key] == int(((columns[0] >= start_ms) & (columns[0] < end_ms)).sum()), key


def check_everything(store: HistoryReads, case: Case, *, start_ms: int, end_ms: int, buckets: int) -> None:
    """All reads of one range."""
    check_range(store, case, start_ms=start_ms, end_ms=end_ms, buckets=buckets)
    most = max(len(columns[0]) for columns in case.reference().values()) // 4
    check_samples(store, case, start_ms=start_ms, end_ms=end_ms, limit=max(buckets, most))
    check_ends(store, case, at_ms=start_ms)
    check_counts(store, case, start_ms=start_ms, end_ms=end_ms)
    stored = {case.keys[row[0]] for batch in case.batches for row in batch}
    assert stored <= set(store.keys())


def _first(time_ms: np.ndarray, at_ms: int) -> np.ndarray:
    return np.flatnonzero(time_ms >= at_ms)[:1]
