"""Performance measures, on periods whose floods and bad actors are known beforehand."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alarms.flood import WINDOW_MS, Flood
from alarms.measures import DAY_MS, HOUR_MS, Activation, chattering, floods, measure, standing, titled

MINUTE = 60_000
START = 1_760_000_000_000


def at(ms: int, row: str = "r", priority: int = 3, **more: int) -> Activation:
    return Activation(row=row, priority=priority, raised_ms=START + ms, **more)


def over(items: list[Activation], span_ms: int = DAY_MS) -> dict[str, object]:
    return measure(items, start_ms=START, end_ms=START + span_ms)


def test_a_quiet_day() -> None:
    """Nothing happened: every measure is there and zero, none is a division by zero."""
    quiet = over([])
    assert (quiet["alarms"], quiet["per_hour"], quiet["per_day"], quiet["flood_share"]) == (0, 0.0, 0.0, 0.0)
    assert quiet["peak_10_min"] == {"alarms": 0, "end_ms": None}
    assert (quiet["floods"], quiet["chattering"], quiet["bad_actors"]) == ([], [], [])
    assert quiet["acknowledged"]["1"] == {"alarms": 0, "p50_s": None, "p95_s": None}  # type: ignore[index]


def test_a_month_with_known_floods() -> None:
    """A synthetic month: one alarm each two hours, and two floods of 30 and 60 alarms where we put them."""
    steady = [at(hour * HOUR_MS, row=f"r{hour % 50}") for hour in range(0, 720, 2)]
    first = [at(100 * HOUR_MS + 7 * MINUTE + n * 10_000, row="pump") for n in range(30)]
    second = [at(500 * HOUR_MS + 31 * MINUTE + n * 5_000, row=f"x{n}") for n in range(60)]
    month = over([*second, *steady, *first], span_ms=30 * DAY_MS)
    found = month["floods"]
    assert isinstance(found, list)
    assert [(item["alarms"], item["peak"]) for item in found] == [(31, 30), (60, 60)]
    assert found[0]["start_ms"] == START + 100 * HOUR_MS + 7 * MINUTE + 9 * 10_000
    # the 27th of 30 is the last but three: with its leaving fewer than five remain
    assert found[0]["end_ms"] == START + 100 * HOUR_MS + 7 * MINUTE + 25 * 10_000 + WINDOW_MS
    assert month["alarms"] == 360 + 90
    assert month["per_day"] == 15.0
    assert month["peak_10_min"] == {"alarms": 60, "end_ms": second[-1].raised_ms}
    assert month["bad_actors"][0] == {"row": "pump", "alarms": 30, "share": round(30 / 450, 4)}  # type: ignore[index]
    assert len(month["bad_actors"]) == 10  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, HOUR_MS // 1000), max_size=120))
def test_floods_are_those_that_the_console_shows(seconds: list[int]) -> None:
    """The measure over stored alarms finds the floods that the live detector announced, alarm by alarm."""
    times = np.array(sorted(second * 1000 for second in seconds), np.int64)
    live = Flood()
    begins: list[int] = []
    for now in range(0, 2 * HOUR_MS, 1000):
        for _ in range(int((times == now).sum())):
            live.note(now)
        before = begins[-1] if begins else None
        if live.look(now) and live.since_ms != before:
            assert live.since_ms is not None
            begins.append(live.since_ms)
    assert [item["start_ms"] for item in floods(times, end_ms=2 * HOUR_MS)] == begins


def test_chattering_is_three_in_a_minute() -> None:
    """Three within 60 s chatter, three within 61 s do not; another row's alarms do not count."""
    fast = [at(0, "a"), at(30_000, "a"), at(60_000, "a")]
    slow = [at(0, "b"), at(30_000, "b"), at(61_000, "b"), at(100, "c")]
    assert chattering([*slow, *fast]) == [{"row": "a", "bursts": 1, "alarms": 3}]


def test_fleeting_alarms_go_by_themselves() -> None:
    """Gone within 5 s before anybody acted; one that somebody acknowledged in time is none."""
    items = [
        at(0, cleared_ms=START + 4_999),
        at(0, cleared_ms=START + 5_000),
        at(0, cleared_ms=START + 3_000, acked_ms=START + 2_000),
        at(0, cleared_ms=START + 3_000, acked_ms=START + 9_000),
        at(0),
    ]
    assert over(items)["fleeting"] == 2


def test_standing_alarms_are_a_day_old() -> None:
    """Active for more than 24 h, the oldest first."""
    items = [at(0, "young"), at(-1, "old"), at(-5, "older"), at(-9, "gone", cleared_ms=START)]
    assert [item.row for item in standing(items, now_ms=START + DAY_MS)] == ["older", "old"]


def test_times_to_acknowledge_by_priority() -> None:
    """Median and 95th percentile of each priority, and how many nobody ever acknowledged."""
    items = [at(n, priority=1, acked_ms=START + n + 1000 * (n + 1)) for n in range(100)]
    told = over([*items, at(0, priority=2)])
    assert told["acknowledged"]["1"] == {"alarms": 100, "p50_s": 50.5, "p95_s": 95.0}  # type: ignore[index]
    assert told["never_acknowledged"] == 1
    assert told["priorities"]["1"] == {"alarms": 100, "share": round(100 / 101, 4)}  # type: ignore[index]


def test_share_of_time_above_the_target() -> None:
    """One alarm in ten minutes is manageable, two are not."""
    items = [at(0), at(1), at(WINDOW_MS), at(2 * WINDOW_MS), at(2 * WINDOW_MS + 5)]
    assert over(items, span_ms=4 * WINDOW_MS)["above_target_share"] == 0.5


def test_peaks_slide() -> None:
    """The busiest ten minutes do not begin at a full ten minutes."""
    items = [at(9 * MINUTE), at(10 * MINUTE), at(11 * MINUTE), at(30 * MINUTE)]
    assert over(items)["peak_10_min"] == {"alarms": 3, "end_ms": START + 11 * MINUTE}
    assert over(items)["peak_hour"] == {"alarms": 4, "end_ms": START + 30 * MINUTE}


def test_rows_are_told_in_words() -> None:
    """People read equipment and title, not keys; a row that is gone stays a key."""
    told = titled(over([at(0, "a"), at(1, "b")]), {"a": {"equipment": "WP-01", "title": {"zh": "低", "en": "low"}}})
    assert told["bad_actors"][0]["equipment"] == "WP-01"
    assert set(told["bad_actors"][1]) == {"row", "alarms", "share"}
