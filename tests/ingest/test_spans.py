"""Time in each state, increases of counters and checksums: exact for any split into pages."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.spans import MOST_STATES, CounterTally, Digest, StateClock

Row = tuple[int, float, int]


def columns(rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (time, value, quality) rows as columns."""
    times, values, qualities = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(times, np.int64), np.array(values, np.float64), np.array(qualities, np.uint8)


ROWS = st.lists(
    st.tuples(st.integers(0, 500), st.sampled_from([0.0, 1.0, 2.0, math.nan]), st.sampled_from([0, 0, 0, 1, 5])),
    max_size=40,
    unique_by=lambda row: row[0],
).map(sorted)
CUTS = st.lists(st.integers(0, 40), max_size=4).map(sorted)


def pages(rows: list[Row], cuts: list[int]) -> list[list[Row]]:
    """Return rows split at some places, empty pages included."""
    edges = [0, *(min(cut, len(rows)) for cut in cuts), len(rows)]
    return [rows[a:b] for a, b in itertools.pairwise(edges)]


@given(rows=ROWS, cuts=CUTS, start=st.integers(0, 300), width=st.integers(1, 300), hold=st.none() | st.integers(1, 90))
def test_time_in_each_state_is_that_of_every_single_millisecond(
    rows: list[Row], cuts: list[int], start: int, width: int, hold: int | None
) -> None:
    """Every millisecond of the range belongs to one state, to bad quality or to nobody, whatever the pages."""
    end = start + width
    inside = [row for row in rows if row[0] < end]
    clock = StateClock(start_ms=start, end_ms=end, hold_ms=hold)
    for page in pages(inside, cuts):
        clock.feed(*columns(page))
    clock.finish()
    by_value: dict[float, int] = {}
    bad = unknown = 0
    for at in range(start, end):
        before = [row for row in inside if row[0] <= at]
        if not before or (hold is not None and at - before[-1][0] >= hold):
            unknown += 1
        elif before[-1][2] not in (0, 5) or math.isnan(before[-1][1]):
            bad += 1
        else:
            by_value[before[-1][1]] = by_value.get(before[-1][1], 0) + 1
    assert (clock.by_value, clock.bad_ms, clock.unknown_ms) == (by_value, bad, unknown)


def test_changes_are_counted_inside_the_range_only() -> None:
    """A pump that started before the range and stopped twice inside it changed three times."""
    clock = StateClock(start_ms=100, end_ms=200)
    clock.feed(*columns([(10, 0.0, 0), (50, 1.0, 0)]))
    clock.feed(*columns([(110, 0.0, 0), (120, math.nan, 1), (130, 0.0, 0), (140, 1.0, 0)]))
    clock.feed(*columns([(150, 0.0, 0)]))
    clock.finish()
    assert clock.changes == 3
    assert clock.by_value == {1.0: 20, 0.0: 70}
    assert clock.bad_ms == 10


def test_a_measure_is_no_state() -> None:
    """Asking for the states of a temperature is refused instead of filling the memory."""
    clock = StateClock(start_ms=0, end_ms=10_000)
    rows = [(i, float(i), 0) for i in range(MOST_STATES + 2)]
    with pytest.raises(ValueError, match="no state"):
        clock.feed(*columns(rows))


@pytest.mark.parametrize(
    ("values", "modulus", "expected"),
    [
        ([10, 12, 15], None, (5, 0, 0)),
        ([10, 12, 3, 4], None, (6, 1, 0)),
        ([65_530, 65_535, 4, 9], 65_536, (15, 0, 1)),
        ([100, 90], 65_536, (90, 1, 0)),
        ([7], None, (0, 0, 0)),
    ],
)
def test_counters_grow_over_restarts_and_roll_overs(
    values: list[float], modulus: float | None, expected: tuple[float, int, int]
) -> None:
    """A meter that was replaced or rolled over never makes consumption negative."""
    for cut in range(len(values) + 1):
        tally = CounterTally(modulus=modulus)
        for part in (values[:cut], values[cut:]):
            tally.feed(np.array(part, np.float64), np.zeros(len(part), np.uint8))
        assert (tally.increase, tally.restarts, tally.roll_overs) == expected


def test_bad_readings_do_not_count_as_restarts() -> None:
    """A zero of bad quality between two good readings is not consumption."""
    tally = CounterTally()
    tally.feed(np.array([100.0, 0.0, math.nan, 101.0]), np.array([0, 2, 1, 0], np.uint8))
    assert (tally.increase, tally.restarts, tally.count) == (1.0, 0, 2)


@given(rows=ROWS, cuts=CUTS, seed=st.integers(0, 100))
def test_a_digest_does_not_depend_on_order_or_split(rows: list[Row], cuts: list[int], seed: int) -> None:
    """Two stores that hold the same samples have the same digest, however they were read."""
    whole = Digest()
    whole.feed(*columns(rows))
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    parts = Digest()
    for page in pages(shuffled, cuts):
        parts.feed(*columns(page))
    assert parts == whole


@given(rows=ROWS.filter(bool), which=st.integers(0, 39), field=st.integers(0, 2))
def test_a_digest_sees_every_change(rows: list[Row], which: int, field: int) -> None:
    """One sample with another time, value or quality changes the checksum."""
    before, after = Digest(), Digest()
    before.feed(*columns(rows))
    row = list(rows[which % len(rows)])
    row[field] = [1000, 7.5, 6][field]
    rows[which % len(rows)] = (int(row[0]), float(row[1]), int(row[2]))
    after.feed(*columns(rows))
    assert after.checksum != before.checksum
    assert after.count == before.count
