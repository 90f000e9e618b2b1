"""Tickets in SQL: steps, versions, keys, clocks that run by themselves, and the history's proof."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, update

from alarms.feed import Turn
from alarms.judged import Transition
from alarms.store import write_transitions
from alarms.ticket_opening import open_tickets
from alarms.tickets import allowed_steps, broken_ticket_event, is_time_due, pass_time, step_ticket
from tests.alarms.handmade import SITE, change, rule
from watchroom.database.connect import reading, writing
from watchroom.database.tables import change as change_table
from watchroom.database.tables import ticket, ticket_clock, ticket_event
from watchroom.errors import RightsError, StateError

MIN = 60_000
NOW = 1_763_800_000_000
ROW = rule()


def raise_alarm(database: Engine, *transitions: Transition, now_ms: int = NOW) -> str:
    """Let an alarm open a ticket and return the ticket's id."""
    with writing(database) as connection:
        turn = Turn(connection, SITE, now_ms=now_ms)
        _, orders = write_transitions(turn, transitions or [change(ROW)], places={})
        open_tickets(turn, orders, channels={}, names={})
        turn.finish()
        return str(connection.execute(select(ticket.c.id).order_by(ticket.c.created_ms.desc())).scalars().first())


def step(
    database: Engine, ticket_id: str, name: str, *, user: str = "boss", role: str = "leader", at: int = 0, **given: Any
) -> dict[str, Any]:
    """Take a step at a minute after NOW."""
    options = {key: given.pop(key) for key in ("version", "idempotency_key") if key in given}
    with writing(database) as connection:
        return step_ticket(
            connection, ticket_id, name, user=user, role=role, now_ms=NOW + at * MIN, fields=given, **options
        )


def read(database: Engine, ticket_id: str) -> dict[str, Any]:
    with reading(database) as connection:
        return dict(connection.execute(select(ticket).where(ticket.c.id == ticket_id)).mappings().one())


def history(database: Engine, ticket_id: str) -> list[tuple[str, str | None, str, str]]:
    query = select(ticket_event).where(ticket_event.c.ticket_id == ticket_id).order_by(ticket_event.c.seq)
    with reading(database) as connection:
        rows = connection.execute(query).mappings().all()
    return [(row["step"], row["from_state"], row["to_state"], row["user"]) for row in rows]


def clocks(database: Engine, ticket_id: str) -> dict[str, dict[str, Any]]:
    with reading(database) as connection:
        rows = connection.execute(select(ticket_clock).where(ticket_clock.c.ticket_id == ticket_id)).mappings()
        return {row["kind"]: dict(row) for row in rows}


def clear(database: Engine, *, now_ms: int = NOW) -> None:
    with writing(database) as connection:
        turn = Turn(connection, SITE, now_ms=now_ms)
        write_transitions(turn, [change(ROW, "CLEAR", 2000)], places={})
        turn.finish()


def test_the_whole_way_from_alarm_to_acceptance(database: Engine) -> None:
    """Found, reported, given to a technician, repaired, accepted by somebody else: every hand is in the history."""
    ticket_id = raise_alarm(database)
    clear(database)
    step(database, ticket_id, "dispatch", user="zhao", role="guard", assignee="chen", at=1)
    step(database, ticket_id, "accept", user="chen", role="technician", at=3)
    step(database, ticket_id, "arrive", user="chen", role="technician", at=10)
    step(database, ticket_id, "done", user="chen", role="technician", at=60, result="seal replaced", comment="ok")
    last = step(database, ticket_id, "close", user="zhao", role="guard", at=70)
    assert (last["state"], last["assignee"], last["worker"], last["closed_ms"]) == (
        "CLOSED",
        "chen",
        "chen",
        NOW + 70 * MIN,
    )
    assert history(database, ticket_id) == [
        ("open", None, "NEW", "system"),
        ("dispatch", "NEW", "DISPATCHED", "zhao"),
        ("accept", "DISPATCHED", "ACCEPTED", "chen"),
        ("arrive", "ACCEPTED", "ARRIVED", "chen"),
        ("done", "ARRIVED", "DONE", "chen"),
        ("close", "DONE", "CLOSED", "zhao"),
    ]
    found = clocks(database, ticket_id)
    assert {kind: clock["stop_ms"] for kind, clock in found.items()} == {
        "accept": NOW + 3 * MIN,
        "arrive": NOW + 10 * MIN,
        "restore": NOW + 60 * MIN,
    }
    assert read(database, ticket_id) == last
    assert last["version"] == 6


def test_an_old_page_cannot_overwrite(database: Engine) -> None:
    """Two people look at the same ticket and press different buttons: the second is told that it has changed."""
    ticket_id = raise_alarm(database)
    version = read(database, ticket_id)["version"]
    step(database, ticket_id, "dispatch", version=version)
    with pytest.raises(StateError) as caught:
        step(database, ticket_id, "cancel", version=version, reason="false alarm")
    assert caught.value.code == "ticket.version"
    assert read(database, ticket_id)["state"] == "DISPATCHED"


def test_pressing_twice_is_pressing_once(database: Engine) -> None:
    """A phone that sends its request again after a lost answer changes nothing more, and gets the same answer."""
    ticket_id = raise_alarm(database)
    first = step(database, ticket_id, "dispatch", idempotency_key="k1", version=1)
    again = step(database, ticket_id, "dispatch", idempotency_key="k1", version=1)
    assert again == first
    assert len(history(database, ticket_id)) == 2


def test_a_key_belongs_to_one_step(database: Engine) -> None:
    """The same key for another step is a client's mistake, and nothing happens."""
    ticket_id = raise_alarm(database)
    step(database, ticket_id, "dispatch", idempotency_key="k1")
    with pytest.raises(StateError, match=r"ticket\.key_reused"):
        step(database, ticket_id, "accept", idempotency_key="k1")
    assert read(database, ticket_id)["state"] == "DISPATCHED"


def test_several_people_at_once_take_one_step(database: Engine) -> None:
    """Eight guards press dispatch in the same moment: one wins, seven are told, the history has one step."""
    ticket_id = raise_alarm(database)
    results: list[str] = []

    def press(user: str) -> None:
        try:
            step(database, ticket_id, "dispatch", user=user, role="guard")
            results.append("done")
        except StateError as exc:
            results.append(exc.code)

    threads = [threading.Thread(target=press, args=(f"guard-{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == ["done"] + ["ticket.state"] * 7
    assert len(history(database, ticket_id)) == 2
    with reading(database) as connection:
        assert broken_ticket_event(connection, ticket_id) is None


def test_a_refused_step_leaves_no_trace(database: Engine) -> None:
    """Rights and states are checked before anything is written."""
    ticket_id = raise_alarm(database)
    before = read(database, ticket_id)
    with pytest.raises(RightsError):
        step(database, ticket_id, "dispatch", role="technician")
    with pytest.raises(StateError, match=r"ticket\.state"):
        step(database, ticket_id, "close")
    with pytest.raises(StateError, match=r"ticket\.step"):
        step(database, ticket_id, "explode")
    assert read(database, ticket_id) == before


def test_an_unknown_ticket_is_told(database: Engine) -> None:
    """A step of a ticket that does not exist is refused by name."""
    with pytest.raises(StateError, match=r"ticket\.unknown"):
        step(database, "nowhere", "accept")


def test_a_ticket_answers_to_its_number(database: Engine) -> None:
    """People say WX-1001, not an id."""
    ticket_id = raise_alarm(database)
    assert read(database, ticket_id)["number"] == "WX-1001"
    assert step(database, "WX-1001", "dispatch")["id"] == ticket_id


def test_done_while_the_alarm_stands_is_a_leaders_decision(database: Engine) -> None:
    """The technician cannot report done while the pressure is still low; a leader can and the history says waiver."""
    ticket_id = raise_alarm(database)
    step(database, ticket_id, "dispatch", assignee="chen")
    step(database, ticket_id, "accept", user="chen", role="technician")
    step(database, ticket_id, "arrive", user="chen", role="technician")
    with pytest.raises(StateError, match=r"ticket\.alarm_active"):
        step(database, ticket_id, "done", user="chen", role="technician")
    step(database, ticket_id, "done", user="boss", role="leader", reason="sensor is being replaced")
    with reading(database) as connection:
        query = select(ticket_event.c.fields).where(ticket_event.c.step == "done")
        assert connection.execute(query).scalar_one() == {"reason": "sensor is being replaced", "waiver": True}


def test_hold_and_resume(database: Engine) -> None:
    """Waiting for a part: the ticket remembers where it was and until when, and restore gets the time back."""
    ticket_id = raise_alarm(database)
    step(database, ticket_id, "dispatch")
    step(database, ticket_id, "accept")
    held = step(database, ticket_id, "hold", at=10, reason="parts", until_ms=NOW + 600 * MIN)
    assert (held["state"], held["held_from"], held["held_until_ms"]) == ("HOLD", "ACCEPTED", NOW + 600 * MIN)
    back = step(database, ticket_id, "resume", at=70)
    assert (back["state"], back["held_from"], back["held_until_ms"]) == ("ACCEPTED", None, None)
    assert clocks(database, ticket_id)["restore"]["paused_ms"] == 60 * MIN


def test_a_hold_ends_by_itself(database: Engine) -> None:
    """The date of the part has come: the ticket goes on without anybody pressing a button."""
    ticket_id = raise_alarm(database)
    step(database, ticket_id, "dispatch")
    step(database, ticket_id, "accept", at=1)
    step(database, ticket_id, "arrive", at=2)
    step(database, ticket_id, "hold", at=3, reason="parts", until_ms=NOW + 30 * MIN)
    assert let_pass(database, minute=29) == 0
    assert let_pass(database, minute=30) == 1
    assert read(database, ticket_id)["state"] == "ARRIVED"
    assert history(database, ticket_id)[-1] == ("resume", "HOLD", "ARRIVED", "system")
    assert clocks(database, ticket_id)["restore"]["paused_ms"] == 27 * MIN


def let_pass(database: Engine, *, minute: int) -> int:
    now_ms = NOW + minute * MIN
    with reading(database) as connection:
        is_due = is_time_due(connection, SITE, now_ms=now_ms)
    with writing(database) as connection:
        turn = Turn(connection, SITE, now_ms=now_ms)
        count = pass_time(turn)
        turn.finish()
    assert is_due == (count > 0)
    return count


def test_a_breach_is_found_without_anybody_touching_the_ticket(database: Engine) -> None:
    """Nobody accepts within five minutes: the ticket shows it from then on, once, in history and feed."""
    ticket_id = raise_alarm(database)
    assert let_pass(database, minute=4) == 0
    assert let_pass(database, minute=5) == 1
    assert let_pass(database, minute=6) == 0
    assert clocks(database, ticket_id)["accept"]["breached_ms"] == NOW + 5 * MIN
    assert history(database, ticket_id)[-1] == ("breach", "NEW", "NEW", "system")
    with reading(database) as connection:
        last = connection.execute(select(change_table).order_by(change_table.c.seq.desc())).mappings().first()
    assert last is not None
    assert (last["kind"], last["ref"]) == ("ticket", ticket_id)


def test_rejected_work_goes_back(database: Engine) -> None:
    """The guard does not accept the repair: it goes back to the same technician, counted as rework."""
    ticket_id = raise_alarm(database)
    clear(database)
    for name in ("dispatch", "accept", "arrive", "done"):
        step(database, ticket_id, name, assignee="boss")
    back = step(database, ticket_id, "reject", user="zhao", role="guard", reason="still leaking")
    assert (back["state"], back["rework"], back["assignee"], back["worker"]) == ("DISPATCHED", 1, "boss", None)
    assert clocks(database, ticket_id)["restore"]["stop_ms"] is None


def test_offered_steps_of_a_row(database: Engine) -> None:
    """A page asks with the ticket as it read it, alarms included."""
    row = read(database, raise_alarm(database)) | {"state": "ARRIVED", "alarms": [{"is_active": True}]}
    assert "done" not in allowed_steps(row, role="technician", user="chen", now_ms=NOW)
    assert "done" in allowed_steps(row | {"alarms": []}, role="technician", user="chen", now_ms=NOW)
    assert "done" in allowed_steps(row, role="leader", user="boss", now_ms=NOW)
    assert allowed_steps(row, role="committee", user="x", now_ms=NOW) == []


@pytest.mark.parametrize("column", ["user", "at_ms", "comment", "fields", "to_state", "idempotency_key"])
def test_a_forged_history_is_detected(database: Engine, column: str) -> None:
    """Maintenance records cannot be altered unseen."""
    ticket_id = raise_alarm(database)
    step(database, ticket_id, "dispatch", comment="go", idempotency_key="k")
    step(database, ticket_id, "accept")
    with reading(database) as connection:
        assert broken_ticket_event(connection, ticket_id) is None
        query = select(ticket_event.c.seq).where(ticket_event.c.step == "dispatch")
        seq = connection.execute(query).scalar_one()
    value: Any = {"at_ms": 1, "fields": {"x": 1}}.get(column, "forged")
    with writing(database) as connection:
        connection.execute(update(ticket_event).where(ticket_event.c.seq == seq).values({column: value}))
    with reading(database) as connection:
        assert broken_ticket_event(connection, ticket_id) == seq


def test_a_cut_history_is_detected(database: Engine) -> None:
    """The last step of a ticket cannot disappear unseen."""
    ticket_id = raise_alarm(database)
    step(database, ticket_id, "dispatch")
    with writing(database) as connection:
        connection.execute(delete(ticket_event).where(ticket_event.c.step == "dispatch"))
    with reading(database) as connection:
        assert broken_ticket_event(connection, ticket_id) == -1
