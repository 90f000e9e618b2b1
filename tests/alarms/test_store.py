"""Alarm rows and their journal: what transitions and operators' actions leave in SQL."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, update

from alarms.feed import Turn
from alarms.judged import Transition
from alarms.lifecycle import Step
from alarms.store import AlarmRows, broken_alarm_event, occurrence_id, write_transitions
from alarms.ticket_opening import TicketOrder
from tests.alarms.handmade import BOTH, REPAIR, SITE, change, rule
from watchroom.database.connect import reading, writing
from watchroom.database.tables import alarm, alarm_event
from watchroom.database.tables import change as change_table

ROW = rule()
LATCHING = rule("door.forced", "DR-S1", latching=True)


def write(database: Engine, *transitions: Transition) -> list[TicketOrder]:
    with writing(database) as connection:
        turn = Turn(connection, SITE, now_ms=5000)
        _, orders = write_transitions(turn, transitions, places={"WP-01": "PUMPS"})
        turn.finish()
    return orders


def act(database: Engine, kind: Step, *, row: str = ROW.key, user: str = "li", at_ms: int = 6000) -> str | None:
    with writing(database) as connection:
        turn = Turn(connection, SITE, now_ms=at_ms)
        rows = AlarmRows(turn, [row])
        current = rows.live(row)
        assert current is not None
        code = rows.act(current, kind, user=user, comment="seen", at_ms=at_ms)
        rows.write()
        turn.finish()
    return code


def alarms(database: Engine) -> list[dict[str, Any]]:
    with reading(database) as connection:
        query = select(alarm).order_by(alarm.c.raised_ms)
        return [dict(row) for row in connection.execute(query).mappings()]


def events(database: Engine) -> list[tuple[str, bool, str]]:
    with reading(database) as connection:
        query = select(alarm_event.c.kind, alarm_event.c.is_accepted, alarm_event.c.state).order_by(alarm_event.c.seq)
        return [(row.kind, row.is_accepted, row.state) for row in connection.execute(query)]


def test_a_raise_makes_a_live_unacknowledged_alarm(database: Engine) -> None:
    """The pressure is too low: an alarm is there with value, limit, times, texts in both languages, and its journal."""
    orders = write(database, change(ROW, event_ms=1000, value=0.31))
    (row,) = alarms(database)
    assert row["id"] == occurrence_id(ROW, 1000)
    assert (row["state"], row["is_active"], row["is_live"]) == ("UNACK", True, True)
    assert (row["raised_ms"], row["arrived_ms"], row["value"], row["limit"]) == (1000, 1020, 0.31, 0.35)
    assert row["title"] == {"zh": "出口压力偏低", "en": "Outlet pressure low"}
    assert events(database) == [("RAISE", True, "UNACK")]
    assert [(order.type, order.fault, order.place) for order in orders] == [("repair", ROW.fault, "PUMPS")]


def test_clear_then_acknowledge_ends_the_alarm(database: Engine) -> None:
    """An alarm that went away by itself waits until somebody has seen it."""
    write(database, change(ROW), change(ROW, "CLEAR", 2000))
    assert alarms(database)[0]["state"] == "RTNUN"
    assert act(database, Step.ACK, at_ms=6000) is None
    (row,) = alarms(database)
    assert (row["state"], row["is_live"], row["is_active"], row["cleared_ms"]) == ("NORM", False, False, 2000)
    assert (row["acked_ms"], row["acked_by"]) == (6000, "li")


def test_acknowledge_then_clear_ends_the_alarm(database: Engine) -> None:
    """An alarm that somebody has seen ends when its condition is gone."""
    write(database, change(ROW))
    assert act(database, Step.ACK) is None
    write(database, change(ROW, "CLEAR", 7000))
    assert (alarms(database)[0]["state"], alarms(database)[0]["is_live"]) == ("NORM", False)
    assert [kind for kind, _, _ in events(database)] == ["RAISE", "ACK", "CLEAR"]


def test_a_latching_alarm_needs_acknowledge_and_reset(database: Engine) -> None:
    """A forced door stays on the screen until a person has acknowledged and reset it."""
    write(database, change(LATCHING), change(LATCHING, "CLEAR", 2000))
    assert alarms(database)[0]["state"] == "LUNACK"
    assert act(database, Step.RESET, row=LATCHING.key) == "alarm.not_acked"
    assert act(database, Step.ACK, row=LATCHING.key) is None
    assert act(database, Step.RESET, row=LATCHING.key) is None
    assert alarms(database)[0]["state"] == "NORM"
    assert ("RESET", False, "LUNACK") in events(database)


def test_the_same_transition_twice_is_one_alarm(database: Engine) -> None:
    """A replay after a crash raises no second alarm and opens no second ticket."""
    write(database, change(ROW))
    assert write(database, change(ROW)) == []
    assert len(alarms(database)) == 1
    assert len(events(database)) == 1


def test_a_raise_of_an_active_row_is_refused_and_noted(database: Engine) -> None:
    """The evaluator repeats itself: the alarm stays one, the journal shows the refused repetition."""
    write(database, change(ROW))
    assert write(database, change(ROW, event_ms=1500)) == []
    assert len(alarms(database)) == 1
    assert events(database)[-1] == ("RAISE", False, "UNACK")


def test_coming_back_is_a_new_occurrence(database: Engine) -> None:
    """It went away unseen and came back: a new alarm; the old one leaves the screen unacknowledged and says why."""
    write(database, change(ROW, event_ms=1000), change(ROW, "CLEAR", 2000), change(ROW, event_ms=3000))
    old, new = alarms(database)
    assert (old["state"], old["is_live"], old["acked_ms"]) == ("NORM", False, None)
    assert (new["state"], new["is_live"], new["raised_ms"]) == ("UNACK", True, 3000)
    assert [kind for kind, _, _ in events(database)] == ["RAISE", "CLEAR", "SUPERSEDE", "RAISE"]


def test_level_up_asks_again_for_attention(database: Engine) -> None:
    """Low becomes very low: same alarm, more urgent, unacknowledged again, tickets asked again."""
    row = rule(priorities={"L": 3, "LL": 2, "": 3})
    write(database, change(row, level="L"))
    act(database, Step.ACK, row=row.key)
    orders = write(database, change(row, "ESCALATE", 7000, level="LL", value=0.1))
    (now,) = alarms(database)
    assert (now["level"], now["priority"], now["state"], now["acked_ms"], now["value"]) == ("LL", 2, "UNACK", None, 0.1)
    assert [order.priority for order in orders] == [2]


def test_level_down_is_quiet(database: Engine) -> None:
    """Very low becomes low: the acknowledged alarm stays acknowledged and asks for nothing."""
    row = rule(priorities={"L": 3, "LL": 2, "": 3})
    write(database, change(row, level="LL"))
    act(database, Step.ACK, row=row.key)
    assert write(database, change(row, "EASE", 7000, level="L")) == []
    (now,) = alarms(database)
    assert (now["level"], now["priority"], now["state"]) == ("L", 3, "ACKED")


def test_a_clear_older_than_the_alarm_does_not_clear_it(database: Engine) -> None:
    """Old data that comes late never moves the live state back."""
    write(database, change(ROW, event_ms=5000))
    write(database, change(ROW, "CLEAR", 4000))
    write(database, change(ROW, "CLEAR", 6000, is_late=True))
    assert alarms(database)[0]["state"] == "UNACK"
    assert events(database)[1:] == [("CLEAR", False, "UNACK")] * 2


def test_a_clear_without_alarm_is_nothing(database: Engine) -> None:
    """A condition that ends although no alarm stands leaves no trace."""
    write(database, change(ROW, "CLEAR", 1000), change(ROW, "EASE", 1000))
    assert (alarms(database), events(database)) == ([], [])


def test_a_value_that_is_not_a_number_is_none(database: Engine) -> None:
    """An alarm without a measured value says so on both servers, instead of NaN."""
    write(database, change(ROW, value=float("nan"), level=""))
    (row,) = alarms(database)
    assert (row["value"], row["limit"]) == (None, None)
    with reading(database) as connection:
        assert broken_alarm_event(connection, SITE) is None


def test_one_rule_may_ask_for_two_tickets(database: Engine) -> None:
    """A flood asks for a repair and for somebody who looks."""
    orders = write(database, change(rule(ticket=BOTH)))
    assert [order.type for order in orders] == ["repair", "patrol"]
    assert orders[0].allowed_ms == {"accept": 300_000}


def test_a_rule_without_ticket_policy_asks_for_none(database: Engine) -> None:
    """A diagnostic alarm opens no ticket."""
    assert write(database, change(rule(ticket=None))) == []
    assert REPAIR.type == "repair"


def test_every_change_is_in_the_feed_in_order(database: Engine) -> None:
    """Screens that follow the feed hear of each changed alarm exactly once a turn, with growing numbers."""
    other = rule(equipment="WP-02")
    write(database, change(ROW), change(other), change(ROW, "CLEAR", 2000))
    act(database, Step.ACK)
    with reading(database) as connection:
        rows = connection.execute(select(change_table.c.seq, change_table.c.ref).order_by(change_table.c.seq)).all()
    first, second = occurrence_id(ROW, 1000), occurrence_id(other, 1000)
    assert [seq for seq, _ in rows] == [1, 2, 3]
    assert {rows[0].ref, rows[1].ref} == {first, second}
    assert rows[2].ref == first


@pytest.mark.parametrize("column", ["user", "state", "event_ms", "is_accepted", "reason"])
def test_a_forged_journal_is_detected(database: Engine, column: str) -> None:
    """Somebody changes who acknowledged, when or what: the check finds the event."""
    write(database, change(ROW), change(ROW, "CLEAR", 2000))
    act(database, Step.ACK)
    with reading(database) as connection:
        assert broken_alarm_event(connection, SITE) is None
        seqs = connection.execute(select(alarm_event.c.seq).order_by(alarm_event.c.seq)).scalars().all()
    value: Any = {"event_ms": 1, "is_accepted": False}.get(column, "x")
    with writing(database) as connection:
        connection.execute(update(alarm_event).where(alarm_event.c.seq == seqs[1]).values({column: value}))
    with reading(database) as connection:
        assert broken_alarm_event(connection, SITE) == seqs[1]


def test_a_cut_journal_is_detected(database: Engine) -> None:
    """Somebody deletes the newest event: the check tells that the tail is missing."""
    write(database, change(ROW), change(ROW, "CLEAR", 2000))
    with writing(database) as connection:
        last = connection.execute(select(alarm_event.c.seq).order_by(alarm_event.c.seq.desc()).limit(1)).scalar_one()
        connection.execute(delete(alarm_event).where(alarm_event.c.seq == last))
    with reading(database) as connection:
        assert broken_alarm_event(connection, SITE) == -1
