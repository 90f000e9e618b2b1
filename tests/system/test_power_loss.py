"""Power loss instead of kill: gateway and centre lose whatever was not synced, at any step, again and again.

The chain runs in this process with the product's own parts: framer and outbox at the edge; intake, journal, births,
ledger of received numbers, alarm engine and SQL at the centre. Between them a network that loses, repeats and
disorders. What is covered, and by what:

* journal, births, ledger, waiting frames, the engine's checkpoint, the outbox: every write, sync, rename and folder
  through `CrashDisk`;
* SQLite (alarms, tickets, access log, position): every write, truncation and sync of database and write-ahead log
  through `SqliteShim`, so ``synchronous=FULL`` is tested, not trusted;
* DuckDB: its files as they are after each commit, followed by any piece of what the next commit wrote, whole, torn or
  rubbish; a log with a hole is put aside and the journal fills the history again. That DuckDB syncs its log before a
  commit returns is trusted, and its own checkpoints are not cut;
* not covered: a disk that lies about syncs, PostgreSQL (its own business), the MQTT broker (it may lose
  everything anyway: ``test_kill``).
"""

from __future__ import annotations

import itertools
import random
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import DBAPIError

from alarms.engine import AlarmEngine
from alarms.rules import compile_rules
from alarms.templates import load_templates
from gateway.check import library_for
from gateway.config import load_gateway, signals_of
from gateway.framing import Framer
from gateway.outbox import Outbox
from gateway.report import Samples
from ingest.aside import Aside
from ingest.batch import Batch
from ingest.duckdb_store import DuckStore
from ingest.ledger import Ledger
from ingest.quarantine import Quarantine
from ingest.store import SampleBatch
from tests.disk_shim import CrashDisk, PowerCut
from tests.system.evidence import (
    Key,
    check_accesses,
    check_alarms,
    check_journal,
    check_tickets,
    digest,
    journal_records,
    judged_offline,
)
from tests.system.harm_site import DOOR, GATEWAY, SITE, SUMPS, write_site
from tests.system.room import until
from tests.system.sqlite_shim import SqliteShim, library
from watchroom.births import Birth, BirthStore
from watchroom.database.connect import open_database
from watchroom.disk import Disk
from watchroom.errors import StoreError
from watchroom.frames import Event
from watchroom.intervals import IntervalSet
from watchroom.journal import FileJournal
from watchroom.signals import Lane
from watchroom.site import load_site

START_MS = 1_763_800_000_000
HAVE = 8
"""Ranges in an acknowledgement here: few, so that leaving some out is tested too."""


class Clock:
    """The only clock of both sides; moves when something happens."""

    def __init__(self) -> None:
        self.ms = START_MS

    def tick(self) -> int:
        self.ms += 40
        return self.ms


class Edge:
    """The gateway's durable half on one disk.

    Args:
        folder: Of the outbox.
        disk: May lose its power.
        clock: The time.
        birth: What its aliases mean; the epoch comes from the outbox.
    """

    def __init__(self, folder: Path, disk: Disk, *, clock: Clock, birth: Birth) -> None:
        self._clock = clock
        self.outbox = Outbox(folder / "gateway" / GATEWAY / "outbox", disk=disk, segment_bytes=4_000)
        self._framer = Framer(self.outbox, is_simulated=True, clock_gen=1)
        content = birth.to_json() | {"epoch": f"{self.outbox.epoch:016x}"}
        self._framer.birth(content, schema=1, now_ms=clock.ms)
        self._alias = {signal.key: signal.alias for signal in birth.signals}

    def sample(self, key: str, value: float, lane: Lane) -> None:
        """Put one sample into the outbox."""
        now_ms = self._clock.tick()
        column = np.array([self._alias[key]], dtype=np.int64)
        samples = Samples(
            alias=column, time_ms=np.array([now_ms]), value=np.array([value]), quality=np.zeros(1, dtype=np.uint8)
        )
        self._framer.samples(lane, samples, complete_ms=now_ms)

    def swipe(self, name: str) -> None:
        """Put one card event into the outbox."""
        now_ms = self._clock.tick()
        fields = {"method": "card", "result": "granted"}
        event = Event(id=name, kind="access", equipment=DOOR, time_ms=now_ms, seen_ms=now_ms, fields=fields)
        self._framer.events([event], complete_ms=now_ms)

    def unacknowledged(self) -> list[int]:
        """Return what is still to be delivered."""
        return self.outbox.held(1, self.outbox.committed_seq, limit=10_000)


class Centre:
    """Ingest's receiving path and the alarm engine on one disk; the engine runs in its own threads.

    Args:
        folder: Data folder.
        disk: May lose its power.
        clock: The time.
        site_folder: The site files.
    """

    def __init__(self, folder: Path, disk: CrashDisk, *, clock: Clock, site_folder: Path) -> None:
        self._disk, self._clock = disk, clock
        self.stop, self.died_of = threading.Event(), list[BaseException]()
        self._threads: list[threading.Thread] = []
        self.database = open_database(f"sqlite:///{folder / 'watchroom.sqlite'}")
        self.journal = FileJournal(folder / "journal", disk=disk, segment_bytes=6_000)
        self.births = BirthStore(folder / "births", disk=disk)
        disk.make_folder(folder / "ingest")
        self.ledger = Ledger(folder / "ingest" / "received.json", disk=disk)
        self.ledger.load(self.journal, SITE)
        quarantine = Quarantine(folder / "ingest" / "quarantine", disk=disk, registry=CollectorRegistry())
        aside = Aside(folder / "ingest" / "waiting", disk=disk)
        self.batch = Batch(
            SITE, self.journal, births=self.births, ledger=self.ledger, aside=aside, quarantine=quarantine
        )
        self.batch.release_waiting(clock.ms)
        site = load_site(site_folder)
        self.engine = AlarmEngine(
            site,
            compile_rules(site, load_templates()),
            journal=self.journal,
            births=self.births,
            database=self.database,
            folder=folder / "alarms",
            disk=disk,
            on_commit=lambda feed_seq: None,
            now_ms=lambda: clock.ms,
            registry=CollectorRegistry(),
        )
        self._threads.append(threading.Thread(target=self._judge, name="judge"))
        self._threads[0].start()

    def receive(self, payload: bytes) -> None:
        """Take in one frame."""
        self.batch.take(f"wr1/{SITE}/{GATEWAY}/d", payload, self._clock.tick())

    def tick(self) -> None:
        """The centre's second."""
        self.journal.append(SITE, "", b"", arrived_ms=self._clock.tick())
        self.batch.commit()

    def snapshot(self) -> None:
        """Keep the received numbers beside the journal, as ingest does every half minute."""
        self.batch.commit()
        self.ledger.save(self.journal.end(SITE))

    def acknowledgement(self, epoch: int) -> IntervalSet:
        """Return what the centre says it has."""
        self.batch.commit()
        recent = self.batch.recent(GATEWAY, epoch)
        content = self.ledger.of(GATEWAY, epoch).to_json(HAVE, near=recent)
        self.batch.answered(GATEWAY)
        return IntervalSet.from_json(content)

    def end(self) -> None:
        """End threads and connections; the files are then nobody's."""
        self.stop.set()
        self.engine.wake()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        with suppress(PowerCut, StoreError):
            self.journal.close()
        self.database.dispose()

    def _judge(self) -> None:
        try:
            self.engine.run(self.stop)
        except BaseException as exc:
            self.died_of.append(exc)


class World:
    """Both sides over many lives, and what was promised.

    Args:
        folder: Of the test.
        seed: Of everything that is left to chance.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.folder, self.data, self.edge_folder = folder, folder / "data", folder / "edge"
        for path in (self.data, self.edge_folder / "gateway" / GATEWAY):
            path.mkdir(parents=True)
        self.site = folder / "site"
        file = write_site(self.site, modbus_port=1, mqtt_port=2)
        self._birth = Birth(
            gateway=GATEWAY,
            epoch=0,
            schema=1,
            time_ms=START_MS,
            heartbeat_s=1,
            version="test",
            signals=signals_of(load_gateway(file, models=library_for(self.site))),
        )
        self.clock, self.committed, self.swiped = Clock(), dict[Key, bytes](), 0
        self._value, self._morgues = dict.fromkeys(SUMPS, 0.0), 0
        self._wire: list[bytes] = []
        self.cuts = {"edge": 0, "centre": 0}

    def disk(self, cut_at: int | None) -> CrashDisk:
        """Return a disk whose power goes at a step."""
        self._morgues += 1
        return CrashDisk(self.folder / f"morgue-{self._morgues}", cut_at=cut_at)

    def raise_edge(self, cut_at: int | None) -> tuple[Edge, CrashDisk]:
        """Start the gateway; a cut during the start is one more cut."""
        while True:
            disk = self.disk(cut_at)
            try:
                return Edge(self.edge_folder, disk, clock=self.clock, birth=self._birth), disk
            except PowerCut:
                disk.cut(self.chance)
                self.cuts["edge"] += 1
                cut_at = None if cut_at is None else cut_at + 20

    def act(self, edge: Edge, centre: Centre) -> None:
        """Let one thing happen somewhere."""
        chance = self.chance.random()
        if chance < 0.35:
            self._measure(edge)
        elif chance < 0.6:
            for frame in edge.outbox.commit():
                self.committed[GATEWAY, edge.outbox.epoch, frame.seq] = digest(frame.payload)
                self._wire.append(frame.payload)
        elif chance < 0.8:
            self._deliver(edge, centre)
        elif chance < 0.95:
            acked = centre.acknowledgement(edge.outbox.epoch)
            if self.chance.random() < 0.7:
                edge.outbox.acknowledge(acked)
        elif chance < 0.97:
            centre.snapshot()
        else:
            centre.tick()

    def _measure(self, edge: Edge) -> None:
        fate = self.chance.random()
        if fate < 0.4:
            key = self.chance.choice(list(SUMPS))
            self._value[key] = 1 - self._value[key]
            edge.sample(f"{key}/float_high", self._value[key], Lane.URGENT)
        elif fate < 0.7:
            edge.sample("M-01/v1", self.clock.ms - START_MS, Lane.TELEMETRY)
        else:
            self.swiped += 1
            edge.swipe(f"swipe-{self.swiped}")

    def _deliver(self, edge: Edge, centre: Centre) -> None:
        """The network: some of what is on its way arrives, in any order, some twice; some of the old comes again."""
        again = self.chance.sample(held := edge.unacknowledged(), min(3, len(held)))
        self._wire += [payload for seq in again if (payload := edge.outbox.read(seq)) is not None]
        self.chance.shuffle(self._wire)
        for payload in self._wire[: self.chance.randint(1, 12)]:
            centre.receive(payload)
        self._wire = self._wire[self.chance.randint(0, 12) :]

    def live(self, edge_cut: int | None, centre_cut: int | None) -> None:
        """One life of the centre, in which the edge may die too, until the power goes."""
        disk = self.disk(centre_cut)
        with SqliteShim(self.data, disk.step) as sqlite:
            centre: Centre | None = None
            edge, edge_disk = self.raise_edge(edge_cut)
            try:
                centre = Centre(self.data, disk, clock=self.clock, site_folder=self.site)
                for _ in range(250):
                    try:
                        self.act(edge, centre)
                    except PowerCut:
                        if not edge_disk.is_dead:
                            raise
                        self._cut_edge(edge, edge_disk)
                        edge, edge_disk = self.raise_edge(None)
                    if centre.died_of:
                        break
            except (PowerCut, StoreError, DBAPIError):
                assert disk.is_dead
            disk.is_dead = True
            if centre is not None:
                centre.end()
            sqlite.cut(self.chance)
            disk.cut(self.chance)
            self.cuts["centre"] += 1
        self._cut_edge(edge, edge_disk) if self.chance.random() < 0.5 else edge.outbox.close()
        self._wire = [] if self.chance.random() < 0.5 else self._wire

    def _cut_edge(self, edge: Edge, disk: CrashDisk) -> None:
        edge.outbox.close()
        disk.cut(self.chance)
        self.cuts["edge"] += 1

    def rest(self) -> Centre:
        """The power stays: everything is delivered and judged."""
        edge, _ = self.raise_edge(None)
        centre = Centre(self.data, self.disk(None), clock=self.clock, site_folder=self.site)
        for frame in edge.outbox.commit():
            self.committed[GATEWAY, edge.outbox.epoch, frame.seq] = digest(frame.payload)
        while held := edge.unacknowledged():
            for seq in held[:64]:
                centre.receive(edge.outbox.read(seq) or b"")
            assert edge.outbox.acknowledge(centre.acknowledgement(edge.outbox.epoch)), "nothing moves any more"
        centre.tick()
        end = centre.journal.end(SITE)
        until("all is judged", lambda: centre.died_of or centre.engine.status()["committed"] >= end)
        centre.end()
        assert not centre.died_of
        edge.outbox.close()
        return centre


needs_library = pytest.mark.skipif(
    library() is None, reason="this Python has SQLite built in; its files cannot be watched"
)


@needs_library
@pytest.mark.parametrize("seed", range(4))
def test_power_cuts_at_any_step_on_both_sides(tmp_path: Path, seed: int) -> None:
    """Whatever loses its power, whenever: what the outbox called committed is stored once and judged once."""
    world = World(tmp_path, seed)
    for _ in range(8):
        edge_cut = world.chance.choice([None, world.chance.randint(1, 150)])
        world.live(edge_cut, world.chance.randint(1, 700))
    world.rest()
    records = journal_records(world.data, SITE)
    check_journal(records, world.committed, may_skip=True)
    judged = judged_offline(world.site, BirthStore(world.data / "births"), records)
    url = f"sqlite:///{world.data / 'watchroom.sqlite'}"
    alarms = check_alarms(url, SITE, judged, records=records)
    check_accesses(url, SITE, set(), records)
    assert check_tickets(url, SITE) >= 2
    assert alarms > 10
    assert len(world.committed) > 200
    assert world.cuts["centre"] == 8
    assert world.cuts["edge"] > 2


ROWS = 50


def _history_batch(number: int) -> SampleBatch:
    return SampleBatch(
        keys=("M-01/v1",),
        series=np.zeros(ROWS, dtype=np.uint32),
        time_ms=np.arange(ROWS, dtype=np.int64) + number * ROWS,
        value=np.arange(ROWS, dtype=np.float64),
        quality=np.zeros(ROWS, dtype=np.uint8),
    )


def _history_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _tails(before: bytes, after: bytes, chance: random.Random) -> list[bytes]:
    """Return what a power cut may leave of a commit behind the one before it."""
    loose = after[len(before) :]
    spoiled = bytearray(loose)
    spoiled[chance.randrange(len(loose))] ^= 1 << chance.randrange(8)
    pieces = [loose[: chance.randrange(len(loose))] for _ in range(4)]
    return [b"", loose, bytes(len(loose)), chance.randbytes(len(loose)), bytes(spoiled), *pieces]


def test_a_torn_commit_of_the_history(tmp_path: Path) -> None:
    """After a power cut in a commit the history opens by itself, never with a part of a batch, and goes on."""
    chance = random.Random(1)
    (tmp_path / "live").mkdir()
    store, states = DuckStore(tmp_path / "live" / "history.duckdb"), list[dict[str, bytes]]()
    store.open()
    for number in range(6):
        store.write(_history_batch(number), position=number + 1)
        states.append(_history_files(tmp_path / "live"))
    store.close()
    assert {len(state) for state in states} == {2}, "database and log"
    wrong: list[str] = []
    for number, (before, after) in enumerate(itertools.pairwise(states), start=1):
        wal = next(name for name in before if name.endswith(".wal"))
        assert after[wal].startswith(before[wal])
        for kind, tail in enumerate(_tails(before[wal], after[wal], chance)):
            found = _opened(tmp_path / f"{number}-{kind}", before | {wal: before[wal] + tail}, number)
            wrong += [f"cut {kind} after commit {number}: {found}"] if found else []
    assert not wrong, "\n".join(wrong)


def _opened(folder: Path, files: dict[str, bytes], number: int) -> str:
    """Return what is wrong with a history found in these files; empty if nothing is."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    store = DuckStore(folder / "history.duckdb")
    try:
        store.open()
        position = store.position()
        # behind a damaged log the journal fills the history again, from an earlier position
        first = 0 if list(folder.glob("*.damaged")) else number
        if not first <= position <= number + 1 or _rows(store) != position * ROWS:
            return f"position {position}, {_rows(store)} rows"
        store.write(_history_batch(position), position=position + 1)
        return "" if _rows(store) == (position + 1) * ROWS else "the next batch is not there"
    except StoreError as exc:
        return str(exc)
    finally:
        store.close()


def _rows(store: DuckStore) -> int:
    return sum(store.range(["M-01/v1"], start_ms=0, end_ms=1 << 40, buckets=1)["M-01/v1"].count)
