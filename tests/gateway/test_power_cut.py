"""The outbox when the power goes in the middle of any step on the disk."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.outbox import Outbox
from tests.disk_shim import CrashDisk, PowerCut
from watchroom.signals import Lane


class Life:
    """An outbox over several lives of its machine, and what the world knows about it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._chance = folder, random.Random(seed)
        (folder / "outbox").mkdir()
        self.published: dict[int, bytes] = {}
        self.acked: set[int] = set()
        self.told: set[int] = set()
        self.epoch: int | None = None
        self._lives = 0

    def live(self, cut_at: int | None) -> None:
        """Use the outbox until the power goes at a step, or for a while."""
        disk = self._disk(cut_at)
        try:
            outbox = self._open(disk)
            for _ in range(60):
                self._act(outbox)
        except PowerCut:
            pass
        disk.cut(self._chance)

    def rise(self) -> Outbox:
        """Return the outbox of a machine whose power stays."""
        return self._open(self._disk(None))

    def _disk(self, cut_at: int | None) -> CrashDisk:
        self._lives += 1
        return CrashDisk(self._folder / f"morgue-{self._lives}", cut_at=cut_at)

    def _open(self, disk: CrashDisk) -> Outbox:
        outbox = Outbox(self._folder / "outbox", disk=disk, capacity_bytes=6_000, segment_bytes=700)
        if self.published:
            assert outbox.epoch == self.epoch, "the numbers of one outbox count in one epoch"
            assert outbox.next_seq > max(self.published)
        self.epoch = outbox.epoch
        return outbox

    def _act(self, outbox: Outbox) -> None:
        chance = self._chance.random()
        if chance < 0.5:
            salt = self._chance.randbytes(self._chance.randint(0, 120))
            outbox.append(Lane(self._chance.randint(0, 1)), 1, lambda seq: b"%d " % seq + salt)
        elif chance < 0.85:
            for frame in outbox.commit():
                assert self.published.setdefault(frame.seq, frame.payload) == frame.payload
        elif chance < 0.95 and self.published:
            a = self._chance.randint(1, max(self.published))
            b = min(a + 4, outbox.committed_seq)
            if a <= b:
                self.acked |= set(range(a, b + 1))
                outbox.acknowledge([(a, b)])
        else:
            for loss in outbox.losses():
                self.told |= {seq for a, b in loss.ranges for seq in range(a, b + 1)}
            outbox.settle()


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(0, 2**32))
def test_power_cut_at_any_step(cuts: list[int], seed: int) -> None:
    """Wherever the power goes, what was committed is there afterwards unless delivered or told as lost."""
    with tempfile.TemporaryDirectory() as name:
        life = Life(Path(name), seed)
        for cut_at in cuts:
            life.live(cut_at)
        outbox = life.rise()
        for seq in life.published.keys() - life.acked - life.told:
            assert outbox.read(seq) == life.published[seq]
        for lane in Lane:
            seq = outbox.after(lane, 0) or 0
            while seq:
                payload = outbox.read(seq)
                assert payload == life.published.get(seq, payload)
                seq = outbox.after(lane, seq) or 0


@pytest.mark.parametrize("step", ["open", "write", "sync", "truncate", "sync_folder", "unlink"])
def test_every_refusal_is_survived(tmp_path: Path, step: str) -> None:
    """Whatever the disk refuses for a while, no alarm is lost and no number is used twice."""
    (tmp_path / "outbox").mkdir()
    disk = CrashDisk(tmp_path / "morgue")
    outbox = Outbox(tmp_path / "outbox", disk=disk, segment_bytes=300)
    published: dict[int, bytes] = {}
    for i in range(60):
        disk.refusing = {step} if 20 <= i < 40 else set()
        outbox.append(Lane.URGENT, 1, lambda seq, i=i: b"%d-%d" % (seq, i) * 5)  # type: ignore[misc]
        for frame in outbox.commit():
            assert frame.seq not in published
            published[frame.seq] = frame.payload
        outbox.acknowledge([(1, max(1, outbox.committed_seq - 25))])
    assert sorted(published) == list(range(1, 61))
    disk.cut(random.Random(1))
    again = Outbox(tmp_path / "outbox", disk=CrashDisk(tmp_path / "morgue-2"), segment_bytes=300)
    assert again.next_seq == 61
    assert all(again.read(seq) == published[seq] for seq in range(36, 61))
