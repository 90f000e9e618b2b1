"""A record whose results SQL refuses costs itself; the engine goes on, and people are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from tests.alarms.test_engine import Room
from watchroom.database.connect import writing
from watchroom.database.tables import access_event, alarm, alarm_event
from watchroom.errors import StoreError

MONSTROUS_MS = 1 << 70
"""No database has a column for it."""


@pytest.fixture
def room(tmp_path: Path, database: Engine) -> Iterator[Room]:
    room = Room(tmp_path, database)
    yield room
    room.journal.close()  # type: ignore[attr-defined]


def kept(room: Room) -> list[Path]:
    return sorted((room.folder / "alarms").glob("aside-*.json"))


def test_a_poison_record_costs_itself(room: Room) -> None:
    """One record cannot be written: the records around it are, also when all were judged in one go."""
    room.tell(["RAISE", "WP-01", 1000], ["swipe", "e1"])
    bad = room.tell(["RAISE", "WP-02", MONSTROUS_MS], ["swipe", "e2"]) - 1
    end = room.tell(["RAISE", "DR-S1", 3000], ["swipe", "e3"])
    with room.running() as engine:
        room.judged(engine, end)
        assert engine.status()["set_aside"] == 1
        assert engine.status()["state"] == "running"
        room.judged(engine, room.tell(["CLEAR", "WP-01", 4000]))
    assert {row["equipment"] for row in room.rows(alarm)} == {"WP-01", "DR-S1"}
    assert [row["kind"] for row in room.rows(alarm_event)] == ["RAISE", "RAISE", "CLEAR"]
    assert room.count(access_event) == 2
    (path,) = kept(room)
    content = json.loads(path.read_text())
    assert content["offset"] == bad
    assert content["transitions"][0]["row"] == "outlet_pressure.low|WP-02|"
    assert content["transitions"][0]["event_ms"] == MONSTROUS_MS
    assert len(content["events"]) == 1
    assert content["problem"]


def test_the_alarm_stays_until_somebody_has_looked(room: Room) -> None:
    """A restart neither repeats the record nor forgets that one was set aside; removing the file does."""
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-02", MONSTROUS_MS]))
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-01", 1000]))
        assert engine.status()["set_aside"] == 1
    (path,) = kept(room)
    path.unlink()
    assert room.engine().status()["set_aside"] == 0


def test_many_poison_records_do_not_stop_the_rest(room: Room) -> None:
    """Every second record is bad: each good one is written, each bad one kept."""
    for number in range(16):
        end = room.tell(["RAISE", "WP-01" if number == 6 else "WP-02", 1000 if number % 2 == 0 else MONSTROUS_MS])
    with room.running() as engine:
        room.judged(engine, end)
    assert sorted(row["equipment"] for row in room.rows(alarm)) == ["WP-01", "WP-02"]
    assert len(kept(room)) == 8


def test_a_fault_of_the_database_is_nobodys_poison(room: Room) -> None:
    """A missing table would make every record look bad: the engine ends instead of throwing all alarms away."""
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-01", 1000]))
    engine = room.engine()
    engine._start()
    with writing(room.database) as connection:
        connection.execute(text("ALTER TABLE access_event RENAME TO gone"))
    room.tell(["swipe", "e9"])
    engine._judge()
    try:
        with pytest.raises((ProgrammingError, StoreError)):
            engine._write()
        assert kept(room) == []
    finally:
        with writing(room.database) as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO access_event"))
