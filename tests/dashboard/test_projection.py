"""Newest values: the newest sample wins, silence is told, and a page is told exactly what changed."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dashboard.projection import DEFAULT_SILENCE_MS, SILENCE_SLACK_MS, Projection
from dashboard.signal_frames import HEAD, MAGIC, SAMPLE_BYTES, STALE, encode_signals
from watchroom.births import Birth
from watchroom.frames import Header, SampleFrame
from watchroom.signals import Kind, SignalSpec

KEYS = ["A-1/x", "A-1/y", "B-1/z"]
NOW = 1_700_000_000_000


def birth(keys: list[str] = KEYS, *, gateway: str = "one", silence_s: float = 60) -> Birth:
    """Return a birth with these signals."""
    signals = tuple(
        SignalSpec(alias=i, key=key, kind=Kind.MEASURE, max_silence_s=silence_s) for i, key in enumerate(keys)
    )
    return Birth(gateway=gateway, epoch=7, schema=1, time_ms=NOW, heartbeat_s=1, version="1", signals=signals)


def frame(*samples: tuple[int, int, float], clock_gen: int = 1, quality: int = 0) -> SampleFrame:
    """Return a frame of (alias, time, value)."""
    alias, time_ms, value = zip(*samples, strict=True)
    n = len(samples)
    return SampleFrame(
        header=Header(
            kind="D", lane=1, epoch=7, seq=1, base_ms=NOW, complete_ms=NOW, schema=1, n=n, clock_gen=clock_gen
        ),
        alias=np.array(alias, dtype=np.uint32),
        time_ms=np.array(time_ms, dtype=np.int64),
        value=np.array(value, dtype=np.float64),
        quality=np.full(n, quality, dtype=np.uint8),
    )


def values(projection: Projection) -> dict[str, Any]:
    """Return key -> value."""
    return {row["key"]: row["value"] for row in projection.samples(projection.keys)}


def test_an_older_sample_never_replaces_a_newer_one() -> None:
    """Backlog that arrives after live values does not move the needle back."""
    projection = Projection(KEYS)
    places = projection.indices_of(birth())
    projection.apply("one", places, frame((0, NOW, 2.0), (1, NOW, 5.0)), arrived_ms=NOW)
    projection.apply("one", places, frame((0, NOW - 1, 1.0), (1, NOW + 1, 6.0)), arrived_ms=NOW)
    assert values(projection) == {"A-1/x": 2.0, "A-1/y": 6.0, "B-1/z": None}


def test_a_clock_that_was_set_back_is_followed() -> None:
    """After the gateway's clock was corrected its values go on at once, not when the old time is reached again."""
    projection = Projection(KEYS)
    places = projection.indices_of(birth())
    projection.apply("one", places, frame((0, NOW + 3_600_000, 1.0)), arrived_ms=NOW)
    projection.apply("one", places, frame((0, NOW, 2.0)), arrived_ms=NOW)
    assert values(projection)["A-1/x"] == 1.0
    projection.apply("one", places, frame((0, NOW, 3.0), clock_gen=2), arrived_ms=NOW)
    assert values(projection)["A-1/x"] == 3.0


def test_unknown_aliases_are_left_out() -> None:
    """A damaged frame cannot write into another gateway's signals."""
    projection = Projection(KEYS)
    places = projection.indices_of(birth(KEYS[:1]))
    projection.apply("one", places, frame((0, NOW, 1.0), (1, NOW, 9.0), (4_000_000_000, NOW, 9.0)), arrived_ms=NOW)
    assert values(projection) == {"A-1/x": 1.0, "A-1/y": None, "B-1/z": None}


def test_no_value_is_null_not_nan() -> None:
    """A sensor that gives no value is an empty field in the page, never a number."""
    projection = Projection(KEYS)
    places = projection.indices_of(birth())
    projection.apply("one", places, frame((0, NOW, float("nan")), quality=3), arrived_ms=NOW)
    assert projection.samples(["A-1/x"])[0] | {"value": None, "quality": 3} == projection.samples(["A-1/x"])[0]
    assert projection.value_of("A-1/x") is None
    assert projection.counts() == (0, 0)


def test_silence_and_a_dead_gateway_make_stale() -> None:
    """A value is believed until it should have come again, and not longer than its gateway is heard."""
    projection = Projection(KEYS)
    places = projection.indices_of(birth())
    projection.apply("one", places, frame((0, NOW, 1.0)), arrived_ms=NOW)
    limit = NOW + DEFAULT_SILENCE_MS + SILENCE_SLACK_MS
    for now_ms, online, stale in (
        (NOW, ["one"], False),
        (limit, ["one"], False),
        (limit + 1, ["one"], True),
        (NOW, ["one"], False),
        (NOW, [], True),
        (NOW, ["other"], True),
    ):
        projection.judge(now_ms=now_ms, online=online)
        assert projection.samples(["A-1/x"])[0]["is_stale"] is stale, (now_ms, online)
    assert projection.counts_of("one") == (3, 3)
    assert projection.counts() == (0, 1)


def test_engine_values_fill_what_the_journal_has_not_told() -> None:
    """The engine's picture completes ours, but never puts an older value over a newer one."""
    projection = Projection(KEYS)
    places = projection.indices_of(birth())
    projection.apply("one", places, frame((0, NOW, 2.0)), arrived_ms=NOW)
    epoch = projection.epoch
    latest = {
        "keys": ["A-1/x", "A-1/y", "B-1/z", "C-1/new"],
        "time_ms": [NOW - 5, NOW - 5, 0, NOW],
        "value": [1.0, 7.0, None, 8.0],
        "quality": [0, 0, 1, 0],
        "gateway": ["one", "one", "", "two"],
        "is_stale": [False, True, True, False],
    }
    assert projection.merge(latest, now_ms=NOW) is True
    assert values(projection) == {"A-1/x": 2.0, "A-1/y": 7.0, "B-1/z": None, "C-1/new": 8.0}
    assert projection.epoch != epoch
    projection.judge(now_ms=NOW, online=["one", "two"])
    assert [row["is_stale"] for row in projection.samples(projection.keys)] == [False, True, True, False]


def test_index_epoch_survives_a_restart() -> None:
    """The same signals have the same epoch, so that pages need not fetch the index after a restart."""
    assert Projection(KEYS).epoch == Projection(KEYS).epoch != Projection(KEYS[::-1]).epoch
    grown = Projection(KEYS[:2])
    assert grown.add_keys([*KEYS[:2], KEYS[2], KEYS[2]]) is True
    assert grown.epoch == Projection(KEYS).epoch
    assert grown.add_keys(KEYS) is False
    assert grown.index == {key: i for i, key in enumerate(KEYS)}


def test_many_new_signals_keep_their_values() -> None:
    """Growing the table loses nothing."""
    projection = Projection(KEYS)
    places = projection.indices_of(birth())
    projection.apply("one", places, frame((0, NOW, 1.0)), arrived_ms=NOW)
    projection.add_keys(f"X-{i}/v" for i in range(2000))
    assert values(projection)["A-1/x"] == 1.0
    assert values(projection)["X-1999/v"] is None


def test_rate_counts_the_last_five_seconds() -> None:
    """The figure in the bar falls to zero when nothing comes any more."""
    projection = Projection(KEYS)
    places = projection.indices_of(birth())
    for i in range(10):
        projection.apply("one", places, frame((0, NOW + i, 1.0), (1, NOW + i, 1.0)), arrived_ms=NOW + 1000 * i)
    assert projection.samples_per_s(NOW + 9000) == 12 * 1000 / 5000
    assert projection.samples_per_s(NOW + 60_000) == 0


Step = tuple[int, int, float]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50), st.floats(-9, 9)), min_size=1, max_size=5)),
    st.sets(st.integers(0, 2)),
    st.lists(st.booleans(), max_size=30),
)
def test_a_page_that_takes_what_changed_has_the_newest_values(
    frames: list[list[Step]], view: set[int], looks: list[bool]
) -> None:
    """Whenever a page looks, what it was told so far is exactly what the server has, for all it shows."""
    projection = Projection(KEYS)
    places = projection.indices_of(birth())
    shown, told, seen = np.array(sorted(view), dtype=np.int64), 0, dict.fromkeys(view, None)
    for i, samples in enumerate(frames):
        ordered = sorted(samples, key=lambda sample: sample[1])
        projection.apply("one", places, frame(*((a, NOW + t, v) for a, t, v in ordered)), arrived_ms=NOW)
        if i < len(looks) and not looks[i]:
            continue
        changed = projection.changed(shown, told)
        told = projection.version
        assert set(changed.tolist()) <= view
        rows = projection.samples(projection.keys)
        seen |= {at: rows[at]["value"] for at in changed.tolist()}
        assert seen == {at: rows[at]["value"] for at in view}


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.integers(0, 2**52), st.integers(0, 6), st.booleans())))
def test_binary_frame_gives_back_what_was_put_in(rows: list[tuple[float, int, int, bool]]) -> None:
    """Browsers get every value with full precision, its time and its quality; stale is 255."""
    n = len(rows)
    data = encode_signals(
        np.arange(n, dtype=np.uint32)[::-1],
        epoch=0xFFFFFFFF,
        server_ms=NOW,
        value=np.array([row[0] for row in rows], dtype=np.float64),
        time_ms=np.array([row[1] for row in rows], dtype=np.int64),
        quality=np.array([row[2] for row in rows], dtype=np.uint8),
        is_stale=np.array([row[3] for row in rows], dtype=np.bool_),
    )
    assert len(data) == HEAD.size + SAMPLE_BYTES * n
    assert HEAD.unpack_from(data) == (MAGIC, 0xFFFFFFFF, n, 0, NOW)
    parts = struct.unpack_from(f"<{n}d{n}d{n}I{n}B", data, HEAD.size)
    back = rows[::-1]
    assert list(parts[:n]) == [row[0] for row in back]
    assert list(parts[n : 2 * n]) == [row[1] for row in back]
    assert list(parts[2 * n : 3 * n]) == list(range(n))[::-1]
    assert list(parts[3 * n :]) == [STALE if row[3] else row[2] for row in back]


def test_golden_frame() -> None:
    """The layout that browsers read is fixed byte by byte."""
    data = encode_signals(
        np.array([1], dtype=np.uint32),
        epoch=2,
        server_ms=3,
        value=np.array([0.0, 1.5]),
        time_ms=np.array([0, 4], dtype=np.int64),
        quality=np.array([0, 5], dtype=np.uint8),
        is_stale=np.array([False, False]),
    )
    assert data.hex() == (
        "57525331" "02000000" "01000000" "00000000" "0000000000000840"
        "000000000000f83f" "0000000000001040" "01000000" "05"
    )  # fmt: skip
