"""How long records of people and doings are kept."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, Table, insert, select

from alarms import retention
from alarms.committer import Committer
from alarms.judged import Judged
from alarms.retention import DAY_MS, Keep
from tests.alarms.handmade import SITE, plant, swipe
from watchroom.database.connect import reading, writing
from watchroom.database.tables import access_event, audit, command, message

NOW = 1_763_800_000_000


def committer_of(database: Engine) -> Committer:
    """Return the engine's hand on the database."""
    committer = Committer(plant(), database, channels={}, now_ms=lambda: NOW)
    committer.claim()
    return committer


def event(number: int, age_days: float, kind: str = "access", site: str = SITE) -> dict[str, object]:
    """Return an event of some age."""
    at = NOW - int(age_days * DAY_MS)
    names = {"site": site, "gateway": "gate", "event_id": f"{kind}-{number}", "kind": kind}
    return {**names, "time_ms": at, "seen_ms": at, "fields": {}, "is_simulated": False}


def asked(number: int, age_days: float, outcome: str | None) -> dict[str, object]:
    """Return a command of some age."""
    return {
        "id": f"c{number}", "seq": number, "site": SITE, "kind": "ack", "target": "x", "user": "guard", "args": {},
        "idempotency_key": f"k{number}", "created_ms": NOW - int(age_days * DAY_MS), "outcome": outcome,
    }  # fmt: skip


def sent(number: int, age_days: float, next_ms: int | None) -> dict[str, object]:
    """Return a message of some age."""
    return {
        "id": f"m{number}", "site": SITE, "channel": "guards", "title": "t", "body": "b",
        "created_ms": NOW - int(age_days * DAY_MS), "attempts": 1, "next_ms": next_ms,
    }  # fmt: skip


def put(database: Engine, table: Table, rows: list[dict[str, object]]) -> None:
    """Write rows."""
    with writing(database) as connection:
        connection.execute(insert(table), rows)


def left(database: Engine, table: Table, column: str) -> list[object]:
    """Return what is left."""
    with reading(database) as connection:
        return list(connection.execute(select(table.c[column]).order_by(table.c[column])).scalars())


def test_each_class_is_kept_as_long_as_its_setting_says(database: Engine) -> None:
    """The access log goes after its days, panel texts after theirs; another site's records are not touched."""
    put(database, access_event, [event(1, 11), event(2, 9), event(3, 11, "panel_text"), event(4, 31, "panel_text")])
    put(database, access_event, [event(5, 99, site="another")])
    put(database, audit, [{"at_ms": NOW - days * DAY_MS, "action": f"d{days}", "detail": {}} for days in (5, 50)])
    committer_of(database).trim(Keep(access_days=10, event_days=30, audit_days=20))
    assert left(database, access_event, "event_id") == ["access-2", "access-5", "panel_text-3"]
    assert left(database, audit, "action") == ["d5"]


def test_work_that_is_not_done_is_never_dropped(database: Engine) -> None:
    """A command not yet applied and a message not yet sent stay, however old they are."""
    put(database, command, [asked(1, 99, "done"), asked(2, 99, None), asked(3, 1, "done")])
    put(database, message, [sent(1, 99, None), sent(2, 99, NOW), sent(3, 1, None)])
    committer_of(database).trim(Keep(command_days=30, message_days=30))
    assert left(database, command, "id") == ["c2", "c3"]
    assert left(database, message, "id") == ["m2", "m3"]


def test_zero_keeps_for_ever(database: Engine) -> None:
    """Who must keep everything says 0."""
    put(database, access_event, [event(1, 9999), event(2, 9999, "operation")])
    put(database, command, [asked(1, 9999, "done")])
    committer_of(database).trim(Keep(access_days=0, event_days=0, command_days=0))
    assert len(left(database, access_event, "seq")) == 2
    assert len(left(database, command, "id")) == 1


def test_old_records_go_a_few_at_a_time_the_oldest_first(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alarms are committed under the same lock: years of old records are dropped over many short turns."""
    monkeypatch.setattr(retention, "MOST", 3)
    put(database, access_event, [event(number, 100 + number) for number in range(7)])
    committer = committer_of(database)
    counts = []
    for _ in range(4):
        counts.append(len(left(database, access_event, "seq")))
        committer.trim(Keep(access_days=10))
    assert counts == [7, 4, 1, 0]


def test_trimming_moves_no_position_and_takes_new_events(database: Engine) -> None:
    """A trim between two commits changes nothing of what the engine judges."""
    committer = committer_of(database)
    committer.commit(Judged(events=[swipe("e1", offset=0)]), end=1)
    committer.trim(Keep(access_days=0))
    committer.commit(Judged(events=[swipe("e2", offset=1)]), end=2)
    assert left(database, access_event, "event_id") == ["e1", "e2"]
    assert committer.claim() == 2
