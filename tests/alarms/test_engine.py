"""The alarm engine: one judge, restart without loss or repetition, orders of people, a database that goes away."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, Table, func, select, text

from alarms.commands import await_outcome, submit
from alarms.engine import AlarmEngine
from alarms.store import broken_alarm_event, occurrence_id
from tests.alarms.engine_process import name_of
from tests.alarms.handmade import SITE, plant, rules
from tests.alarms.script import ScriptJudge, row_of, tell
from tests.postgres import Cluster
from watchroom.births import BirthStore
from watchroom.clock import utc_ms
from watchroom.database.connect import open_database, reading, writing
from watchroom.database.tables import (
    access_event,
    alarm,
    alarm_event,
    change,
    command,
    position,
    ticket,
    ticket_alarm,
    ticket_event,
)
from watchroom.disk import RealDisk
from watchroom.errors import StateError
from watchroom.journal import FileJournal, Journal

EQUIPMENT = ("WP-01", "WP-02", "DR-S1")
DEADLINE_S = 20.0


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that must become true."""
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.005)


class Room:
    """One engine's surroundings: journal, database, folder."""

    def __init__(self, folder: Path, database: Engine) -> None:
        self.folder, self.database = folder, database
        self.journal: Journal = FileJournal(folder / "journal")
        self.seqs: list[int] = []

    def engine(self, equipment: tuple[str, ...] = EQUIPMENT) -> AlarmEngine:
        return AlarmEngine(
            plant(equipment),
            rules([row_of(name) for name in equipment]),
            journal=self.journal,
            births=BirthStore(self.folder / "births"),
            database=self.database,
            folder=self.folder / "alarms",
            disk=RealDisk(),
            on_commit=self.seqs.append,
            now_ms=utc_ms,
            registry=CollectorRegistry(),
            make_judge=ScriptJudge,
        )

    @contextmanager
    def running(self, engine: AlarmEngine | None = None) -> Iterator[AlarmEngine]:
        """Run an engine while the block lasts; a failure of the engine fails the test."""
        engine = engine or self.engine()
        stop, failures = threading.Event(), []

        def run() -> None:
            try:
                engine.run(stop)
            except BaseException as exc:
                failures.append(exc)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            until(lambda: engine.status()["state"] == "running" or bool(failures), "the engine must start")
            yield engine
        finally:
            stop.set()
            engine.wake()
            thread.join(DEADLINE_S)
        assert failures == []
        assert not thread.is_alive()

    def tell(self, *lines: list[object]) -> int:
        return tell(self.journal, SITE, *lines)

    def judged(self, engine: AlarmEngine, end: int) -> None:
        until(lambda: engine.status()["committed"] >= end, "everything must be judged and written")

    def rows(self, table: Table) -> list[dict[str, Any]]:
        with reading(self.database) as connection:
            return [dict(row) for row in connection.execute(select(table)).mappings()]

    def count(self, table: Table) -> int:
        with reading(self.database) as connection:
            return connection.execute(select(func.count()).select_from(table)).scalar_one()

    def ask(self, kind: str, target: str, *, key: str, user: str = "li") -> str:
        with writing(self.database) as connection:
            return submit(
                connection, kind, target, user=user, args={"comment": "seen"}, idempotency_key=key, now_ms=utc_ms()
            )

    def outcome(self, command_id: str) -> str:
        outcome = await_outcome(self.database, command_id, timeout_s=DEADLINE_S)
        assert outcome is not None
        return outcome.code


@pytest.fixture
def room(tmp_path: Path, database: Engine) -> Iterator[Room]:
    room = Room(tmp_path, database)
    yield room
    room.journal.close()  # type: ignore[attr-defined]


def test_a_record_becomes_alarm_ticket_and_news(room: Room) -> None:
    """A frame arrives: alarm, ticket, their histories, the access event and the feed stand in SQL, all together."""
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-01", 1000], ["swipe", "e1"]))
        (row,) = room.rows(alarm)
        assert (row["id"], row["state"]) == (occurrence_id(row_of("WP-01"), 1000), "UNACK")
        (found,) = room.rows(ticket)
        assert (found["number"], found["equipment"], found["place"]) == ("WX-1001", "WP-01", "PUMPS")
        (event,) = room.rows(access_event)
        assert (event["method"], event["result"], event["equipment"]) == ("card", "granted", "DR-S1")
        assert sorted(item["kind"] for item in room.rows(change)) == ["access", "alarm", "ticket"]
        assert room.seqs == [3]


def test_position_and_alarms_move_together(room: Room) -> None:
    """The position that a restart starts from never claims more or less than what is written."""
    with room.running() as engine:
        end = room.tell(["RAISE", "WP-01", 1000])
        until(lambda: room.count(alarm) == 1, "the alarm must be written")
        assert room.rows(position)[0]["committed"] == end
        quiet = room.tell()
        room.judged(engine, quiet)
        assert room.rows(position)[0]["committed"] == quiet


def test_a_restart_goes_on_where_it_stopped(room: Room) -> None:
    """Stopped and started again, also without checkpoint: nothing is judged twice, nothing is missed."""
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-01", 1000], ["swipe", "e1"]))
    end = room.tell(["CLEAR", "WP-01", 2000], ["RAISE", "WP-02", 2000])
    (room.folder / "alarms" / f"{SITE}.checkpoint").unlink()
    with room.running() as engine:
        room.judged(engine, end)
        assert engine.latest().value[0] == end
    assert [row["kind"] for row in room.rows(alarm_event)] == ["RAISE", "CLEAR", "RAISE"]
    assert (room.count(alarm), room.count(ticket), room.count(access_event)) == (2, 2, 1)


def test_a_damaged_checkpoint_only_costs_time(room: Room) -> None:
    """Half a checkpoint after a power cut is no checkpoint: the journal is replayed from its begin."""
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-01", 1000]))
    path = room.folder / "alarms" / f"{SITE}.checkpoint"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    end = room.tell(["CLEAR", "WP-01", 2000])
    with room.running() as engine:
        room.judged(engine, end)
    assert [row["kind"] for row in room.rows(alarm_event)] == ["RAISE", "CLEAR"]


def test_a_checkpoint_from_the_future_is_not_used(room: Room) -> None:
    """The database was restored from yesterday's backup: the newer checkpoint does not fit and is not used."""
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-01", 1000]))
        room.judged(engine, room.tell(["RAISE", "WP-02", 1000]))
    with writing(room.database) as connection:
        for table in (ticket_alarm, ticket_event):
            connection.execute(table.delete())
        connection.execute(text("DELETE FROM ticket_clock"))
        connection.execute(ticket.delete())
        connection.execute(alarm_event.delete())
        connection.execute(alarm.delete())
        connection.execute(position.update().values(committed=1, alarm_hash=""))
    with room.running() as engine:
        room.judged(engine, 2)
    assert sorted(row["equipment"] for row in room.rows(alarm)) == ["WP-01", "WP-02"]


def test_a_journal_that_began_anew_is_judged(room: Room) -> None:
    """Somebody wiped the journal but not the database: new records are judged instead of waited for."""
    with room.running() as engine:
        for index in range(5):
            room.judged(engine, room.tell(["RAISE", "WP-01", 1000 + index]))
    other = Room(room.folder / "other", room.database)
    end = other.tell(["RAISE", "WP-02", 9000])
    with other.running() as engine:
        other.judged(engine, end)
    other.journal.close()  # type: ignore[attr-defined]
    assert "WP-02" in [row["equipment"] for row in room.rows(alarm)]


def test_a_second_engine_fences_the_first_off(room: Room) -> None:
    """Two engines of one site: the older one ends with a clear code and has written nothing since."""
    first = room.engine()
    stop, failures = threading.Event(), []

    def run() -> None:
        try:
            first.run(stop)
        except StateError as exc:
            failures.append(exc.code)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: first.status()["state"] == "running", "the first engine must start")
    with room.running() as second:
        end = room.tell(["RAISE", "WP-01", 1000])
        room.judged(second, end)
        thread.join(DEADLINE_S)
    assert failures == ["engine.fenced"]
    assert first.status()["state"] == "fenced"
    assert (room.count(alarm), room.count(alarm_event), room.count(ticket)) == (1, 1, 1)


def test_an_acknowledgement_is_applied_at_once(room: Room) -> None:
    """F2 on the console: the engine applies it when woken, stamps where in the journal, and the screens hear of it."""
    with room.running() as engine:
        end = room.tell(["RAISE", "WP-01", 1000])
        room.judged(engine, end)
        command_id = room.ask("ack", occurrence_id(row_of("WP-01"), 1000), key="k1")
        started = time.monotonic()
        engine.wake()
        assert room.outcome(command_id) == "done"
        assert time.monotonic() - started < 1.0
        (row,) = room.rows(alarm)
        assert (row["state"], row["acked_by"]) == ("ACKED", "li")
        assert room.rows(command)[0]["applied_cursor"] == end
        last = max(room.rows(change), key=lambda item: item["seq"])
        assert last["kind"] in {"alarm", "ticket"}
        until(lambda: room.seqs[-1] == last["seq"], "the screens must be told")


def test_a_forgotten_wake_costs_a_moment_only(room: Room) -> None:
    """A command that nobody announced is found by itself."""
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-01", 1000]))
        assert room.outcome(room.ask("ack", occurrence_id(row_of("WP-01"), 1000), key="k1")) == "done"


def test_commands_are_applied_in_their_order(room: Room) -> None:
    """Asked while the engine was down: applied at its start, in the order of asking."""
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-01", 1000], ["CLEAR", "WP-01", 2000], ["RAISE", "WP-02", 1000]))
    one, two = occurrence_id(row_of("WP-01"), 1000), occurrence_id(row_of("WP-02"), 1000)
    ids = [room.ask("ack", two, key="a"), room.ask("ack", one, key="b"), room.ask("ack", one, key="c", user="wu")]
    with room.running():
        assert [room.outcome(command_id) for command_id in ids] == ["done", "done", "alarm.closed"]
    events = [row for row in room.rows(alarm_event) if row["kind"] == "ACK"]
    assert [(row["alarm_id"], row["is_accepted"]) for row in events] == [(two, True), (one, True), (one, False)]


def test_acknowledging_an_older_occurrence_does_not_touch_the_new_one(room: Room) -> None:
    """The guard acknowledges what he saw a minute ago; what has come back since is still unacknowledged."""
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-01", 1000], ["CLEAR", "WP-01", 2000], ["RAISE", "WP-01", 3000]))
        code = room.outcome(room.ask("ack", occurrence_id(row_of("WP-01"), 1000), key="k"))
    assert code == "alarm.superseded"
    live = [row for row in room.rows(alarm) if row["is_live"]]
    assert [(row["raised_ms"], row["state"]) for row in live] == [(3000, "UNACK")]


def test_a_rule_that_is_gone_clears_its_alarm(room: Room) -> None:
    """The rule was removed while its alarm stood: at the next start the alarm clears and says why."""
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-01", 1000], ["RAISE", "WP-02", 1000]))
    with room.running(room.engine(("WP-01", "DR-S1"))):
        states = {row["equipment"]: row["state"] for row in room.rows(alarm)}
    assert states == {"WP-01": "UNACK", "WP-02": "RTNUN"}
    assert [row["reason"] for row in room.rows(alarm_event) if row["kind"] == "CLEAR"] == ["retired"]


def test_a_replay_under_other_rules_is_settled(room: Room) -> None:
    """The database comes from a backup or the rules were changed: what stands by the replay, and SQL lacks, is raised.

    The other way round as well: what the replay cleared does not stay active for ever.
    """
    with room.running() as engine:
        end = room.tell(["RAISE", "WP-01", 1000], ["RAISE", "WP-02", 1000], ["CLEAR", "WP-02", 2000])
        room.judged(engine, end)
    (room.folder / "alarms" / f"{SITE}.checkpoint").unlink()
    one, two = occurrence_id(row_of("WP-01"), 1000), occurrence_id(row_of("WP-02"), 1000)
    with writing(room.database) as connection:
        connection.execute(ticket_alarm.delete().where(ticket_alarm.c.alarm_id == one))
        connection.execute(alarm.delete().where(alarm.c.id == one))
        connection.execute(alarm.update().where(alarm.c.id == two).values(state="UNACK", is_active=True))
    with room.running():
        states = {row["id"]: (row["state"], row["is_active"]) for row in room.rows(alarm)}
    assert states == {one: ("UNACK", True), two: ("RTNUN", False)}
    assert room.count(ticket) == 2


def test_a_thousand_alarms_at_once(room: Room) -> None:
    """A power cut raises a thousand alarms in one frame: all written, with their tickets, in seconds at the worst."""
    names = tuple(name_of(index) for index in range(1000))
    with room.running(room.engine(names)) as engine:
        started = time.monotonic()
        room.judged(engine, room.tell(*[["RAISE", name, 1000] for name in names]))
        took = time.monotonic() - started
    assert (room.count(alarm), room.count(ticket), room.count(ticket_event)) == (1000, 1000, 1000)
    assert took < 5.0, "goal 1 s on a quiet machine"
    with reading(room.database) as connection:
        assert broken_alarm_event(connection, SITE) is None


def test_the_status_tells_how_far_it_is(room: Room) -> None:
    """Lag, batches and times are told without touching the database."""
    with room.running() as engine:
        end = room.tell(["RAISE", "WP-01", 1000])
        room.judged(engine, end)
        status = engine.status()
    assert (status["lag"], status["offset"], status["committed"], status["unwritten"]) == (0, end, end, 0)
    assert status["generation"] == 1
    assert status["last_scan_ms"] <= status["scan_ms_max"]
    assert status["scan_ms_p50"] > 0
    assert status["last_commit_ms"] > 0


def test_the_journal_may_be_trimmed_up_to_the_checkpoint(room: Room) -> None:
    """The engine tells the journal what it needs no more; a stop leaves the position there."""
    with room.running() as engine:
        end = room.tell(["RAISE", "WP-01", 1000])
        room.judged(engine, end)
    assert room.journal.checkpoints(SITE)["alarms"] == end  # type: ignore[attr-defined]


def journal_of(database: Engine) -> list[tuple[object, ...]]:
    """Return what a history is compared by: every event, every ticket, every swipe."""
    columns = [alarm_event.c[name] for name in ("alarm_id", "kind", "is_accepted", "state", "event_ms", "hash")]
    with reading(database) as connection:
        events: list[tuple[object, ...]] = [
            tuple(row) for row in connection.execute(select(*columns).order_by(alarm_event.c.seq))
        ]
        query = select(ticket.c.number, ticket.c.equipment, ticket.c.state).order_by(ticket.c.number)
        events += [tuple(row) for row in connection.execute(query)]
        query2 = select(access_event.c.event_id).order_by(access_event.c.seq)
        events += [tuple(row) for row in connection.execute(query2)]
    return events


@pytest.mark.slow
def test_killed_again_and_again_it_comes_to_the_same_end(tmp_path: Path, database_url: str) -> None:
    """Kill -9 at ever later moments under load: the journal of alarms is the one of a run that nobody killed."""
    count = 150
    arguments = [sys.executable, "-m", "tests.alarms.engine_process", str(tmp_path / "a"), database_url, str(count)]
    kills = 0
    for round_ in range(8):
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        try:
            process.wait(0.1 + 0.1 * round_)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.stdout.close()
        process.wait()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, timeout=120)
    assert kills >= 3
    database = open_database(database_url)
    killed = journal_of(database)
    with reading(database) as connection:
        assert broken_alarm_event(connection, SITE) is None
        assert connection.execute(select(func.count()).select_from(ticket)).scalar_one() == count
        assert connection.execute(select(func.count()).select_from(alarm)).scalar_one() == count
    database.dispose()
    calm_url = f"sqlite:///{tmp_path / 'calm.sqlite'}"
    calm = [*arguments[:3], str(tmp_path / "b"), calm_url, str(count)]
    subprocess.run(calm, check=True, stdout=subprocess.DEVNULL, timeout=120)
    reference = open_database(calm_url)
    assert journal_of(reference) == killed
    reference.dispose()


@pytest.mark.postgres
def test_a_database_that_restarts_loses_nothing(tmp_path: Path, postgres_cluster: Cluster) -> None:
    """PostgreSQL goes away and comes back: judging goes on meanwhile, the status says so, everything is written."""
    database = open_database(postgres_cluster.database())
    room = Room(tmp_path, database)
    with room.running() as engine:
        room.judged(engine, room.tell(["RAISE", "WP-01", 1000]))
        postgres_cluster.stop()
        try:
            end = room.tell(["CLEAR", "WP-01", 2000], ["RAISE", "WP-02", 2000])
            until(lambda: engine.status()["state"] == "database_away", "the status must say so")
            later = room.tell(["RAISE", "DR-S1", 3000])
            until(lambda: engine.status()["offset"] == later, "judging must go on")
            assert engine.status()["unwritten"] >= 2
            assert engine.status()["problem"]
        finally:
            postgres_cluster.start()
        room.judged(engine, later)
        assert engine.status()["state"] == "running"
    assert end < later
    assert [row["kind"] for row in room.rows(alarm_event)] == ["RAISE", "CLEAR", "RAISE", "RAISE"]
    assert room.count(ticket) == 3
    room.journal.close()  # type: ignore[attr-defined]
    database.dispose()


def test_a_full_database_loses_nothing(tmp_path: Path) -> None:
    """The disk under SQLite is full for a while: the alarms wait in memory and journal and are written later."""
    database = open_database(f"sqlite:///{tmp_path / 'watchroom.sqlite'}")
    room = Room(tmp_path, database)
    names = tuple(name_of(index) for index in range(200))
    with room.running(room.engine(names)) as engine:
        room.judged(engine, room.tell(["RAISE", names[0], 1000]))
        limit(database, extra=3)
        end = room.tell(*[["RAISE", name, 1000] for name in names[1:]])
        until(lambda: engine.status()["state"] == "database_away", "the status must say so")
        assert "full" in engine.status()["problem"]
        assert room.count(alarm) == 1
        limit(database, extra=1_000_000)
        room.judged(engine, end)
    assert (room.count(alarm), room.count(ticket)) == (200, 200)
    room.journal.close()  # type: ignore[attr-defined]
    database.dispose()


def limit(database: Engine, *, extra: int) -> None:
    """Let the file grow by so many pages more, on every connection of the pool."""
    held = [database.raw_connection() for _ in range(8)]
    for connection in held:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + extra}")
    for connection in held:
        connection.close()
