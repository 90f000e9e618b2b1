"""The access log: every event once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select

from alarms.accesses import write_events
from alarms.feed import Turn
from alarms.judged import JudgedEvent
from tests.alarms.handmade import SITE, swipe
from watchroom.database.connect import reading, writing
from watchroom.database.tables import access_event, change


def write(database: Engine, *events: JudgedEvent) -> int:
    with writing(database) as connection:
        turn = Turn(connection, SITE, now_ms=1)
        count = write_events(turn, events)
        turn.finish()
    return count


def rows(database: Engine) -> list[dict[str, Any]]:
    with reading(database) as connection:
        query = select(access_event).order_by(access_event.c.seq)
        return [dict(row) for row in connection.execute(query).mappings()]


def test_a_swipe_is_logged_with_its_fields(database: Engine) -> None:
    """Who, how, where to and with which result stand in columns; the rest stays with the event."""
    assert write(database, swipe(score=0.93)) == 1
    (row,) = rows(database)
    assert (row["method"], row["person"], row["result"], row["direction"]) == ("card", "k:1", "granted", "in")
    assert (row["gateway"], row["equipment"], row["time_ms"], row["seen_ms"]) == ("gate-south", "DR-S1", 1000, 1010)
    assert row["fields"] == {"score": 0.93}


def test_the_same_event_again_is_no_second_swipe(database: Engine) -> None:
    """A reader that sends its record again after a lost answer opens no second line in the log."""
    write(database, swipe("e1"), swipe("e1"))
    assert write(database, swipe("e1"), swipe("e2")) == 1
    assert [row["event_id"] for row in rows(database)] == ["e1", "e2"]


def test_the_feed_tells_of_access_in_order(database: Engine) -> None:
    """Screens hear of each swipe by its place in the log; panel messages are kept but are no access."""
    write(database, swipe("e1"), swipe("p1", kind="panel_text"), swipe("e2"))
    with reading(database) as connection:
        refs = list(connection.execute(select(change.c.ref).order_by(change.c.seq)).scalars())
    found = {row["event_id"]: str(row["seq"]) for row in rows(database)}
    assert refs == [found["e1"], found["e2"]]


def test_a_field_that_is_too_long_does_not_stop_the_log(database: Engine) -> None:
    """A reader that sends nonsense is cut, not refused: the alarms of the same frame must be written."""
    write(database, swipe(method="x" * 500, card=12345678, person=None))
    (row,) = rows(database)
    assert (row["method"], row["card"], row["person"]) == ("x" * 16, "12345678", None)


def test_many_at_once_keep_their_order(database: Engine) -> None:
    """A backlog of hundreds of swipes is logged in the order of the journal."""
    names = [f"e{index}" for index in range(1200)]
    assert write(database, *[swipe(name) for name in names]) == 1200
    assert [row["event_id"] for row in rows(database)] == names


def test_ids_of_any_length_fit_the_table(database: Engine) -> None:
    """A device chooses the id's length; a long one is kept apart from another with the same beginning, once each."""
    long = "x" * 500
    assert write(database, swipe(long + "1"), swipe(long + "2"), swipe(long + "1")) == 2
    assert write(database, swipe(long + "2")) == 0
    assert all(len(row["event_id"]) <= 160 for row in rows(database))
