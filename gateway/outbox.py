"""The gateway's outbox: everything measured is on this disk before it is sent, and stays until the centre has it."""

from __future__ import annotations

import json
import secrets
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from gateway.segment import (
    FRAME,
    HEAD_BYTES,
    STATE,
    Record,
    Segment,
    is_torn,
    pack,
    pack_state,
    parse_name,
    scan,
    segment_name,
)
from watchroom.disk import AppendFile, Disk, RealDisk
from watchroom.errors import StoreError
from watchroom.intervals import IntervalSet
from watchroom.signals import Lane

log = structlog.get_logger(__name__)

RESERVE = 0.2
"""Share of the capacity that only the urgent lane (alarm signals, events) may use."""
SMALLEST = HEAD_BYTES + 68
"""Bytes of the smallest record of a frame: so many may stand in damaged bytes at most."""
_LANES = (Lane.URGENT, Lane.TELEMETRY)


class Committed(NamedTuple):
    """A frame that is durable now and may be sent."""

    seq: int
    lane: Lane
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Frames that will never be delivered; must become a ``loss`` event.

    Attributes:
        ranges: Their seqs, [first, last] pairs.
        count: Samples and events in them, 0 when unknown.
        reason: ``full`` (no room), ``gone`` (asked for, but not here any more), ``damaged`` (unreadable on the disk).
    """

    ranges: list[list[int]]
    count: int
    reason: str


class Outbox:
    """Append-only segment files of two lanes under one sequence.

    ``append`` and the reading methods never block on the disk for long; ``commit`` does and may run in a thread of
    its own, one call at a time. A seq is used once for ever: it counts on when the outbox is opened again.
    Two lanes have files of their own, so that old telemetry can be given up by removing whole files.

    Args:
        folder: Holds this outbox alone.
        disk: File operations.
        capacity_bytes: Bytes that its files may use.
        segment_bytes: Size from which a new file is begun.
        new_epoch: Makes the number of a new outbox.

    Raises:
        StoreError: If the folder cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        disk: Disk | None = None,
        capacity_bytes: int = 256 << 20,
        segment_bytes: int | None = None,
        new_epoch: Callable[[], int] = lambda: secrets.randbits(64),
    ) -> None:
        self._folder = folder
        self._disk: Disk = RealDisk() if disk is None else disk
        self._capacity = capacity_bytes
        self._segment_bytes = segment_bytes or max(512, min(1 << 20, capacity_bytes // 16))
        self._lock = threading.RLock()
        self._segments: dict[Lane, list[Segment]] = {lane: [] for lane in _LANES}
        self._files: dict[Lane, AppendFile] = {}
        self._queue: list[Record] = []
        self._losses: list[Loss] = []
        self._doomed: list[Segment] = []
        self._state: dict[str, Any] = {"version": 0, "notes": {}}
        self._written_version = -1
        self._is_refused = False
        self._last: dict[Lane, bytes] = {}
        self.next_seq = 1
        self._open()
        self.committed_seq = self.next_seq - 1
        self._state.setdefault("epoch", f"{new_epoch():016x}")
        self.epoch: int = int(self._state["epoch"], 16)

    # what it holds

    @property
    def notes(self) -> dict[str, Any]:
        """What ``note`` has kept."""
        return dict(self._state["notes"])

    @property
    def frames(self) -> int:
        """Frames committed and not acknowledged."""
        return sum(segment.open for lane in _LANES for segment in self._segments[lane])

    @property
    def frame_bytes(self) -> int:
        """Bytes of those frames."""
        return sum(segment.open_bytes for lane in _LANES for segment in self._segments[lane])

    @property
    def disk_bytes(self) -> int:
        """Bytes of the files that hold something to deliver; the others are about to go."""
        return sum(segment.size for lane in _LANES for segment in self._segments[lane] if segment.open)

    @property
    def is_full(self) -> bool:
        """Whether even urgent frames have no room: readers must not be acknowledged."""
        return self._is_refused or self.disk_bytes >= self._capacity

    @property
    def has_losses(self) -> bool:
        """Whether something was given up that is not yet entered in a loss event."""
        return bool(self._losses)

    @property
    def has_pending(self) -> bool:
        """Whether ``commit`` has something to do."""
        return bool(self._queue)

    def last(self, lane: Lane) -> bytes | None:
        """Return the lane's last frame found when the outbox was opened."""
        return self._last.get(lane)

    def tail(self, lane: Lane, *, segments: int = 2) -> list[bytes]:
        """Return the frames in the lane's last files, delivered ones too, oldest first; blocks for their reading."""
        with self._lock:
            paths = [segment.path for segment in self._segments[lane][-segments:]]
        frames: list[bytes] = []
        for path in paths:
            try:
                data = self._disk.read(path)
            except (FileNotFoundError, StoreError):
                continue
            frames += [record.payload for record in scan(data) if record.kind == FRAME]
        return frames

    def after(self, lane: int, seq: int) -> int | None:
        """Return the lane's first committed, unacknowledged frame beyond ``seq``."""
        with self._lock:
            for segment in self._segments[Lane(lane)]:
                if segment.open and segment.last > seq:
                    found = segment.after(seq)
                    if found is not None:
                        return found
        return None

    def lane_of(self, seq: int) -> int | None:
        """Return the lane of a committed, unacknowledged frame."""
        found = self._find(seq)
        return None if found is None else found[0].lane

    def held(self, a: int, b: int, *, limit: int) -> list[int]:
        """Return the first undelivered seqs within a .. b, at most ``limit``."""
        seqs: list[int] = []
        for lane in _LANES:
            seq = self.after(lane, a - 1)
            while seq is not None and seq <= b and len(seqs) < 2 * limit:
                seqs.append(seq)
                seq = self.after(lane, seq)
        return sorted(seqs)[:limit]

    def read(self, seq: int) -> bytes | None:
        """Return an undelivered frame from the disk, None when it is not held any more."""
        found = self._find(seq)
        if found is None:
            return None
        segment, (at, size) = found
        try:
            return self._disk.read(segment.path, at, size)
        except FileNotFoundError:
            return None

    def _find(self, seq: int) -> tuple[Segment, tuple[int, int]] | None:
        with self._lock:
            for lane in _LANES:
                for segment in reversed(self._segments[lane]):
                    if segment.first <= seq:
                        place = segment.place(seq)
                        if place is not None:
                            return segment, place
                        break
        return None

    # what changes it

    def append(self, lane: Lane, count: int, make: Callable[[int], bytes]) -> int:
        """Give the next seq to a frame; it is durable when a later ``commit`` returns it.

        Args:
            lane: Its lane.
            count: Samples or events in it.
            make: Gets the seq and returns the frame.
        """
        with self._lock:
            seq = self.next_seq
            payload = make(seq)
            self._queue.append(Record(kind=FRAME, lane=lane, seq=seq, count=count, payload=payload))
            self.next_seq += 1
        return seq

    def note(self, **values: Any) -> None:
        """Keep small facts with the outbox; durable with the next commit of an urgent frame."""
        with self._lock:
            notes = self._state["notes"] | values
            self._state = self._state | {"notes": notes, "version": self._state["version"] + 1}

    def acknowledge(self, ranges: Iterable[tuple[int, int] | list[int]]) -> bool:
        """The centre has the frames of these ranges; return whether that is news."""
        is_news = False
        with self._lock:
            for a, b in ranges:
                for lane in _LANES:
                    for segment in self._segments[lane]:
                        if segment.open and segment.first <= b and segment.last >= a:
                            is_news |= segment.deliver(a, b)
        return is_news

    def losses(self) -> list[Loss]:
        """Return what was given up and is not yet entered in a loss event, joined by reason, and forget it."""
        with self._lock:
            losses, self._losses = self._losses, []
        joined: dict[str, tuple[IntervalSet, int]] = {}
        for loss in losses:
            ranges, count = joined.setdefault(loss.reason, (IntervalSet(), 0))
            for a, b in loss.ranges:
                ranges.add(a, b)
            joined[loss.reason] = ranges, count + loss.count
        return [Loss(ranges=list(ranges), count=count, reason=reason) for reason, (ranges, count) in joined.items()]

    def lose(self, loss: Loss) -> None:
        """Enter a loss that somebody else noticed."""
        with self._lock:
            self._losses.append(loss)

    def settle(self) -> None:
        """The losses returned last are durable as events: their files may go."""
        with self._lock:
            doomed, self._doomed = self._doomed, []
        for segment in doomed:
            self._remove(segment.path)

    def commit(self) -> list[Committed]:
        """Make everything appended so far durable and return it in order; blocks.

        A disk that refuses costs old telemetry first, then new telemetry; urgent frames wait in memory, ``is_full``
        is set and the next call tries again.
        """
        with self._lock:
            batch, self._queue = self._queue, []
        if not batch:
            return []
        self._sweep()
        batch = self._make_room(batch)
        done = self._try(batch) if batch else []
        while done is None and self._give_up_oldest(at_once=True):
            done = self._try(batch)
        if done is None:
            self._lose([record for record in batch if record.lane == Lane.TELEMETRY])
            batch = [record for record in batch if record.lane == Lane.URGENT]
            done = self._try(batch) if batch else []
        if done is None:
            with self._lock:
                self._queue[:0] = batch
        if self._is_refused != (done is None):
            self._is_refused = done is None
            log.warning("outbox cannot write" if done is None else "outbox writes again", folder=str(self._folder))
        self._sweep()
        return done or []

    def close(self) -> None:
        """Give the files back; what is not committed is forgotten."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    # the files

    def _open(self) -> None:
        self._disk.make_folder(self._folder)
        states: list[dict[str, Any]] = []
        suspects: list[tuple[int, int]] = []
        found = [(parsed, name) for name in self._disk.names(self._folder) if (parsed := parse_name(name))]
        cuts: dict[Lane, tuple[int, int]] = {}
        for (lane, first), name in sorted(found):
            segment = Segment(lane=lane, first=first, path=self._folder / name)
            if lane in cuts:
                suspects.append((cuts.pop(lane)[0], first - 1))
            expected, tail = self._load(segment, states, suspects)
            if not segment.last and not tail:
                # begun and never committed: a new file may get the same name
                self._remove(segment.path)
                continue
            self._segments[lane].append(segment)
            if tail:
                cuts[lane] = expected, tail // SMALLEST
        for lane in _LANES:
            self._repair(lane)
        if states:
            self._state = max(states, key=lambda state: int(state["version"]))
        # committed and sent, or never committed: nobody knows, so no seq that a damaged tail may hold is used again
        self.next_seq += sum(most for _, most in cuts.values())
        self._count_damage(suspects + [(expected, self.next_seq - 1) for expected, _ in cuts.values()])

    def _load(self, segment: Segment, states: list[dict[str, Any]], suspects: list[tuple[int, int]]) -> tuple[int, int]:
        """Enter a file's records and note between which seqs some are missing.

        Returns:
            The seq after its last record, and the length of its end if nobody can read that; 0 if nothing is wrong.
        """
        data = self._disk.read(segment.path)
        expected = segment.first
        for record in scan(data):
            if record.at - HEAD_BYTES > segment.size and record.seq > expected:
                suspects.append((expected, record.seq - 1))
            segment.size = record.at + len(record.payload)
            expected = record.seq + (record.kind == FRAME)
            if record.kind == STATE:
                states.append(json.loads(record.payload))
                self.next_seq = max(self.next_seq, record.seq)
            elif record.seq > segment.last:
                segment.add(record.seq, at=record.at, size=len(record.payload), count=record.count)
                self.next_seq = max(self.next_seq, record.seq + 1)
                self._last[segment.lane] = record.payload
        tail = data[segment.size :]
        if tail:
            log.warning("outbox file repaired", path=str(segment.path), lost_bytes=len(tail))
        return expected, 0 if is_torn(tail) else len(tail)

    def _count_damage(self, suspects: list[tuple[int, int]]) -> None:
        """Enter seqs that stood in damaged bytes as lost, but for those that are here after all."""
        here = sorted(seq for lane in _LANES for segment in self._segments[lane] for seq in segment.seqs)
        lost = IntervalSet()
        for first, last in suspects:
            for seq in here[bisect_left(here, first) : bisect_right(here, last)]:
                if seq > first:
                    lost.add(first, seq - 1)
                first = seq + 1
            if first <= last:
                lost.add(first, last)
        ranges = list(lost)
        if ranges:
            log.warning("outbox damaged", folder=str(self._folder), ranges=len(ranges))
            self._losses.append(Loss(ranges=ranges, count=0, reason="damaged"))

    def _repair(self, lane: Lane) -> None:
        """Cut the torn tail of a lane's last file, and make what the kill left in the page cache durable."""
        if not self._segments[lane]:
            return
        segment = self._segments[lane][-1]
        file = self._disk.open_append(segment.path)
        try:
            if file.size > segment.size:
                file.truncate(segment.size)
            file.sync()
        finally:
            file.close()

    def _try(self, batch: list[Record]) -> list[Committed] | None:
        """Write and sync; None when the disk refuses, and then nothing of it stays."""
        begun: dict[Lane, tuple[Segment, int]] = {}
        places: list[tuple[Segment, int, Record]] = []
        state = self._state
        try:
            for lane in _LANES:
                records = [record for record in batch if record.lane == lane]
                if records:
                    segment = self._active(lane, records[0].seq)
                    begun[lane] = segment, self._files[lane].size
                    places += self._write(segment, records, state)
            for lane in begun:
                self._files[lane].sync()
            if any(size == 0 for _, size in begun.values()):
                self._disk.sync_folder(self._folder)
        except StoreError as exc:
            log.debug("outbox write refused", error=str(exc))
            for lane, (segment, size) in begun.items():
                self._abandon(lane, segment, size)
            return None
        with self._lock:
            for segment, at, record in places:
                segment.add(record.seq, at=at, size=len(record.payload), count=record.count)
            self.committed_seq = max(self.committed_seq, batch[-1].seq)
            for lane, (segment, _) in begun.items():
                segment.size = self._files[lane].size
                if segment not in self._segments[lane]:
                    self._segments[lane].append(segment)
        if Lane.URGENT in begun:
            self._written_version = state["version"]
        return [Committed(record.seq, record.lane, record.payload) for record in batch]

    def _active(self, lane: Lane, seq: int) -> Segment:
        """Return the lane's segment to write to, a new one when there is none or the old one is large enough."""
        file = self._files.get(lane)
        if file is not None:
            segment = self._segments[lane][-1]
            if file.size < (self._segment_bytes if segment.open else self._segment_bytes // 4):
                return segment
        if file is not None:
            file.close()
            del self._files[lane]
        path = self._folder / segment_name(lane, seq)
        self._disk.unlink(path)  # left over from a refused attempt
        self._files[lane] = self._disk.open_append(path)
        return Segment(lane=lane, first=seq, path=path)

    def _write(
        self, segment: Segment, records: list[Record], state: dict[str, Any]
    ) -> list[tuple[Segment, int, Record]]:
        file = self._files[segment.lane]
        start = file.size
        parts: list[bytes] = []
        if start == 0 or (segment.lane == Lane.URGENT and self._written_version != state["version"]):
            parts.append(pack_state(segment.lane, records[0].seq, state))
        at = start + sum(map(len, parts))
        places = []
        for record in records:
            parts.append(pack(record))
            places.append((segment, at + HEAD_BYTES, record))
            at += len(parts[-1])
        file.write(b"".join(parts))
        return places

    def _abandon(self, lane: Lane, segment: Segment, size: int) -> None:
        """After a refusal nobody knows what of a file is durable: never write to it again."""
        file = self._files.pop(lane)
        try:
            file.truncate(size)
            if size == 0:
                self._disk.unlink(segment.path)
        except StoreError as exc:
            log.debug("outbox file left with a torn tail", error=str(exc))
        finally:
            file.close()

    # room

    def _make_room(self, batch: list[Record]) -> list[Record]:
        """Keep telemetry within its share: the oldest files first; without any, what is just coming."""
        incoming = sum(HEAD_BYTES + len(record.payload) for record in batch)
        limit = self._capacity * (1 - RESERVE)
        while self.disk_bytes + incoming > limit:
            if not self._give_up_oldest(at_once=False):
                self._lose([record for record in batch if record.lane == Lane.TELEMETRY])
                return [record for record in batch if record.lane == Lane.URGENT]
        return batch

    def _give_up_oldest(self, *, at_once: bool) -> bool:
        """Stop delivering the oldest telemetry file; False when only the newest is left, which carries the seq."""
        with self._lock:
            if len(self._segments[Lane.TELEMETRY]) < 2:
                return False
            segment = self._segments[Lane.TELEMETRY].pop(0)
            ranges, count = segment.undelivered()
            if ranges:
                self._losses.append(Loss(ranges=ranges, count=count, reason="full"))
            if not at_once:
                self._doomed.append(segment)
        if at_once:
            self._remove(segment.path)
        return True

    def _lose(self, records: list[Record]) -> None:
        if records:
            loss = Loss(
                ranges=[[record.seq, record.seq] for record in records],
                count=sum(record.count for record in records),
                reason="full",
            )
            self.lose(loss)

    def _sweep(self) -> None:
        """Remove files whose frames are all delivered; the newest of a lane stays, it carries the seq."""
        for lane in _LANES:
            with self._lock:
                old = [segment for segment in self._segments[lane][:-1] if not segment.open]
                self._segments[lane] = [segment for segment in self._segments[lane] if segment not in old]
            for segment in old:
                self._remove(segment.path)

    def _remove(self, path: Path) -> None:
        try:
            self._disk.unlink(path)
        except StoreError as exc:
            log.warning("outbox file cannot be removed", path=str(path), error=str(exc))
