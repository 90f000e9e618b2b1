"""The registry reaches the judge through the journal, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from alarms.doors.follower import BATCH, RegistryFollower
from alarms.doors.registry import Permits, Registry
from watchroom.credentials.listing import Credential
from watchroom.credentials.registry import end_permit, grant_permit, set_standing, store
from watchroom.database.connect import migrate, open_database, writing
from watchroom.errors import StoreError
from watchroom.frames import EventFrame, decode
from watchroom.journal import FileJournal

from .bench import Bench
from .plant import SITE, T0


@pytest.fixture
def database(tmp_path: Path) -> Engine:
    """An empty registry."""
    engine = open_database(f"sqlite:///{tmp_path}/w.db")
    migrate(engine)
    return engine


def card(number: int, standing: str = "white") -> Credential:
    return Credential(key=f"k:{number:016x}", kind="card", hint="…01", owner="L*", standing=standing)


def follow(journal: FileJournal, database: Engine) -> RegistryFollower:
    follower = RegistryFollower(SITE, journal=journal, database=database, now_ms=lambda: T0)
    while follower.step():
        pass
    return follower


def known(journal: FileJournal) -> Registry:
    registry = Registry()
    for record in journal.read(SITE, 0, max_bytes=1 << 30):
        frame = decode(record.payload)
        assert isinstance(frame, EventFrame)
        for event in frame.events:
            if event.kind == "credential":
                registry.apply(event.fields)
    return registry


def test_everything_in_parts_then_only_what_changes(tmp_path: Path, database: Engine) -> None:
    """Many credentials go in several records; afterwards each change is one small record."""
    journal = FileJournal(tmp_path / "journal")
    with writing(database) as conn:
        assert store(conn, SITE, [card(n) for n in range(BATCH + 10)], now_ms=1) == BATCH + 10
        assert store(conn, SITE, [card(n) for n in range(BATCH + 10)], now_ms=2) == 0
    follower = follow(journal, database)
    assert journal.end(SITE) == 2
    assert len(known(journal)) == BATCH + 10
    with writing(database) as conn:
        set_standing(conn, SITE, card(7).key, "lost", now_ms=3)
    assert follower.step()
    assert not follower.step()
    assert known(journal).reason(card(7).key, T0) == "lost"
    assert known(journal).reason(card(8).key, T0) is None
    journal.close()


def test_a_new_start_repeats_what_the_judge_ignores(tmp_path: Path, database: Engine) -> None:
    """After a restart everything is written again; an old version cannot undo a newer one."""
    journal = FileJournal(tmp_path / "journal")
    with writing(database) as conn:
        store(conn, SITE, [card(1), card(2)], now_ms=1)
    follow(journal, database)
    with writing(database) as conn:
        set_standing(conn, SITE, card(1).key, "black", now_ms=2)
    follow(journal, database)
    registry = known(journal)
    assert registry.reason(card(1).key, T0) == "blacklisted"
    registry.apply({"changes": [[card(1).key, "white", None, None, 1]]})
    assert registry.reason(card(1).key, T0) == "blacklisted"
    assert journal.end(SITE) == 2
    journal.close()


def test_nothing_is_lost_while_the_journal_cannot_be_written(tmp_path: Path, database: Engine) -> None:
    """The disk refuses a record: the change is written when it can be."""
    journal = FileJournal(tmp_path / "journal")
    with writing(database) as conn:
        store(conn, SITE, [card(1, "lost")], now_ms=1)
    refusing = FileJournal(tmp_path / "journal", read_only=True)
    follower = RegistryFollower(SITE, journal=refusing, database=database, now_ms=lambda: T0)
    with pytest.raises(StoreError):
        follower.step()
    follow(journal, database)
    assert known(journal).reason(card(1).key, T0) == "lost"
    journal.close()


def test_from_sql_to_an_alarm(tmp_path: Path, database: Engine) -> None:
    """A card is reported lost in SQL; when it opens a door, that is an alarm. A permit keeps the door quiet."""
    journal = FileJournal(tmp_path / "journal")
    with writing(database) as conn:
        store(conn, SITE, [card(1, "lost")], now_ms=1)
        span = {"from_ms": T0, "until_ms": T0 + 50_000}
        number = grant_permit(conn, SITE, "DR-1", **span, user="li", reason="furniture", now_ms=T0)
    follow(journal, database)
    bench = Bench(tmp_path, {"DR-1": {"type": "door"}}, {"gate": ["DR-1"]})
    bench.plant.tick(0)
    for record in journal.read(SITE, 0):
        bench.plant._append(record.gateway, record.payload)
    bench.plant.samples(("DR-1/contact", 1, 0.0), ("DR-1/lock", 1, 0.0), snapshot=True)
    bench.plant.run(1000, 3000)
    bench.plant.event("gate", "DR-1", 4000, result="granted", card=card(1).key)
    bench.plant.samples(("DR-1/contact", 4500, 1.0))
    bench.plant.run(5000, 40_000)
    told = [one for one in bench.judge() if not one[0].startswith("data.")]
    assert told == [("access.lost|DR-1|", "RAISE", 4000), ("access.lost|DR-1|", "CLEAR", 4000)]
    with writing(database) as conn:
        end_permit(conn, SITE, number, now_ms=T0 + 41_000)
    follow(journal, database)
    for record in journal.read(SITE, 2):
        bench.plant._append(record.gateway, record.payload)
    bench.plant.run(42_000, 73_000)
    assert ("door.held|DR-1|", "RAISE", 71_000) in bench.judge()
    journal.close()


def test_permits_end_and_are_forgotten() -> None:
    """A permit that ended long ago takes no room."""
    permits = Permits()
    permits.apply("DR-1", {"id": "a", "from_ms": 10, "until_ms": 20, "version": 1})
    permits.trim(15)
    assert permits.of("DR-1") == [(10, 20)]
    permits.trim(21)
    assert permits.of("DR-1") == []
