"""A stretch of the journal as columns: samples under dense numbers, and how the watermarks moved. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np

from alarms.runs import NO_RECORD
from alarms.signal_table import F64, I64, NEVER, U8, Ints
from watchroom.frames import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Columns of shape (n,), in journal order.

    Attributes:
        signal: Dense numbers.
        record: Number of the record within the chunk.
    """

    signal: Ints
    record: I64
    time_ms: I64
    value: F64
    quality: U8

    def part(self, which: Ints) -> Samples:
        """Return the samples at some positions."""
        return Samples(
            signal=self.signal[which],
            record=self.record[which],
            time_ms=self.time_ms[which],
            value=self.value[which],
            quality=self.quality[which],
        )


@dataclass(slots=True, kw_only=True)
class Chunk:
    """What was decoded since the last judgement.

    Attributes:
        offset: Journal offset by record.
        arrived_ms: Arrival by record.
        gateway: Number of the gateway by record.
        parts: (record, signals, times, values, qualities) of each frame of samples.
        events: (record, event) in order.
        snapshots: Records whose frame starts a new chain.
        count: Samples in all parts.
    """

    offset: list[int] = field(default_factory=list)
    arrived_ms: list[int] = field(default_factory=list)
    gateway: list[int] = field(default_factory=list)
    parts: list[tuple[int, Ints, I64, F64, U8]] = field(default_factory=list)
    events: list[tuple[int, Event]] = field(default_factory=list)
    snapshots: set[int] = field(default_factory=set)
    count: int = 0
    _marks: dict[int, tuple[list[int], list[int]]] = field(default_factory=dict)
    _before: I64 = field(default_factory=lambda: np.zeros(0, np.int64))

    def open(self, offset: int, arrived_ms: int, gateway: int) -> int:
        """Start a record; return its number in the chunk."""
        self.offset.append(offset)
        self.arrived_ms.append(arrived_ms)
        self.gateway.append(gateway)
        return len(self.offset) - 1

    def start(self, complete_ms: I64) -> None:
        """Note the watermarks before the chunk, by lane number."""
        self._before = complete_ms.copy()

    def mark(self, lane: int, complete_ms: int) -> None:
        """Note that a lane's watermark rose with the newest record."""
        records, marks = self._marks.setdefault(lane, ([], []))
        records.append(len(self.offset) - 1)
        marks.append(complete_ms)

    def marks(self) -> dict[int, list[tuple[int, int]]]:
        """Return lane -> (record, watermark) of each rise, in order."""
        return {lane: list(zip(*columns, strict=True)) for lane, columns in self._marks.items()}

    def before(self, lane: int) -> int:
        """Return a lane's watermark before the chunk, NEVER for a lane that was not known then."""
        return int(self._before[lane]) if lane < len(self._before) else NEVER

    def put_marks(self, lane: int, records: list[int], marks: list[int]) -> None:
        """Note how a computed lane's watermark rose in the chunk."""
        if records:
            self._marks[lane] = records, marks

    @property
    def has_marks(self) -> bool:
        """Whether any watermark rose."""
        return bool(self._marks)

    def crossed(self, lane: I64, time_ms: I64) -> I64:
        """Return the first record after which each lane is complete beyond a time.

        Args:
            lane: Numbers of lanes, -1 for none; shape (n,).
            time_ms: Shape (n,).

        Returns:
            Records of this chunk, shape (n,); -1 when it was before, NO_RECORD when it is not in this chunk.
        """
        known = (lane >= 0) & (lane < len(self._before))
        before = np.where(known, self._before[np.where(known, lane, 0)] if len(self._before) else NEVER, NEVER)
        result = np.where(before > time_ms, -1, NO_RECORD)
        for number, (records, marks) in self._marks.items():
            open_ = np.flatnonzero((lane == number) & (result == NO_RECORD))
            if len(open_):
                at = np.searchsorted(np.array(marks), time_ms[open_], side="right")
                result[open_] = np.append(np.array(records), NO_RECORD)[at]
        return result

    def reached(self, *, before: int) -> I64:
        """Return the watermark of each lane just before a record, by lane number; NO_RECORD for the chunk's end."""
        newest = max(self._marks, default=-1) + 1
        result = np.concatenate([self._before, np.full(max(0, newest - len(self._before)), NEVER, np.int64)])
        for number, (records, marks) in self._marks.items():
            at = bisect_left(records, before)
            if at:
                result[number] = marks[at - 1]
        return result

    def samples(self) -> Samples | None:
        """Return all samples of the chunk, None when there are none."""
        if not self.parts:
            return None
        if len(self.parts) == 1:
            record, signal, time_ms, value, quality = self.parts[0]
            return Samples(
                signal=signal, record=np.full(len(signal), record), time_ms=time_ms, value=value, quality=quality
            )
        counts = [len(part[1]) for part in self.parts]
        return Samples(
            signal=np.concatenate([part[1] for part in self.parts]),
            record=np.repeat(np.array([part[0] for part in self.parts]), counts),
            time_ms=np.concatenate([part[2] for part in self.parts]),
            value=np.concatenate([part[3] for part in self.parts]),
            quality=np.concatenate([part[4] for part in self.parts]),
        )
