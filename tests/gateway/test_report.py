"""Report by exception, rule by rule and against a slow reference."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.report import Reporter, Samples
from watchroom.signals import Kind, Lane, Quality, SignalSpec

PRESSURE = SignalSpec(alias=0, key="WP-01/outlet_pressure", kind=Kind.MEASURE, deadband=0.5, max_silence_s=60)
RUNNING = SignalSpec(alias=1, key="WP-01/p1_state", kind=Kind.STATE, lane=Lane.URGENT, deadband=99.0, max_silence_s=10)
SPECS = (PRESSURE, RUNNING)
NAN = float("nan")


def poll(
    reporter: Reporter, time_ms: int, *rows: tuple[int, float, int], floor_ms: int = 0
) -> list[tuple[int, int, float, int]]:
    """Give one block; return the reported samples as rows (alias, time, value, quality)."""
    samples = reporter.changed(
        np.array([row[0] for row in rows], dtype=np.int64),
        time_ms=time_ms,
        value=np.array([row[1] for row in rows], dtype=np.float64),
        quality=np.array([row[2] for row in rows], dtype=np.uint8),
        floor_ms=floor_ms,
    )
    return listed(samples)


def listed(samples: Samples) -> list[tuple[int, int, float, int]]:
    return list(
        zip(
            samples.alias.tolist(),
            samples.time_ms.tolist(),
            samples.value.tolist(),
            samples.quality.tolist(),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    ("first", "second", "is_reported"),
    [
        ((0, 1.0, 0), (0, 1.0, 0), False),
        ((0, 1.0, 0), (0, 1.5, 0), False),
        ((0, 1.0, 0), (0, 1.51, 0), True),
        ((0, 1.0, 0), (0, 0.49, 0), True),
        ((0, 1.0, 0), (0, 1.0, 2), True),
        ((0, 1.0, 0), (0, NAN, 0), True),
        ((0, NAN, 1), (0, NAN, 1), False),
        ((0, NAN, 1), (0, NAN, 2), True),
        ((0, NAN, 0), (0, 1.0, 0), True),
        ((0, math.inf, 0), (0, math.inf, 0), False),
        ((0, math.inf, 0), (0, -math.inf, 0), True),
        ((0, math.inf, 0), (0, 1.0, 0), True),
        ((1, 0.0, 0), (1, 0.0, 0), False),
        ((1, 0.0, 0), (1, 1.0, 0), True),
    ],
)
def test_what_is_a_change(first: tuple[int, float, int], second: tuple[int, float, int], is_reported: bool) -> None:
    """A value beyond its deadband, any change of a state, and any change of quality is told; nothing else."""
    reporter = Reporter(SPECS)
    assert len(poll(reporter, 1000, first)) == 1
    assert bool(poll(reporter, 2000, second)) is is_reported


def test_slow_drift_is_seen() -> None:
    """The deadband is measured from the last value told, so a slow drift cannot creep away unseen."""
    reporter = Reporter(SPECS)
    told = [row[2] for i in range(11) for row in poll(reporter, 1000 + i, (0, i * 0.2, 0))]
    assert told == pytest.approx([0.0, 0.6, 1.2, 1.8])


def test_two_samples_never_share_a_millisecond() -> None:
    """A door that opened and closed within a millisecond is two samples, in their order."""
    reporter = Reporter(SPECS)
    assert poll(reporter, 5000, (1, 1.0, 0), (1, 0.0, 0), (1, 1.0, 0)) == [
        (1, 5000, 1.0, 0),
        (1, 5001, 0.0, 0),
        (1, 5002, 1.0, 0),
    ]
    assert poll(reporter, 5001, (1, 0.0, 0)) == [(1, 5003, 0.0, 0)]


def test_claims_are_kept() -> None:
    """What a lane has claimed to be complete gets no older samples: they are stamped just behind the claim."""
    assert poll(Reporter(SPECS), 5000, (0, 1.0, 0), floor_ms=5200) == [(0, 5200, 1.0, 0)]


def test_silence_is_broken_in_time() -> None:
    """Every signal is sent again before its max_silence_s is over, by the poll or by the timer."""
    reporter = Reporter(SPECS)
    poll(reporter, 0, (0, 1.0, 0), (1, 0.0, 0))
    assert listed(reporter.silent(now_ms=7_999)) == []
    assert listed(reporter.silent(now_ms=8_000)) == [(1, 8_000, 0.0, 0)]
    assert listed(reporter.silent(now_ms=8_001)) == []
    assert poll(reporter, 57_999, (0, 1.0, 0)) == []
    assert poll(reporter, 58_000, (0, 1.0, 0)) == [(0, 58_000, 1.0, 0)]


def test_never_seen_is_never_claimed() -> None:
    """A signal that nobody has read since the start is in no snapshot and breaks no silence."""
    reporter = Reporter(SPECS)
    poll(reporter, 0, (0, 1.0, 0))
    assert [row[0] for row in listed(reporter.snapshot(now_ms=10))] == [0]
    assert reporter.is_complete(Lane.TELEMETRY)
    assert not reporter.is_complete(Lane.URGENT)
    assert [row[0] for row in listed(reporter.silent(now_ms=10**9))] == [0]


def test_snapshot_has_the_newest_observation() -> None:
    """A snapshot tells what was read last, also what the deadband had held back."""
    reporter = Reporter(SPECS)
    poll(reporter, 0, (0, 1.0, 0), (1, 1.0, 0))
    poll(reporter, 100, (0, 1.4, 0))
    assert listed(reporter.snapshot(now_ms=200)) == [(0, 200, 1.4, 0), (1, 200, 1.0, 0)]
    assert reporter.is_complete(Lane.URGENT)


def test_clock_set_back() -> None:
    """After the clock was set back by an hour samples get the new times and do not stick to the old ones."""
    reporter = Reporter(SPECS)
    poll(reporter, 7_200_000, (0, 1.0, 0))
    reporter.forget_times()
    assert poll(reporter, 3_600_000, (0, 1.0, 0)) == [(0, 3_600_000, 1.0, 0)]


def test_what_could_not_be_kept_is_told_again() -> None:
    """A sample that the full disk refused is reported again at the next poll although it has not changed."""
    reporter = Reporter(SPECS)
    poll(reporter, 0, (1, 1.0, 0))
    reporter.forget_sent(np.array([1]))
    assert poll(reporter, 10, (1, 1.0, 0)) == [(1, 10, 1.0, 0)]


def test_aliases_must_be_dense() -> None:
    """A gap in the aliases is a mistake of the program, told at once."""
    with pytest.raises(ValueError, match="dense"):
        Reporter([RUNNING])


VALUES = st.one_of(st.sampled_from([0.0, 0.3, 0.5, 1.0, NAN, math.inf]), st.floats(-3, 3))
ROWS = st.lists(st.tuples(st.integers(0, 1), VALUES, st.sampled_from([0, 1, 4])), max_size=5)


@given(st.lists(st.tuples(st.integers(0, 3000), ROWS), max_size=12))
def test_same_as_the_slow_way(polls: list[tuple[int, list[tuple[int, float, int]]]]) -> None:
    """The vectorised report tells exactly what a loop over single samples tells, whatever comes in one block."""
    reporter, told, expected = Reporter(SPECS), [], []
    last: dict[int, tuple[int, float, int]] = {}
    now = 0
    for step, rows in polls:
        now += step
        told += poll(reporter, now, *rows)
        for alias, value, quality in rows:
            spec = SPECS[alias]
            if alias in last:
                sent_ms, sent, sent_quality = last[alias]
                same = value == sent or (math.isnan(value) and math.isnan(sent))
                odd = not (math.isfinite(value) and math.isfinite(sent))
                limit = 0.0 if spec.kind == Kind.STATE else spec.deadband
                changed = not same if odd else abs(value - sent) > limit
                silent = now - sent_ms >= spec.max_silence_s * 1000 - 2000
                if not (changed or silent or quality != sent_quality):
                    continue
                stamp = max(now, sent_ms + 1)
            else:
                stamp = now
            last[alias] = stamp, value, quality
            expected.append((alias, stamp, value, quality))
    assert sorted(map(repr, told)) == sorted(map(repr, expected))
    for alias in (0, 1):
        times = [row[1] for row in told if row[0] == alias]
        assert all(a < b for a, b in itertools.pairwise(times))


def test_quality_of_nothing_read() -> None:
    """Missing is never zero: a signal without communication travels as NaN with quality 1."""
    ((_, _, value, quality),) = poll(Reporter(SPECS), 0, (0, NAN, Quality.NO_COMMUNICATION))
    assert math.isnan(value)
    assert quality == Quality.NO_COMMUNICATION
