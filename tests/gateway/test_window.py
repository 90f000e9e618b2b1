"""The sending half of the acknowledgement protocol in virtual time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.window import URGENT_ROOM, Ready, Window, WindowLimits
from watchroom.signals import Lane

U, D = Lane.URGENT, Lane.TELEMETRY


class Held:
    """A shelf without a disk: seq -> lane."""

    def __init__(self) -> None:
        self.frames: dict[int, Lane] = {}

    def put(self, lane: Lane, *seqs: int) -> None:
        self.frames |= dict.fromkeys(seqs, lane)

    def acknowledge(self, *seqs: int) -> None:
        for seq in seqs:
            self.frames.pop(seq, None)

    def after(self, lane: int, seq: int) -> int | None:
        return min((other for other, of in self.frames.items() if of == lane and other > seq), default=None)

    def lane_of(self, seq: int) -> int | None:
        return self.frames.get(seq)


def window(shelf: Held, *, is_up: bool = True, **limits: int) -> Window:
    result = Window(shelf, now_ms=0, limits=WindowLimits(**limits))
    if is_up:
        assert result.up(0) is False
    return result


def taken(sender: Window, now_ms: int) -> list[tuple[int, str]]:
    rows: list[tuple[int, str]] = []
    while (ready := sender.take(now_ms)) is not None:
        rows.append((ready.seq, ready.leaf))
    return rows


def heard(shelf: Held) -> Window:
    """Return a window whose centre has acknowledged a first frame, with everything else sent at 0."""
    shelf.put(U, 9999)
    sender = window(shelf)
    taken(sender, 0)
    shelf.acknowledge(9999)
    sender.acknowledge(0)
    return sender


def test_urgent_first() -> None:
    """An alarm overtakes the telemetry that waits beside it."""
    shelf = Held()
    shelf.put(D, 1, 2)
    shelf.put(U, 3)
    assert taken(window(shelf), 0) == [(3, "u"), (1, "d"), (2, "d")]


def test_nothing_without_a_link() -> None:
    """Without a broker nothing is taken from the outbox, and nothing counts as sent."""
    shelf = Held()
    shelf.put(U, 1)
    sender = window(shelf, is_up=False)
    assert taken(sender, 0) == []
    assert sender.outstanding == 0


def test_window_counts_frames() -> None:
    """64 frames may be under way, counted as frames and not as distance; the last places are the alarms'."""
    shelf = Held()
    shelf.put(D, *range(1, 2000, 10))
    sender = window(shelf)
    assert len(taken(sender, 0)) == 64 - URGENT_ROOM
    shelf.put(U, *range(5000, 5020))
    assert taken(sender, 0) == [(seq, "u") for seq in range(5000, 5000 + URGENT_ROOM)]
    shelf.acknowledge(11, 31)
    assert sender.acknowledge(100) is False
    assert taken(sender, 100) == [(5008, "u"), (5009, "u")]
    assert sender.outstanding == 64


def test_resend_without_progress() -> None:
    """Frames without any acknowledgement for 10 s are sent again, then after 20, 40, 60 and 60 s."""
    shelf = Held()
    shelf.put(D, 1, 2)
    sender = heard(shelf)
    moments = [now for now in range(0, 240_000, 500) if taken(sender, now)]
    assert moments == [10_000, 30_000, 70_000, 130_000, 190_000]


def test_a_centre_that_listens_late_is_not_waited_for() -> None:
    """A gateway that connected before the centre has subscribed repeats after 1 s, then after 2, 4, 8 ... seconds."""
    shelf = Held()
    shelf.put(D, 1, 2)
    sender = window(shelf)
    taken(sender, 0)
    moments = [now for now in range(0, 20_000, 500) if taken(sender, now)]
    assert moments == [1000, 3000, 7000, 15_000]


def test_progress_resets_the_patience() -> None:
    """Each acknowledgement begins the 10 s anew and ends the doubling."""
    shelf = Held()
    shelf.put(D, 1, 2, 3)
    sender = heard(shelf)
    assert taken(sender, 10_000) == [(1, "d"), (2, "d"), (3, "d")]
    shelf.acknowledge(2)
    sender.acknowledge(15_000)
    assert taken(sender, 24_999) == []
    assert taken(sender, 25_000) == [(1, "d"), (3, "d")]


def test_what_was_overtaken_is_lost_and_repeated_at_once() -> None:
    """Frames sent before the centre had subscribed do not fill the window while later ones are acknowledged."""
    shelf = Held()
    shelf.put(D, *range(1, 56))
    sender = heard(shelf)
    shelf.put(U, 10_000)
    assert taken(sender, 900) == [(10_000, "u")]
    shelf.acknowledge(10_000)
    sender.acknowledge(950)
    assert taken(sender, 950) == [], "under way for less than a second: they may still come"
    shelf.put(U, 10_001)
    assert taken(sender, 1000) == [(10_001, "u")]
    shelf.acknowledge(10_001)
    sender.acknowledge(1050)
    assert taken(sender, 1050) == [(seq, "d") for seq in range(1, 56)]
    shelf.put(U, 10_002)
    assert taken(sender, 1060) == [(10_002, "u")]
    shelf.acknowledge(10_002)
    sender.acknowledge(1070)
    assert taken(sender, 1070) == [], "once a second at most"


def test_want_is_answered_at_once() -> None:
    """The centre gets what it asks for, but not what was sent within the last second anyway."""
    shelf = Held()
    shelf.put(D, 1, 2)
    sender = heard(shelf)
    sender.want([1, 7], now_ms=500)
    assert taken(sender, 500) == []
    sender.want([1], now_ms=1000)
    assert taken(sender, 1000) == [(1, "d")]


def test_short_outage_drains_oldest_first() -> None:
    """After an outage shorter than the stale limit everything goes out on the live topics, oldest first."""
    shelf = Held()
    shelf.put(D, 1, 2)
    sender = window(shelf)
    taken(sender, 0)
    sender.down(1000)
    shelf.put(D, 3)
    assert sender.up(59_000) is False
    assert taken(sender, 59_000) == [(1, "d"), (2, "d"), (3, "d")]


def test_long_outage_cuts() -> None:
    """After a longer outage a snapshot goes out first, and the old frames beside it as backlog."""
    shelf = Held()
    shelf.put(D, 1, 2)
    sender = window(shelf)
    taken(sender, 0)
    sender.down(1000)
    shelf.put(U, 3)
    assert sender.up(62_000) is True
    shelf.put(U, 4)
    shelf.put(D, 5)
    sender.cut(4, now_ms=62_000)
    assert taken(sender, 62_000) == [(4, "u"), (5, "d"), (3, "b"), (1, "b"), (2, "b")]


def test_idle_time_is_no_outage() -> None:
    """An hour in which nothing had to be sent does not count as an interruption."""
    shelf = Held()
    sender = window(shelf)
    sender.down(3_600_000)
    assert sender.up(3_601_000) is False


def test_centre_away_for_long_cuts() -> None:
    """When the broker stays but the centre is away for longer than the stale limit, its return cuts as well."""
    shelf = Held()
    shelf.put(D, *range(1, 101))
    sender = window(shelf)
    assert len(taken(sender, 0)) == 56
    shelf.acknowledge(*range(1, 56))
    assert sender.acknowledge(61_000) is True
    shelf.put(D, 101)
    sender.cut(101, now_ms=61_000)
    assert taken(sender, 61_000)[0] == (101, "d")


def test_backlog_has_its_rate_and_its_share() -> None:
    """A day of backlog does not take the window from the live frames: it has a rate and half of the places."""
    shelf = Held()
    shelf.put(D, *range(1, 1001))
    sender = window(shelf)
    sender.down(0)
    assert sender.up(61_000) is True
    sender.cut(1001, now_ms=61_000)
    sent = taken(sender, 61_000)
    assert sender.wake_ms(61_000) == 5
    for now in range(61_000, 62_000, 10):
        sent += taken(sender, now)
        shelf.acknowledge(*(seq for seq, _ in sent))
        sender.acknowledge(now)
    assert 190 <= len(sent) <= 230
    assert {leaf for _, leaf in sent} == {"b"}
    shelf.put(D, *range(1001, 1101))
    for now in range(62_000, 63_000, 10):
        taken(sender, now)
    assert sender.outstanding == 64 - URGENT_ROOM


def test_second_outage_during_the_backlog() -> None:
    """Backlog that was not yet delivered when the link failed again is still backlog afterwards."""
    shelf = Held()
    shelf.put(D, 1, 2, 3)
    sender = window(shelf, backlog_per_s=1000)
    sender.down(0)
    assert sender.up(61_000) is True
    shelf.put(D, 4)
    sender.cut(4, now_ms=61_000)
    assert taken(sender, 61_000)[0] == (4, "d")
    sender.down(61_100)
    assert sender.up(61_200) is False
    assert taken(sender, 61_300) == [(4, "d"), (1, "b"), (2, "b"), (3, "b")]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([U, D])),
        st.tuples(st.just("time"), st.integers(1, 70_000)),
        st.tuples(st.just("ack"), st.integers(0, 2**16)),
        st.tuples(st.just("want"), st.integers(1, 60)),
        st.tuples(st.just("link"), st.booleans()),
    ),
    max_size=80,
)


@given(STEPS)
def test_everything_is_delivered(steps: list[tuple[str, int]]) -> None:
    """However the link and the centre behave, the window is never exceeded and in the end everything arrived."""
    shelf = Held()
    sender = window(shelf, size=12, backlog_size=4)
    now, next_seq, boundary = 0, 1, 1
    arrived: set[int] = set()

    def send() -> None:
        while (ready := sender.take(now)) is not None:
            assert ready == Ready(seq=ready.seq, leaf="b" if ready.seq < boundary else "ud"[shelf.frames[ready.seq]])
            arrived.add(ready.seq)
        assert sender.outstanding <= 12

    def cut_if(is_due: bool) -> None:
        nonlocal boundary
        if is_due:
            boundary = next_seq
            sender.cut(boundary, now_ms=now)

    for name, value in steps:
        if name == "put":
            shelf.put(Lane(value), next_seq)
            next_seq += 1
        elif name == "time":
            now += value
        elif name == "ack":
            shelf.acknowledge(*(seq for i, seq in enumerate(sorted(arrived)) if value >> (i % 16) & 1))
            cut_if(sender.acknowledge(now))
        elif name == "want":
            sender.want([seq for seq in range(value, value + 5) if seq < next_seq], now_ms=now)
        elif value:
            cut_if(not sender.is_up and sender.up(now))
        else:
            sender.down(now)
        send()
    if not sender.is_up:
        cut_if(sender.up(now))
    for _ in range(400):
        send()
        shelf.acknowledge(*arrived)
        cut_if(sender.acknowledge(now))
        now += sender.wake_ms(now) if shelf.frames else 1
    assert shelf.frames == {}
    assert arrived == set(range(1, next_seq))
