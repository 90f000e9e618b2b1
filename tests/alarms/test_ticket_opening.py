"""Tickets that alarms open: one for one fault, reopened within a day, a repeat within a month."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from alarms.feed import Turn
from alarms.judged import Transition
from alarms.store import write_transitions
from alarms.ticket_opening import message_text, open_tickets
from alarms.tickets import broken_ticket_event, step_ticket
from tests.alarms.handmade import BOTH, SITE, change, rule
from watchroom.database.connect import reading, writing
from watchroom.database.tables import message, ticket, ticket_alarm, ticket_event
from watchroom.site import Channel

DAY = 86_400_000
NOW = 1_763_800_000_000
ROW = rule()
CHANNELS = {
    "desk": Channel(url_env="DESK", lang="zh"),
    "boss": Channel(url_env="BOSS", ticket_types=["patrol", "repair"], priority=1, lang="en"),
}


def judge(
    database: Engine, *transitions: Transition, now_ms: int = NOW, channels: dict[str, Channel] | None = None
) -> None:
    with writing(database) as connection:
        turn = Turn(connection, SITE, now_ms=now_ms)
        _, orders = write_transitions(turn, transitions, places={"WP-01": "PUMPS"})
        names = {"WP-01": {"zh": "1号水泵", "en": "Pump 1"}}
        open_tickets(turn, orders, channels=channels or {}, names=names)
        turn.finish()


def come_and_go(database: Engine, event_ms: int, *, now_ms: int) -> None:
    judge(database, change(ROW, event_ms=event_ms), change(ROW, "CLEAR", event_ms + 500), now_ms=now_ms)


def finish(database: Engine, ticket_id: str, *, now_ms: int, steps: tuple[str, ...] = ()) -> None:
    for index, name in enumerate(steps or ("dispatch", "accept", "arrive", "done", "close")):
        user = "zhao" if name == "close" else "boss"
        with writing(database) as connection:
            step_ticket(
                connection, ticket_id, name, user=user, role="leader", now_ms=now_ms + index, fields={"reason": "ok"}
            )


def tickets(database: Engine) -> list[dict[str, Any]]:
    with reading(database) as connection:
        return [dict(row) for row in connection.execute(select(ticket).order_by(ticket.c.number)).mappings()]


def steps_of(database: Engine, ticket_id: str) -> list[str]:
    with reading(database) as connection:
        query = select(ticket_event.c.step).where(ticket_event.c.ticket_id == ticket_id).order_by(ticket_event.c.seq)
        return list(connection.execute(query).scalars())


def links(database: Engine) -> int:
    with reading(database) as connection:
        return connection.execute(select(func.count()).select_from(ticket_alarm)).scalar_one()


def test_an_open_ticket_takes_the_next_alarm_of_the_same_fault(database: Engine) -> None:
    """The pressure drops five times in an hour: one ticket with five alarms, not five tickets."""
    for index in range(5):
        come_and_go(database, 1000 + 1000 * index, now_ms=NOW + index)
    (row,) = tickets(database)
    assert links(database) == 5
    assert steps_of(database, row["id"]) == ["open", "attach", "attach", "attach", "attach"]


def test_five_at_once_are_one_ticket_too(database: Engine) -> None:
    """The same when they are all judged in one batch after an outage."""
    judge(database, change(ROW))
    moves: list[Transition] = []
    for index in range(5):
        moves += [change(ROW, "CLEAR", 2000 + 1000 * index), change(ROW, event_ms=2500 + 1000 * index)]
    judge(database, *moves)
    (row,) = tickets(database)
    assert links(database) == 6
    with reading(database) as connection:
        assert broken_ticket_event(connection, row["id"]) is None


def test_other_faults_and_equipment_get_their_own(database: Engine) -> None:
    """Another fault, another pump, another instance: another ticket."""
    judge(
        database,
        change(ROW),
        change(rule("motor.hot")),
        change(rule(equipment="WP-02")),
        change(rule(instance="2")),
    )
    assert [row["number"] for row in tickets(database)] == ["WX-1001", "WX-1002", "WX-1003", "WX-1004"]


def test_one_alarm_may_open_a_repair_and_a_patrol(database: Engine) -> None:
    """Somebody repairs and somebody looks: two tickets with their own prefixes."""
    judge(database, change(rule(ticket=BOTH)))
    assert [(row["number"], row["type"]) for row in tickets(database)] == [("WX-1001", "repair"), ("XC-1002", "patrol")]
    assert links(database) == 2


@pytest.mark.parametrize(
    ("later", "count", "state", "is_repeat"),
    [
        (DAY, 1, "DISPATCHED", False),
        (DAY + 1, 2, "NEW", True),
        (30 * DAY - 1, 2, "NEW", True),
        (30 * DAY + 1, 2, "NEW", False),
    ],
)
def test_the_same_fault_after_closing(database: Engine, later: int, count: int, state: str, *, is_repeat: bool) -> None:
    """Within 24 hours of closing it reopens, within 30 days it is a new ticket counted as repeat, later just new."""
    come_and_go(database, 1000, now_ms=NOW)
    finish(database, tickets(database)[0]["id"], now_ms=NOW)
    closed_ms = tickets(database)[0]["closed_ms"]
    come_and_go(database, 9000, now_ms=closed_ms + later)
    rows = tickets(database)
    assert len(rows) == count
    assert (rows[-1]["state"], rows[-1]["is_repeat"]) == (state, is_repeat)
    assert rows[-1]["reopened"] == (1 if count == 1 else 0)
    assert rows[-1]["closed_ms"] is None


def test_a_cancelled_ticket_is_not_reopened(database: Engine) -> None:
    """A false alarm that was cancelled, and comes back, is a new ticket and no repeat failure."""
    come_and_go(database, 1000, now_ms=NOW)
    finish(database, tickets(database)[0]["id"], now_ms=NOW, steps=("cancel",))
    come_and_go(database, 9000, now_ms=NOW + 1000)
    assert [(row["state"], row["is_repeat"]) for row in tickets(database)] == [("CANCELLED", False), ("NEW", False)]


def test_a_more_urgent_alarm_makes_the_ticket_more_urgent(database: Engine) -> None:
    """Low becomes very low: the open ticket rises to the higher priority, and says so once."""
    row = rule(priorities={"L": 3, "LL": 1, "": 3})
    judge(database, change(row, level="L"))
    judge(database, change(row, "ESCALATE", 2000, level="LL"))
    (found,) = tickets(database)
    assert found["priority"] == 1
    assert steps_of(database, found["id"]) == ["open", "priority"]
    assert links(database) == 1


def test_raise_and_escalate_in_one_batch(database: Engine) -> None:
    """The same when both are judged together: the ticket opens with the higher priority."""
    row = rule(priorities={"L": 3, "LL": 1, "": 3})
    judge(database, change(row, level="L"), change(row, "ESCALATE", 2000, level="LL"))
    assert [found["priority"] for found in tickets(database)] == [1]


def test_simulated_alarms_open_simulated_tickets(database: Engine) -> None:
    """What comes from a drill or a simulator stays marked to the end."""
    judge(database, change(ROW, is_simulated=True), channels=CHANNELS)
    assert tickets(database)[0]["is_simulated"] is True
    with reading(database) as connection:
        assert connection.execute(select(message.c.title)).scalar_one().startswith("【模拟】")


def test_a_new_ticket_has_one_message_for_each_channel_that_wants_it(database: Engine) -> None:
    """The desk hears of every ticket, the manager of emergencies alone; attached alarms tell nobody again."""
    judge(database, change(ROW), channels=CHANNELS)
    judge(database, change(ROW, "CLEAR", 2000), change(ROW, event_ms=3000), channels=CHANNELS)
    judge(database, change(rule("fire", priorities={"": 1})), channels=CHANNELS)
    with reading(database) as connection:
        rows = connection.execute(select(message.c.channel, message.c.title).order_by(message.c.title)).all()
    assert sorted(row.channel for row in rows) == ["boss", "desk", "desk"]
    assert "WX-1001 高：1号水泵 出口压力偏低" in [row.title for row in rows]
    assert "WX-1002 emergency: Pump 1, Outlet pressure low" in [row.title for row in rows]


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("priority", [1, 2, 3, 4])
def test_messages_speak_the_channels_language(lang: str, priority: int) -> None:
    """Number, urgency, equipment and what is wrong, in the language of the channel."""
    row = {
        "number": "WX-7",
        "priority": priority,
        "type": "repair",
        "is_simulated": False,
        "title": {"zh": "压力低", "en": "Pressure low"},
        "detail": {"zh": "0.31 MPa，低于 0.35", "en": "0.31 MPa, below 0.35"},
    }
    title, body = message_text(row, lang=lang, name="P")
    assert title.startswith("WX-7 ")
    assert row["title"][lang] in title  # type: ignore[index]
    assert row["detail"][lang] in body  # type: ignore[index]
    assert str(priority) in body
