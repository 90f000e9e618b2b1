"""What a frame goes through between the broker and the journal."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ingest.aside import Aside, Waiting
from ingest.batch import Batch
from ingest.ledger import EPOCHS_KEPT, Ledger
from ingest.quarantine import Quarantine
from tests.disk_shim import CrashDisk, PowerCut
from tests.ingest.sender import EPOCH, SITE, birth, birth_frame, events, header, heartbeat, loss, samples
from watchroom.births import BirthStore
from watchroom.disk import Disk, RealDisk
from watchroom.errors import StoreError
from watchroom.frames import Header, decode_header, encode_samples
from watchroom.journal import FileJournal

GATEWAY = "pump-house"


@dataclass
class Desk:
    """Everything a batch works with, on one disk."""

    folder: Path
    disk: Disk

    def __post_init__(self) -> None:
        self.journal = FileJournal(self.folder / "journal", disk=self.disk, segment_bytes=5_000)
        self.births = BirthStore(self.folder / "births", disk=self.disk)
        self.ledger = Ledger(self.folder / "received.json", disk=self.disk)
        self.ledger.load(self.journal, SITE)
        self.quarantine = Quarantine(self.folder / "bad", disk=self.disk, registry=CollectorRegistry())
        self.aside = Aside(self.folder / "waiting", disk=self.disk, limit=5)
        self.batch = Batch(
            SITE,
            self.journal,
            births=self.births,
            ledger=self.ledger,
            aside=self.aside,
            quarantine=self.quarantine,
        )

    def take(self, *payloads: bytes, leaf: str = "d", gateway: str = GATEWAY) -> None:
        for payload in payloads:
            self.batch.take(f"wr1/{SITE}/{gateway}/{leaf}", payload, 1)

    def numbers(self, gateway: str = GATEWAY) -> list[int]:
        """Return the numbers that stand in the journal, in order."""
        rows = self.journal.read(SITE, self.journal.begin(SITE), max_bytes=1 << 30)
        return [decode_header(row.payload).seq for row in rows if row.gateway == gateway]

    def received(self, gateway: str = GATEWAY) -> list[list[int]]:
        return list(self.ledger.of(gateway, EPOCH))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, RealDisk())
    yield made
    made.journal.close()


def test_what_came_since_the_last_answer_is_known(desk: Desk) -> None:
    """An acknowledgement can name what a gateway has just sent, repetitions too; another epoch begins anew."""
    desk.take(birth_frame(1, GATEWAY), samples(5), heartbeat())
    desk.batch.commit()
    assert list(desk.batch.recent(GATEWAY, EPOCH)) == [[1, 1], [5, 5]]
    desk.batch.answered(GATEWAY)
    assert not list(desk.batch.recent(GATEWAY, EPOCH))
    desk.take(samples(5))
    assert list(desk.batch.recent(GATEWAY, EPOCH)) == [[5, 5]]
    desk.take(birth_frame(2, GATEWAY, epoch=EPOCH + 1))
    assert not list(desk.batch.recent(GATEWAY, EPOCH))
    assert list(desk.batch.recent(GATEWAY, EPOCH + 1)) == [[2, 2]]


def test_good_frames_enter_the_journal_once(desk: Desk) -> None:
    """However often a frame is repeated, in one batch or later, one record stands in the journal."""
    desk.take(birth_frame(1, GATEWAY), samples(2), samples(2), events(3))
    assert desk.batch.commit() == {(GATEWAY, EPOCH): 4}
    desk.take(samples(2), samples(4))
    assert desk.batch.commit() == {(GATEWAY, EPOCH): 2}
    assert desk.numbers() == [1, 2, 3, 4]
    assert desk.received() == [[1, 4]]
    source = desk.batch.source(GATEWAY)
    assert (source.frames, source.samples, source.duplicates) == (4, 2, 2)


def test_a_repetition_alone_needs_no_sync(desk: Desk) -> None:
    """A gateway that missed an acknowledgement gets a new one, and the disk is left in peace."""
    desk.take(birth_frame(1, GATEWAY))
    desk.batch.commit()
    desk.take(birth_frame(1, GATEWAY))
    assert not desk.batch.must_sync
    assert desk.batch.commit() == {(GATEWAY, EPOCH): 1}


def test_nothing_counts_before_the_commit(desk: Desk) -> None:
    """A number is never acknowledged before its frame is durable."""
    desk.take(birth_frame(1, GATEWAY), samples(2))
    assert desk.received() == []
    assert desk.journal.end(SITE) == 0


def test_a_birth_is_known_before_its_frames_stand_in_the_journal(desk: Desk) -> None:
    """A reader that meets a frame can always look up what it means."""
    desk.take(birth_frame(1, GATEWAY), samples(2))
    assert BirthStore(desk.folder / "births").get(SITE, GATEWAY, EPOCH, 1) is not None


def test_heartbeats_stand_in_the_journal_and_force_nothing(desk: Desk) -> None:
    """A heartbeat moves the watermark; it is not worth a sync and is no outbox record."""
    desk.take(heartbeat())
    assert desk.batch.source(GATEWAY).early == 1
    desk.take(birth_frame(1, GATEWAY))
    desk.batch.commit()
    desk.take(heartbeat())
    assert not desk.batch.must_sync
    assert desk.batch.commit() == {}
    assert desk.numbers() == [1, 0]
    assert desk.batch.source(GATEWAY).heartbeats == 1


def test_a_frame_waits_for_its_birth_and_holds_up_nobody(desk: Desk) -> None:
    """Another gateway's frames go on; the waiting ones follow in order as soon as the birth is there."""
    desk.take(samples(4), samples(3))
    desk.take(birth_frame(1, "gate-east"), samples(2), gateway="gate-east")
    desk.batch.commit()
    assert (desk.numbers(), desk.numbers("gate-east")) == ([], [1, 2])
    assert desk.received() == []
    assert desk.aside.count(GATEWAY) == 2
    desk.take(birth_frame(1, GATEWAY))
    desk.batch.commit()
    assert desk.numbers() == [1, 3, 4]
    assert desk.received() == [[1, 1], [3, 4]]
    assert desk.aside.count(GATEWAY) == 0
    assert not list((desk.folder / "waiting").rglob("*.frame"))


def test_the_retained_birth_releases_waiting_frames_too(desk: Desk) -> None:
    """After a broker or a box was wiped the birth topic alone is enough."""
    desk.take(samples(2, schema=2))
    desk.take(json.dumps(birth(GATEWAY)).encode(), leaf="birth")
    desk.batch.commit()
    assert desk.numbers() == []
    desk.take(json.dumps(birth(GATEWAY, schema=2, signals=2)).encode(), leaf="birth")
    desk.batch.commit()
    assert desk.numbers() == [2]


def test_waiting_frames_outlive_a_restart(desk: Desk) -> None:
    """What waits is on the disk; a birth that came in between is found at the start."""
    desk.take(samples(2), samples(3))
    desk.batch.commit()
    desk.journal.close()
    desk.births.put(SITE, birth(GATEWAY))
    again = Desk(desk.folder, RealDisk())
    again.batch.release_waiting(5)
    again.batch.commit()
    assert again.numbers() == [2, 3]
    assert again.aside.count(GATEWAY) == 0
    again.journal.close()


def test_waiting_frames_are_bounded_for_each_gateway(desk: Desk) -> None:
    """A gateway without a birth cannot fill the disk; what does not fit is not acknowledged and comes again."""
    desk.take(*(samples(seq) for seq in range(2, 20)))
    desk.take(samples(2), gateway="gate-east")
    assert desk.aside.count(GATEWAY) == 5
    assert desk.aside.count("gate-east") == 1
    desk.take(birth_frame(1, GATEWAY))
    desk.batch.commit()
    assert desk.numbers() == [1, 2, 3, 4, 5, 6]
    desk.take(*(samples(seq) for seq in range(2, 20)))
    desk.batch.commit()
    assert desk.numbers() == list(range(1, 20))


def test_a_loss_record_closes_its_gaps(desk: Desk) -> None:
    """What a gateway had to give up is entered as received, and the loss itself stands in the journal."""
    desk.take(birth_frame(1, GATEWAY), samples(9), loss(10, [[2, 5], [7, 8]]))
    desk.batch.commit()
    assert desk.received() == [[1, 5], [7, 10]]
    assert desk.numbers() == [1, 9, 10]


def spoilt(payload: bytes) -> bytes:
    return payload[:-1] + bytes([payload[-1] ^ 1])


def with_lane(lane: int) -> bytes:
    head = Header(kind="D", lane=lane, epoch=EPOCH, seq=2, base_ms=0, complete_ms=0, schema=1)
    return encode_samples(head, alias=[], time_ms=[], value=[], quality=[])


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("wr1/spruce-court/pump-house/d", b"garbage", "length"),
        ("wr1/spruce-court/pump-house/d", spoilt(samples(2)), "crc"),
        ("wr1/spruce-court/pump-house/d", with_lane(2), "lane"),
        ("wr1/spruce-court/pump-house/d", samples(0), "seq"),
        ("wr1/spruce-court/pump-house/d", samples(2, flags=4), "seq"),
        ("wr1/spruce-court/pump-house/birth", b"{", "json"),
        ("wr1/spruce-court/pump-house/birth", b"[]", "json"),
        ("wr1/spruce-court/pump-house/birth", b"{}", "birth"),
        ("wr1/spruce-court/gate-east/birth", json.dumps(birth(GATEWAY)).encode(), "birth"),
        ("wr1/spruce-court/pump-house/status", b"\xff", "json"),
        ("wr1/spruce-court/pump-house/status", b'{"online":true,"epoch":"x"}', "epoch"),
        ("wr1/other-site/pump-house/d", samples(2), "topic"),
        ("wr1/spruce-court/../d", samples(2), "topic"),
        ("something/else", samples(2), "topic"),
        ("", samples(2), "topic"),
    ],
)
def test_rubbish_is_quarantined_and_the_rest_goes_on(desk: Desk, topic: str, payload: bytes, reason: str) -> None:
    """Garbage on any topic is kept, counted by reason, and the next frame passes as if nothing had been."""
    desk.take(birth_frame(1, GATEWAY))
    desk.batch.take(topic, payload, 1)
    desk.take(samples(3))
    desk.batch.commit()
    assert desk.quarantine.counts == {reason: 1}
    assert desk.numbers() == [1, 3]
    assert desk.received() == [[1, 1], [3, 3]]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (samples(2, alias=4), "alias"),
        (samples(2, quality=7), "quality"),
        (birth_frame(2, "gate-east"), "birth"),
        (events(2, kind="loss", fields={"ranges": [[5, 4]]}), "loss"),
        (events(2, kind="loss", fields={"ranges": "all"}), "loss"),
        (birth_frame(2, GATEWAY, signals=3), "birth"),
    ],
)
def test_a_bad_frame_with_a_right_checksum_does_not_block_its_sender(desk: Desk, payload: bytes, reason: str) -> None:
    """Its number can be trusted, so it is acknowledged, also after a restart; its content never reaches a reader."""
    desk.take(birth_frame(1, GATEWAY), payload, samples(3))
    desk.batch.commit()
    assert desk.quarantine.counts == {reason: 1}
    assert desk.numbers() == [1, 3]
    assert desk.received() == [[1, 3]]
    desk.journal.close()
    again = Desk(desk.folder, RealDisk())
    assert again.received() == [[1, 3]]
    again.journal.close()


def test_a_frame_of_a_newer_version_is_kept_and_acknowledged(desk: Desk) -> None:
    """A gateway that was updated before the centre is not held up; an operator finds its frames."""
    vectors = json.loads((Path(__file__).parent.parent / "contract" / "wr1.json").read_text(encoding="utf-8"))
    newer = next(bytes.fromhex(row["hex"]) for row in vectors["frames"] if row.get("error") == "version")
    desk.take(newer)
    desk.batch.commit()
    assert desk.quarantine.counts == {"version": 1}
    assert desk.received() == [[42, 42]]
    assert desk.numbers() == []


def test_status_says_who_is_there(desk: Desk) -> None:
    """The retained status, and the will of a dead gateway, show in the status of ingest."""
    assert desk.batch.source(GATEWAY).is_online is None
    desk.take(b'{"online":true,"epoch":"0123456789abcdef","time_ms":1}', leaf="status")
    assert desk.batch.source(GATEWAY).is_online is True
    assert desk.batch.source(GATEWAY).epoch == EPOCH
    desk.take(b'{"online":false}', leaf="status")
    desk.take(b"", leaf="status")
    desk.take(b"", leaf="birth")
    assert desk.batch.source(GATEWAY).to_json()["online"] is False
    assert not desk.quarantine.counts


def test_a_refused_sync_takes_nothing_in(tmp_path: Path) -> None:
    """While the disk refuses, nothing is acknowledged; afterwards the same messages pass once."""
    disk = CrashDisk(tmp_path / "morgue")
    desk = Desk(tmp_path, disk)
    desk.take(birth_frame(1, GATEWAY))
    desk.batch.commit()
    disk.refusing = {"sync"}
    for _ in range(3):
        desk.take(samples(2), samples(3))
        with pytest.raises(StoreError):
            desk.batch.commit()
        assert desk.received() == [[1, 1]]
    disk.refusing = set()
    desk.take(samples(2), samples(3))
    desk.batch.commit()
    assert desk.numbers() == [1, 2, 3]
    desk.journal.close()


# --- the ledger and crashes ------------------------------------------------------------------------------------


def test_the_sets_come_back_from_the_journal(desk: Desk) -> None:
    """Without any snapshot, and with one, a restart knows exactly what was received, losses included."""
    desk.take(birth_frame(1, GATEWAY), samples(2), samples(9), loss(10, [[3, 4]]))
    desk.take(birth_frame(1, "gate-east"), gateway="gate-east")
    desk.batch.commit()
    wanted = (desk.received(), desk.received("gate-east"))
    again = Ledger(desk.folder / "received.json", disk=RealDisk())
    assert again.load(desk.journal, SITE) == 5
    assert (list(again.of(GATEWAY, EPOCH)), list(again.of("gate-east", EPOCH))) == wanted
    again.save(5)
    final = Ledger(desk.folder / "received.json", disk=RealDisk())
    assert final.load(desk.journal, SITE) == 0
    assert (list(final.of(GATEWAY, EPOCH)), list(final.of("gate-east", EPOCH))) == wanted


@pytest.mark.parametrize("content", ["", "{", "[]", '{"offset":1}', '{"offset":1,"received":{"a":[["x",{}]]}}'])
def test_a_spoilt_snapshot_is_rebuilt(desk: Desk, content: str) -> None:
    """The journal is the truth; the snapshot only saves reading it."""
    desk.take(birth_frame(1, GATEWAY), samples(2))
    desk.batch.commit()
    (desk.folder / "received.json").write_text(content)
    again = Ledger(desk.folder / "received.json", disk=RealDisk())
    assert again.load(desk.journal, SITE) == 2
    assert list(again.of(GATEWAY, EPOCH)) == [[1, 2]]


def test_only_the_newest_outboxes_are_remembered(tmp_path: Path) -> None:
    """A gateway that is wiped again and again does not grow our memory."""
    ledger = Ledger(tmp_path / "received.json", disk=RealDisk())
    for epoch in range(1, EPOCHS_KEPT + 3):
        ledger.add(GATEWAY, epoch, [[1, epoch]])
    assert ledger.newest() == {GATEWAY: EPOCHS_KEPT + 2}
    assert [ledger.has(GATEWAY, epoch, 1) for epoch in range(1, EPOCHS_KEPT + 3)] == [False] * 2 + [True] * EPOCHS_KEPT


def test_a_waiting_frame_says_what_it_waits_for(tmp_path: Path) -> None:
    """Names of waiting frames survive the folder, whatever else lies there."""
    aside = Aside(tmp_path, disk=RealDisk())
    frame = Waiting(GATEWAY, EPOCH, 2, 7)
    assert aside.keep(frame, b"bytes")
    assert aside.keep(frame, b"bytes")
    (tmp_path / GATEWAY / "note.txt").write_text("x")
    again = Aside(tmp_path, disk=RealDisk())
    assert again.births_wanted() == {(GATEWAY, EPOCH, 2)}
    assert again.ready(GATEWAY, EPOCH, 2) == [(frame, b"bytes")]
    assert again.ready(GATEWAY, EPOCH, 1) == []


def script() -> list[tuple[str, bytes]]:
    """Return the messages of the crash test: everything that makes ingest touch its disk."""
    rows: list[tuple[str, bytes]] = [("d", samples(3)), ("d", samples(2)), ("u", birth_frame(1, GATEWAY))]
    rows += [("d", samples(seq)) for seq in range(4, 9)]
    rows += [("d", samples(9, alias=99)), ("d", b"garbage"), ("d", samples(14)), ("u", loss(15, [[10, 11]]))]
    rows += [("b", samples(12)), ("u", birth_frame(13, GATEWAY, schema=2)), ("d", samples(16, schema=2))]
    return rows


def run_script(folder: Path, disk: CrashDisk, acked: set[int]) -> None:
    """Take the script in, three messages a commit, and note what was acknowledged."""
    journal: Any = None
    try:
        desk = Desk(folder, disk)
        journal = desk.journal
        desk.batch.release_waiting(1)
        rows = script()
        for at in range(0, len(rows), 3):
            for leaf, payload in rows[at : at + 3]:
                desk.take(payload, leaf=leaf)
            desk.batch.commit()
            acked |= {seq for seq in range(1, 20) if desk.ledger.has(GATEWAY, EPOCH, seq)}
            if at == 6:
                desk.ledger.save(desk.journal.end(SITE))
    finally:
        if journal is not None:
            with suppress(PowerCut):
                journal.close()


@pytest.mark.parametrize("chance", range(3))
def test_what_was_acknowledged_is_stored_once_whatever_the_crash_point(tmp_path: Path, chance: int) -> None:
    """Cut the power before each step; the gateway sends again what was not acknowledged: all is there, once."""
    step, is_done = 0, False
    while not is_done:
        step += 1
        folder = tmp_path / f"d{step}"
        folder.mkdir()
        disk = CrashDisk(tmp_path / f"m{step}", cut_at=step)
        acked: set[int] = set()
        try:
            run_script(folder, disk, acked)
            is_done = True
        except PowerCut:
            pass
        disk.cut(random.Random(f"{chance} {step}"))
        check_after_crash(folder, acked)
    assert step > 60


def check_after_crash(folder: Path, acked: set[int]) -> None:
    desk = Desk(folder, RealDisk())
    desk.batch.release_waiting(1)
    desk.batch.commit()
    known = {seq for seq in range(1, 20) if desk.ledger.has(GATEWAY, EPOCH, seq)}
    assert acked <= known, f"acknowledged and forgotten: {acked - known}"
    stored = desk.numbers()
    # 9 was quarantined; 10 and 11 were given up by the gateway
    assert acked - {9, 10, 11} <= set(stored), f"acknowledged and lost: {acked - set(stored)}"
    for leaf, payload in script():
        desk.take(payload, leaf=leaf)
    desk.batch.commit()
    final = desk.numbers()
    assert sorted(final) == [1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15, 16], "each frame once"
    assert desk.received() == [[1, 16]]
    assert all(desk.births.get(SITE, GATEWAY, EPOCH, schema) for schema in (1, 2))
    assert desk.aside.count(GATEWAY) == 0
    desk.journal.close()


def test_header_of_the_sender_is_what_it_says() -> None:
    """The frames of these tests carry the numbers the tests talk about."""
    assert decode_header(samples(7, lane=0)).seq == header(7).seq == 7
    assert decode_header(heartbeat()).is_heartbeat
