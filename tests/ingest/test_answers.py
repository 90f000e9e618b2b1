"""When acknowledgements go out, and when gaps are asked for; the time is an argument."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.answers import ACK_EVERY_S, HALF_WINDOW, WANT_AFTER_S, WANT_MOST_S, AckPacer, GapWatch
from watchroom.intervals import IntervalSet


def test_the_first_frame_after_a_pause_is_acknowledged_at_once() -> None:
    """A lonely alarm is acknowledged without any waiting."""
    pacer = AckPacer()
    pacer.note("gw", 7, 1)
    assert pacer.due(100.0) == [("gw", 7)]
    pacer.sent("gw", 100.0)
    assert pacer.due(100.0) == []
    pacer.note("gw", 7, 1)
    assert pacer.due(100.0 + ACK_EVERY_S) == [("gw", 7)]


def test_a_stream_is_acknowledged_five_times_a_second() -> None:
    """Acknowledgements do not cost more than the frames: at most five a second for each gateway."""
    pacer, sent = AckPacer(), 0
    for step in range(1000):  # ten seconds of a frame every 10 ms
        now_s = step / 100
        pacer.note("gw", 7, 1)
        for gateway, _ in pacer.due(now_s):
            pacer.sent(gateway, now_s)
            sent += 1
    assert 45 <= sent <= 51


def test_half_a_window_is_acknowledged_at_once() -> None:
    """A gateway that drains its backlog is never held up by the pacing."""
    pacer = AckPacer()
    pacer.sent("gw", 100.0)
    pacer.note("gw", 7, HALF_WINDOW - 1)
    assert pacer.due(100.0) == []
    pacer.note("gw", 7, 1)
    assert pacer.due(100.0) == [("gw", 7)]


def test_the_next_time_is_known() -> None:
    """The committer sleeps exactly until something is due."""
    pacer = AckPacer()
    assert pacer.next_s() == float("inf")
    pacer.sent("gw", 100.0)
    pacer.note("gw", 7, 1)
    assert pacer.next_s() == 100.0 + ACK_EVERY_S
    pacer.note("other", 7, 1)
    assert pacer.next_s() == float("-inf")


def test_what_could_not_be_sent_is_due_again_soon_and_not_at_once() -> None:
    """Without a broker the committer neither forgets an acknowledgement nor spins."""
    pacer = AckPacer()
    pacer.note("gw", 7, HALF_WINDOW)
    pacer.postpone("gw", 100.0)
    assert pacer.due(100.0) == []
    assert pacer.due(100.0 + ACK_EVERY_S) == [("gw", 7)]


def test_a_new_outbox_is_acknowledged_instead_of_the_old_one() -> None:
    """The retained acknowledgement speaks of the outbox that is in use."""
    pacer = AckPacer()
    pacer.note("gw", 7, 1)
    pacer.note("gw", 8, 1)
    assert pacer.due(0.0) == [("gw", 8)]


@given(noted=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40), st.floats(0, 0.3)), max_size=60))
def test_everything_noted_is_acknowledged_within_the_pace(noted: list[tuple[str, int, float]]) -> None:
    """No frame waits longer than the pace for its acknowledgement."""
    pacer, now_s = AckPacer(), 0.0
    open_since: dict[str, float] = {}
    for gateway, frames, pause in noted:
        now_s += pause
        pacer.note(gateway, 7, frames)
        open_since.setdefault(gateway, now_s)
        for due, _ in pacer.due(now_s):
            pacer.sent(due, now_s)
            open_since.pop(due)
        assert pacer.next_s() <= min(open_since.values(), default=float("inf")) + ACK_EVERY_S


def test_a_young_gap_is_nobodys_fault() -> None:
    """Live frames pass the backlog: a gap that fills by itself is not asked for."""
    watch = GapWatch()
    assert watch.wanted("gw", 7, IntervalSet([(5, 9)]), 0.0) == []
    assert watch.wanted("gw", 7, IntervalSet([(5, 9)]), WANT_AFTER_S - 1) == []
    assert watch.wanted("gw", 7, IntervalSet([(1, 2), (5, 9)]), WANT_AFTER_S + 1) == []
    assert watch.wanted("gw", 7, IntervalSet([(1, 9)]), WANT_AFTER_S * 9) == []
    assert watch.wanted("gw", 7, IntervalSet([(1, 9), (11, 11)]), WANT_AFTER_S * 10) == []


def test_a_gap_that_stays_is_asked_for_ever_more_rarely() -> None:
    """A gateway that cannot answer is not flooded with questions."""
    watch, received = GapWatch(), IntervalSet([(1, 2), (5, 9), (20, 20)])
    asked = [second for second in range(2000) if watch.wanted("gw", 7, received, float(second))]
    pauses = [after - before for before, after in zip([0, *asked], asked, strict=False)]
    assert pauses[:5] == [15, 30, 60, 120, 240]
    assert set(pauses[5:]) == {int(WANT_MOST_S)}
    watch = GapWatch()
    watch.wanted("gw", 7, received, 0.0)
    assert watch.wanted("gw", 7, received, 15.0) == [[3, 4], [10, 19]]
