"""Ingest between a real broker and a real journal."""

from __future__ import annotations

import itertools
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ingest.limits import RateLimit
from ingest.receive import HAVE_LIMIT, Receiver
from tests.brokers import Embedded, Mosquitto, embedded, mosquitto, until
from tests.disk_shim import CrashDisk, PowerCut
from tests.ingest.sender import EPOCH, SITE, Sender, birth_frame, heartbeat, loss, samples
from watchroom.births import BirthStore
from watchroom.clock import utc_ms
from watchroom.disk import Disk, RealDisk
from watchroom.frames import decode_header
from watchroom.journal import FileJournal, is_tick
from watchroom.settings import MqttSettings

AnyBroker = Mosquitto | Embedded


class Centre:
    """A running receiver with its journal; started and stopped as a test wants."""

    def __init__(
        self,
        folder: Path,
        broker: AnyBroker,
        *,
        disk: Disk | None = None,
        limit: RateLimit | None = None,
        readings: dict[str, float] | None = None,
    ) -> None:
        self.folder, self.broker = folder, broker
        self.disk: Disk = RealDisk() if disk is None else disk
        self.free = 1.0
        self.journal = FileJournal(folder / "journal", disk=self.disk, segment_bytes=200_000)
        self.registry = CollectorRegistry()
        self.receiver = Receiver(
            SITE,
            self.journal,
            births=BirthStore(folder / "births", disk=self.disk),
            settings=MqttSettings(port=broker.port, protocol=broker.protocol),  # type: ignore[arg-type]
            folder=folder / "ingest",
            disk=self.disk,
            now_ms=utc_ms,
            registry=self.registry,
            free_share=lambda: self.free,
            limit=limit,
            readings=None if readings is None else lambda: readings,
        )
        self.stop = threading.Event()
        self.died_of: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="ingest")

    def _run(self) -> None:
        try:
            self.receiver.run(self.stop)
        except PowerCut as exc:
            self.died_of = exc

    def __enter__(self) -> Centre:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        with suppress(PowerCut):
            self.journal.close()

    @property
    def status(self) -> dict[str, Any]:
        return self.receiver.status()

    def numbers(self, gateway: str = "pump-house") -> list[int]:
        return numbers(self.journal, gateway)


def numbers(journal: FileJournal, gateway: str) -> list[int]:
    """Return the outbox numbers of a gateway in the journal, in order."""
    found: list[int] = []
    offset = journal.begin(SITE)
    while records := journal.read(SITE, offset):
        found += [decode_header(row.payload).seq for row in records if row.gateway == gateway]
        offset = records[-1].offset + 1
    return [seq for seq in found if seq]


@contextmanager
def sending(broker: AnyBroker, gateway: str = "pump-house") -> Iterator[Sender]:
    sender = Sender(gateway, broker.port, protocol=broker.protocol)
    sender.link.start()
    until(lambda: sender.link.is_up, "the sender is up")
    try:
        yield sender
    finally:
        sender.link.stop()


def deliver(sender: Sender, last: int, timeout_s: float = 40.0) -> None:
    """Send again what is missing until everything up to last is acknowledged."""
    deadline = time.monotonic() + timeout_s
    while sender.acked.upto < last:
        assert time.monotonic() < deadline, f"acknowledged {sender.acked} of {last}"
        sender.resend()
        with suppress(AssertionError):
            until(lambda: sender.acked.upto >= last, "acknowledged", 0.5)


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyBroker]:
    with mosquitto(tmp_path) if request.param == "mosquitto" else embedded() as made:
        yield made


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as made:
        yield made


def test_frames_reach_the_journal_and_are_acknowledged(broker: AnyBroker, tmp_path: Path) -> None:
    """Whatever the broker: each frame stands once in the journal, and the gateway is told so."""
    with Centre(tmp_path, broker) as centre, sending(broker) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.put(1, birth_frame(1, "pump-house"))
        for seq in range(2, 101):
            sender.put(seq, samples(seq))
        deliver(sender, 100)
        assert sorted(centre.numbers()) == list(range(1, 101))
        assert sender.acks[-1] == {"epoch": "0123456789abcdef", "upto": 100, "have": []}
        gateway = centre.status["gateways"]["pump-house"]
        assert (gateway["frames"], gateway["samples"], gateway["gaps"]) == (100, 99, 0)
    assert len(sender.acks) < 60


def test_the_acknowledgement_waits_for_the_gateway(real: Mosquitto, tmp_path: Path) -> None:
    """A gateway that starts later finds on the broker what it may forget; a wiped broker gets it again."""
    with Centre(tmp_path, real) as centre:
        until(lambda: centre.status["broker"], "ingest is up")
        with sending(real) as sender:
            sender.put(1, birth_frame(1, "pump-house"))
            deliver(sender, 1)
        with sending(real) as sender:
            until(lambda: sender.acked.upto == 1, "the retained acknowledgement came")
        real.kill(wipe=True)
        until(lambda: not centre.status["broker"], "the broker is gone")
        real.start()
        with sending(real) as sender:
            until(lambda: sender.acked.upto == 1, "published again to the wiped broker")


def test_gaps_and_losses(real: Mosquitto, tmp_path: Path) -> None:
    """Live frames pass the backlog; what the gateway gave up closes the gap."""
    with Centre(tmp_path, real) as centre, sending(real) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.send("u", birth_frame(1, "pump-house"))
        sender.send("d", samples(7))
        until(lambda: 7 in sender.acked, "the live frame is acknowledged")
        assert sender.acks[-1]["have"] == [[7, 7]]
        gateway = centre.status["gateways"]["pump-house"]
        assert (gateway["gaps"], gateway["backlog"]) == (1, 5)
        sender.send("b", samples(2))
        sender.send("u", loss(8, [[3, 6]]))
        until(lambda: sender.acked.upto == 8, "nothing is missing")
        assert centre.numbers() == [1, 7, 2, 8]


def test_the_centres_clock_stands_in_the_journal(real: Mosquitto, tmp_path: Path) -> None:
    """A tick each second, the first before any frame, durable soon without a frame to carry it."""
    with Centre(tmp_path, real) as centre:
        assert centre.journal.wait(SITE, 2, 10), "three ticks"
        rows = centre.journal.read(SITE, 0)
    assert all(is_tick(row) for row in rows)
    pauses = [after.arrived_ms - before.arrived_ms for before, after in itertools.pairwise(rows)]
    assert all(900 <= pause < 3000 for pause in pauses), pauses


def test_heartbeats_are_stored_soon_and_never_acknowledged(real: Mosquitto, tmp_path: Path) -> None:
    """A heartbeat moves the watermark within a quarter of a second and costs no acknowledgement."""
    with Centre(tmp_path, real) as centre, sending(real) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.send("u", birth_frame(1, "pump-house"))
        until(lambda: sender.acked.upto == 1, "the birth is acknowledged")
        acks = len(sender.acks)
        sender.send("d", heartbeat(), qos=0)
        until(lambda: _heartbeats(centre) == 1, "the heartbeat is in the journal", 3)
        assert len(sender.acks) == acks
        assert centre.status["gateways"]["pump-house"]["heartbeats"] == 1


def _heartbeats(centre: Centre) -> int:
    rows = centre.journal.read(SITE, 0)
    return sum(decode_header(row.payload).is_heartbeat for row in rows if row.gateway)


def test_rubbish_from_one_sender_disturbs_nobody(real: Mosquitto, tmp_path: Path) -> None:
    """Garbage on the site's topics is counted and kept; frames beside it pass."""
    with Centre(tmp_path, real) as centre, sending(real) as sender, sending(real, "mad") as mad:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.put(1, birth_frame(1, "pump-house"))
        chance = random.Random(1)
        for seq in range(2, 40):
            mad.send(chance.choice(["d", "u", "b", "birth", "status"]), chance.randbytes(chance.randint(1, 300)))
            sender.put(seq, samples(seq))
        deliver(sender, 39)
        until(lambda: sum(centre.status["quarantined"].values()) == 38, "all rubbish counted")
        assert set(centre.status["quarantined"]) <= {"length", "json", "magic"}
    assert list((tmp_path / "ingest" / "quarantine").glob("*.bad"))


def test_a_full_disk_stops_the_acknowledgements_and_nothing_else(real: Mosquitto, tmp_path: Path) -> None:
    """With 95 % of the disk in use gateways keep their frames; when there is room they come in, once."""
    with Centre(tmp_path, real) as centre, sending(real) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.put(1, birth_frame(1, "pump-house"))
        deliver(sender, 1)
        centre.free = 0.04
        until(lambda: centre.status["is_full"], "the full disk is noticed")
        assert centre.status["disk_free"] == 0.04
        for seq in range(2, 30):
            sender.put(seq, samples(seq))
        until(lambda: sender.link.unconfirmed == 0, "the broker has them")
        until(lambda: centre.status["queue"] > 0, "they wait")
        assert sender.acked.upto == 1
        assert centre.numbers() == [1]
        centre.free = 0.06
        deliver(sender, 29)
        assert centre.numbers() == list(range(1, 30))


def test_a_disk_that_refuses_for_a_while_loses_nothing(real: Mosquitto, tmp_path: Path) -> None:
    """Failed syncs are tried again with the same frames; nothing is acknowledged before, nothing stands twice."""
    disk = CrashDisk(tmp_path / "morgue")
    with Centre(tmp_path, real, disk=disk) as centre, sending(real) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.put(1, birth_frame(1, "pump-house"))
        deliver(sender, 1)
        disk.refusing = {"sync"}
        for seq in range(2, 20):
            sender.put(seq, samples(seq))
        steps = disk.steps
        until(lambda: disk.steps > steps + 3, "tried more than once")
        assert sender.acked.upto == 1
        disk.refusing = set()
        deliver(sender, 19)
        assert centre.numbers() == list(range(1, 20))


def test_a_restart_knows_what_it_received(real: Mosquitto, tmp_path: Path) -> None:
    """After an orderly stop the repeated frames are dropped and acknowledged, not stored twice."""
    for round_ in range(3):
        with Centre(tmp_path, real) as centre, sending(real) as sender:
            until(lambda: centre.status["broker"], "ingest is up")
            sender.put(1, birth_frame(1, "pump-house"))
            for seq in range(2, 20 + round_ * 10):
                sender.put(seq, samples(seq))
            deliver(sender, 19 + round_ * 10)
            assert centre.numbers() == list(range(1, 20 + round_ * 10))


def test_a_frame_is_durable_within_milliseconds(real: Mosquitto, tmp_path: Path) -> None:
    """From publishing to the journal nothing waits for a timer: an alarm's first step is as fast as the disk."""
    with Centre(tmp_path, real) as centre, sending(real) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.put(1, birth_frame(1, "pump-house"))
        deliver(sender, 1)
        taken = []
        for seq in range(2, 60):
            offset = centre.journal.end(SITE)
            begun = time.perf_counter()
            sender.send("u", samples(seq))
            while not any(row.gateway for row in centre.journal.read(SITE, offset)):
                offset = centre.journal.end(SITE)
                assert centre.journal.wait(SITE, offset, 5)
            taken.append(time.perf_counter() - begun)
    # measured 1 ms on an idle box; anything that waits for a timer would be 100 ms and more
    assert statistics.median(taken) < 0.05


@pytest.mark.parametrize("wipe_broker", [False, True], ids=["broker lives", "broker wiped"])
def test_kill_9_under_load_loses_and_doubles_nothing(real: Mosquitto, tmp_path: Path, wipe_broker: bool) -> None:
    """Killed ten times in the middle of the stream: every frame the gateways committed is stored exactly once."""
    gateways, count = ["pump-house", "gate-east"], 600
    command = [sys.executable, "-m", "tests.ingest.receiver_process", str(real.port), str(tmp_path)]
    chance = random.Random(7)
    with sending(real, gateways[0]) as one, sending(real, gateways[1]) as two:
        senders = [one, two]
        sent = 0
        for kill in range(10):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                goal = (kill + 1) * count // 10
                for seq in range(sent + 1, goal + 1):
                    for sender in senders:
                        sender.put(seq, samples(seq) if seq > 1 else birth_frame(1, sender.gateway))
                sent = goal
                wanted = chance.randint(goal // 2, goal - 5)
                until(_progress(senders, wanted), f"{wanted} of {goal} acknowledged", 30)
                process.kill()
            if wipe_broker and kill % 3 == 1:
                real.kill(wipe=True)
                real.start()
                until(lambda: all(sender.link.is_up for sender in senders), "the senders are back")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            for sender in senders:
                deliver(sender, count)
            process.terminate()
            assert process.wait(20) == 0
    journal = FileJournal(tmp_path / "journal", read_only=True)
    for gateway in gateways:
        stored = Counter(numbers(journal, gateway))
        assert stored == dict.fromkeys(range(1, count + 1), 1)


def _progress(senders: list[Sender], wanted: int) -> Callable[[], bool]:
    """Return a claim that resends now and then, and holds once that many frames are acknowledged everywhere."""
    last = time.monotonic()

    def claim() -> bool:
        nonlocal last
        if time.monotonic() - last > 0.7:
            last = time.monotonic()
            for sender in senders:
                sender.resend()
        return all(len(sender.acked) >= wanted for sender in senders)

    return claim


def test_power_cuts_under_load_lose_and_double_nothing(real: Mosquitto, tmp_path: Path) -> None:
    """The same over a disk that forgets what was not synced: what was acknowledged was really durable."""
    chance, sent = random.Random(3), 0
    with sending(real) as sender:
        for cut in range(6):
            disk = CrashDisk(tmp_path / f"morgue-{cut}", cut_at=chance.randint(20, 60))
            with Centre(tmp_path, real, disk=disk) as centre:
                until(lambda: centre.status["broker"] or centre.died_of, "ingest is up")
                while not centre.died_of:
                    for _ in range(5):
                        sent += 1
                        sender.put(sent, samples(sent) if sent > 1 else birth_frame(1, "pump-house"))
                    until(_heard(sender, sent, centre), "acknowledged, or the power is gone", 30)
            disk.cut(chance)
            journal = FileJournal(tmp_path / "journal")
            stored = set(numbers(journal, "pump-house"))
            journal.close()
            lost = [seq for seq in range(1, sent + 1) if seq in sender.acked and seq not in stored]
            assert not lost, f"acknowledged and lost in cut {cut}: {lost}"
        with Centre(tmp_path, real) as centre:
            deliver(sender, sent)
            assert Counter(centre.numbers()) == dict.fromkeys(range(1, sent + 1), 1)
    assert sent > 30


def _heard(sender: Sender, seq: int, centre: Centre) -> Callable[[], object]:
    """Return a claim: this frame is acknowledged, or nobody is there to do it; sends again now and then."""
    last = time.monotonic()

    def claim() -> object:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            sender.resend()
        return seq in sender.acked or centre.died_of

    return claim


def test_more_gaps_than_an_acknowledgement_holds_stop_nobody(real: Mosquitto, tmp_path: Path) -> None:
    """A gateway that catches up urgent frames first leaves a gap at each old one; it still hears of all it sends."""
    wanted = [1, *range(3, 4 * HAVE_LIMIT, 2)]
    with Centre(tmp_path, real) as centre, sending(real) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        for seq in wanted:
            sender.put(seq, samples(seq) if seq > 1 else birth_frame(1, "pump-house"))
        until(_progress([sender], len(wanted)), "every frame is acknowledged", 30)


def test_a_gateway_in_a_loop_starves_nobody(real: Mosquitto, tmp_path: Path) -> None:
    """One gateway sends without end: it is thinned, counted, told; the others' frames and its own urgent ones pass."""
    limit = RateLimit(messages_per_s=20, bytes_per_s=1e6)
    with (
        Centre(tmp_path, real, limit=limit, readings={}) as centre,
        sending(real) as sender,
        sending(real, "mad") as mad,
    ):
        until(lambda: centre.status["broker"], "ingest is up")
        mad.send("u", birth_frame(1, "mad"))
        sender.put(1, birth_frame(1, "pump-house"))
        for seq in range(2, 2002):
            mad.send("d", samples(seq))
            if seq % 100 == 0:
                sender.put(seq // 100, samples(seq // 100))
        mad.send("u", samples(5000, lane=0))
        deliver(sender, 20)
        until(lambda: 5000 in numbers(centre.journal, "mad"), "its urgent frame passes")
        until(lambda: centre.status["gateways"]["mad"]["thinned"] > 1000, "counted")
        assert centre.status["limited"] == ["mad"]
        assert "gateways.limited" in centre.status["problems"]
        assert centre.status["gateways"]["pump-house"]["thinned"] == 0
        received = numbers(centre.journal, "mad")
        assert centre.status["gateways"]["mad"]["thinned"] + len(received) == 2002
        # nothing durable is lost: what was thinned is not acknowledged, so the gateway sends it again
        until(lambda: all(seq in mad.acked for seq in received), "acknowledged is what is in the journal")
        assert not any(seq in mad.acked for seq in range(2, 2002) if seq not in received)


def test_figures_are_counted(real: Mosquitto, tmp_path: Path) -> None:
    """A scraper sees frames by gateway, the time of syncs, and how many messages wait."""
    with Centre(tmp_path, real) as centre, sending(real) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.put(1, birth_frame(1, "pump-house"))
        deliver(sender, 1)
        found = centre.registry.get_sample_value
        assert (found("watchroom_ingest_frames_total", {"gateway": "pump-house"}) or 0) >= 1
        assert (found("watchroom_journal_sync_seconds_count") or 0) >= 1
        assert found("watchroom_ingest_queue") == 0
    assert centre.status["gateways"]["pump-house"]["epoch"] == f"{EPOCH:016x}"
