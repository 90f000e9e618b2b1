"""Operators' actions: written down once, applied in order, answered."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Engine, select

from alarms.commands import await_outcome, outcome_of, submit
from alarms.committer import Committer
from alarms.judged import Judged
from alarms.store import broken_alarm_event, occurrence_id
from tests.alarms.handmade import SITE, change, plant, rule
from watchroom.database.connect import reading, writing
from watchroom.database.tables import alarm, alarm_event, command
from watchroom.errors import StateError

ROW = rule()
ALARM = occurrence_id(ROW, 1000)


@pytest.fixture
def committer(database: Engine) -> Committer:
    """An engine's transactions, one alarm standing."""
    committer = Committer(plant(), database, channels={}, now_ms=lambda: 5000)
    committer.claim()
    committer.commit(Judged(transitions=[change(ROW)]), end=1)
    return committer


def ask(database: Engine, kind: str = "ack", *, target: str = ALARM, key: str = "k1", user: str = "li") -> str:
    with writing(database) as connection:
        return submit(
            connection, kind, target, user=user, args={"comment": "on my way"}, idempotency_key=key, now_ms=4000
        )


def code_of(database: Engine, command_id: str) -> str | None:
    with reading(database) as connection:
        outcome = outcome_of(connection, command_id)
    return None if outcome is None else outcome.code


def state(database: Engine) -> str:
    with reading(database) as connection:
        return str(connection.execute(select(alarm.c.state)).scalar_one())


def test_a_command_waits_for_the_engine(database: Engine, committer: Committer) -> None:
    """Written down is not yet done: only the engine changes an alarm."""
    command_id = ask(database)
    assert code_of(database, command_id) is None
    assert state(database) == "UNACK"
    assert committer.apply_commands()[0] == 1
    assert code_of(database, command_id) == "done"
    assert state(database) == "ACKED"
    assert committer.apply_commands() == (0, 0)


def test_who_when_and_why_are_kept(database: Engine, committer: Committer) -> None:
    """The journal tells who acknowledged, what he said, and at which point of the data."""
    ask(database)
    committer.apply_commands()
    with reading(database) as connection:
        event = connection.execute(select(alarm_event).where(alarm_event.c.kind == "ACK")).mappings().one()
        row = connection.execute(select(command)).mappings().one()
    assert (event["user"], event["comment"], event["event_ms"], event["is_accepted"]) == ("li", "on my way", 5000, True)
    assert (row["applied_cursor"], row["applied_ms"], row["created_ms"]) == (1, 5000, 4000)


def test_asking_twice_is_asking_once(database: Engine, committer: Committer) -> None:
    """A repeated request with the same key is the same command, before and after it was applied."""
    first = ask(database)
    assert ask(database) == first
    committer.apply_commands()
    assert ask(database) == first
    assert committer.apply_commands() == (0, 0)


def test_a_key_belongs_to_one_command(database: Engine, committer: Committer) -> None:
    """The same key for something else, or from somebody else, is refused."""
    ask(database)
    for mistake in ({"kind": "reset"}, {"user": "wu"}):
        with pytest.raises(StateError, match=r"command\.key_reused"):
            ask(database, **mistake)
    assert committer.apply_commands()[0] == 1


@pytest.mark.parametrize(
    ("kind", "target", "code"), [("ack", "nowhere", "alarm.unknown"), ("shout", ALARM, "command.kind")]
)
def test_what_cannot_be_is_refused_at_once(
    database: Engine, committer: Committer, kind: str, target: str, code: str
) -> None:
    """An unknown alarm or action is not even written down."""
    with pytest.raises(StateError) as caught:
        ask(database, kind, target=target)
    assert caught.value.code == code
    assert committer.apply_commands() == (0, 0)


@pytest.mark.parametrize(
    ("kinds", "codes"),
    [
        (["ack", "ack"], ["done", "alarm.already_acked"]),
        (["reset"], ["alarm.still_active"]),
        (["ack", "reset"], ["done", "alarm.still_active"]),
    ],
)
def test_refusals_are_answered_and_journalled(
    database: Engine, committer: Committer, kinds: list[str], codes: list[str]
) -> None:
    """What the state does not allow is answered with a code, and stands in the journal as refused."""
    ids = [ask(database, kind, key=f"k{index}") for index, kind in enumerate(kinds)]
    committer.apply_commands()
    assert [code_of(database, command_id) for command_id in ids] == codes
    with reading(database) as connection:
        query = select(alarm_event.c.is_accepted, alarm_event.c.reason).order_by(alarm_event.c.seq)
        found = [(row.is_accepted, row.reason) for row in connection.execute(query)][1:]
        assert broken_alarm_event(connection, SITE) is None
    assert found == [(code == "done", None if code == "done" else code) for code in codes]


def test_an_outcome_that_refuses_raises_its_code(database: Engine, committer: Committer) -> None:
    """The page gets the refusal as an error it can translate."""
    ask(database)
    second = ask(database, key="k2")
    committer.apply_commands()
    outcome = await_outcome(database, second, timeout_s=0)
    assert outcome is not None
    with pytest.raises(StateError, match=r"alarm\.already_acked"):
        outcome.check()


def test_waiting_ends_when_the_engine_has_decided(database: Engine, committer: Committer) -> None:
    """The page waits for the outcome, not for a fixed time."""
    command_id = ask(database)
    engine = threading.Thread(target=committer.apply_commands)
    engine.start()
    outcome = await_outcome(database, command_id, timeout_s=20)
    engine.join()
    assert outcome is not None
    outcome.check()


def test_waiting_gives_up(database: Engine, committer: Committer) -> None:
    """While the engine is down the page is told that the command waits."""
    assert await_outcome(database, ask(database), timeout_s=0.01) is None
    with pytest.raises(StateError, match=r"command\.unknown"):
        await_outcome(database, "nowhere", timeout_s=0.01)
    assert committer.apply_commands()[0] == 1
