"""How samples look in VictoriaMetrics, and which position counts as kept: pure."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.settling import FIGURES_AGE_S, SETTLE_S, Settling
from ingest.victoria_lines import BAD, DOUBT, RAW, VALUE, decode_export, encode, mark_line, over, selector
from ingest.victoria_link import retention_ms
from tests.ingest.store_contract import KEYS, Row, batch_of

HEAD = "watchroom,site=spruce-court,equipment=WP-01,signal=outlet_pressure "


def lines_of(rows: list[Row], *, site: str = "spruce-court", most: int = 100) -> list[str]:
    """Return the lines of a batch."""
    return [line for part in encode(batch_of(rows), site, most=most) for line in part.body.decode().splitlines()]


@pytest.mark.parametrize(
    ("value", "quality", "fields"),
    [
        (0.6, 0, "value=0.6"),
        (1.0, 4, "value=1.0,doubt=4"),
        (72.5, 2, "raw=72.5,bad=2"),
        (math.nan, 1, "bad=1"),
        (math.nan, 0, "bad=0"),
        (math.inf, 0, "bad=0"),
        (-math.inf, 3, "bad=3"),
    ],
)
def test_only_finite_numbers_are_written(value: float, quality: int, fields: str) -> None:
    """A text would become 0 and a wrong line vanish, so nothing but finite numbers goes out; bad ones stand apart."""
    assert lines_of([(0, 1_763_800_000_000, value, quality)]) == [f"{HEAD}{fields} 1763800000000"]


def test_names_with_spaces_commas_and_equals_stay_one_tag() -> None:
    """A site or signal may be named as it likes; the line protocol's marks are escaped."""
    assert lines_of([(0, 5, 1.0, 0)], site="a b,c=d\\e")[0].startswith(
        "watchroom,site=a\\ b\\,c\\=d\\\\e,equipment=WP-01"
    )
    assert mark_line("x1", "a b", time_ms=7) == b"watchroom,site=a\\ b,id=x1 store=1 7"


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(1, 10**6),
            st.one_of(st.floats(allow_nan=True, allow_infinity=False), st.just(math.nan)),
            st.integers(0, 6),
        ),
        unique_by=lambda row: (row[0], row[1]),
        max_size=40,
    ),
    most=st.integers(1, 50),
)
def test_what_is_written_is_what_is_read(rows: list[Row], most: int) -> None:
    """Lines, stored as the server stores them and exported again, give back every sample; the points are counted."""
    stored: dict[tuple[str, str], list[tuple[int, float]]] = {}
    points = 0
    for part in encode(batch_of(rows), "s", most=most):
        points += part.points
        assert part.body.count(b"\n") < most
        for line in part.body.decode().splitlines():
            head, fields, time_ms = line.split(" ")
            tags = dict(tag.split("=") for tag in head.split(",")[1:])
            for name, number in (field.split("=") for field in fields.split(",")):
                key = f"{tags['equipment']}/{tags['signal']}"
                stored.setdefault((f"watchroom_{name}", key), []).append((int(time_ms), float(number)))
    assert points == sum(len(found) for found in stored.values())
    exported = [
        json.dumps({
            "metric": {"__name__": name, "equipment": key.split("/")[0], "signal": key.split("/")[1]},
            "timestamps": [item[0] for item in found],
            "values": [item[1] for item in found],
        }).encode()
        for (name, key), found in stored.items()
    ]  # fmt: skip
    columns = decode_export(exported)
    for index, key in enumerate(KEYS):
        mine = sorted(row for row in rows if row[0] == index)
        if not mine:
            assert key not in columns
            continue
        times, values, codes = columns[key]
        assert times.tolist() == [row[1] for row in mine]
        np.testing.assert_array_equal(values, [row[2] for row in mine])
        assert codes.tolist() == [row[3] for row in mine]


def test_a_sample_told_twice_counts_once_and_bad_wins() -> None:
    """Parts of an export overlap or contradict each other: one sample a millisecond stays, and doubt beats trust."""
    metric = {"equipment": "WP-01", "signal": "flow"}
    lines = [
        {"metric": metric | {"__name__": VALUE}, "timestamps": [1, 2, 3], "values": [1.0, 2.0, 3.0]},
        {"metric": metric | {"__name__": VALUE}, "timestamps": [3, 4], "values": [3.5, 4.0]},
        {"metric": metric | {"__name__": BAD}, "timestamps": [2], "values": [1]},
        {"metric": metric | {"__name__": RAW}, "timestamps": [2], "values": [9.0]},
        {"metric": metric | {"__name__": DOUBT}, "timestamps": [4], "values": [5]},
    ]
    time_ms, value, quality = decode_export([json.dumps(line).encode() for line in lines])["WP-01/flow"]
    assert time_ms.tolist() == [1, 2, 3, 4]
    assert value.tolist() == [1.0, 9.0, 3.5, 4.0]
    assert quality.tolist() == [0, 1, 0, 5]


def test_query_text_cannot_be_broken_out_of() -> None:
    """Quotes, backslashes and patterns in names stay text."""
    text = selector((VALUE,), 'a"b\\', equipment='E"', signals=("x.y", "z"))
    assert text == 'watchroom_value{site="a\\"b\\\\",equipment="E\\"",signal=~"x\\\\.y|z"}'
    assert over(("min", "count"), text, width_ms=500).endswith("[500ms] offset -172800000ms)")
    assert selector((VALUE, BAD), "s") == '{__name__=~"watchroom_value|watchroom_bad",site="s"}'


@pytest.mark.parametrize(
    ("text", "days"), [("1", 31), ("12", 372), ("100y", 36_500), ("30d", 30), ("2w", 14), ("36h", 1.5), ("soon", 0)]
)
def test_retention_is_read_as_the_server_reads_it(text: str, days: float) -> None:
    """Without a unit the number means months of 31 days; what is not understood counts as unknown."""
    assert retention_ms(text) == days * 86_400_000


def test_a_position_counts_when_it_is_counted_and_old_enough() -> None:
    """Both must be true: the server's counter has grown by it, and a kill can no longer take it."""
    settling = Settling(5)
    settling.add(10, position=8, now_s=100.0)
    assert settling.count(10, now_s=100.0 + SETTLE_S - 0.1) == 0
    assert settling.position == 5
    assert settling.count(10, now_s=100.0 + SETTLE_S) == 0
    assert settling.position == 8


def test_missing_numbers_are_told_once_the_figures_are_fresh() -> None:
    """The server's counter is a second old: a shortfall counts only for what was sent before that."""
    settling = Settling(0)
    settling.add(10, position=1, now_s=100.0)
    settling.add(10, position=2, now_s=102.0)
    assert settling.count(4, now_s=100.0 + FIGURES_AGE_S - 0.1) == 0
    assert settling.count(4, now_s=100.0 + FIGURES_AGE_S) == 6
    assert settling.count(20, now_s=200.0) == 0
    assert settling.position == 2


def test_after_a_rewind_everything_is_counted_anew() -> None:
    """What was on its way is forgotten, and samples that came without a position move none."""
    settling = Settling(3)
    settling.add(10, position=9, now_s=0.0)
    settling.rewind(0)
    assert (settling.position, settling.sent) == (0, 0)
    settling.add(2, position=None, now_s=1.0)
    settling.add(1, position=4, now_s=2.0)
    settling.add(7, position=None, now_s=3.0)
    assert settling.count(10, now_s=100.0) == 0
    assert settling.position == 4


@given(
    steps=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 30), st.floats(0, 20)), max_size=30),
    settle_s=st.floats(0, 40),
)
def test_the_kept_position_never_passes_what_was_counted(steps: list[tuple[int, int, float]], settle_s: float) -> None:
    """Whatever is sent and counted when: the kept position is that of a batch counted in full, and old enough."""
    settling = Settling(0, settle_s=settle_s)
    now, total, counted = 0.0, 0, 0
    sent: list[tuple[float, int, int]] = [(float("-inf"), 0, 0)]
    for number, (points, seen, wait) in enumerate(steps, start=1):
        total += points
        settling.add(points, position=number, now_s=now)
        sent.append((now, number, total))
        now += wait
        counted = min(total, counted + seen)
        missing = settling.count(counted, now_s=now)
        assert missing >= 0
        at_s, _, needed = next(item for item in sent if item[1] == settling.position)
        assert needed <= counted
        assert at_s <= now - settle_s
