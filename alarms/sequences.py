"""Sequence rules: a change that nothing explains, for example a door that opens without a grant. Pure.

A change at *t* is judged when every gateway that could still bring an explanation has measured beyond ``t + skew``; a
silent gateway is not waited for. Changes found in late samples are judged at a tick, when the backlog had time to
bring what explains them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alarms.chunk import Chunk, Samples
from alarms.judged import Change, JudgedEvent
from alarms.lanes import Lanes
from alarms.late import OLDEST_MS
from alarms.levels import RowChange
from alarms.rows import RuleRow, SequenceTest
from alarms.runs import NO_RECORD
from alarms.signal_table import I64, IS_USABLE, SignalTable

KEPT_MS = OLDEST_MS + 10 * 60_000
BACKLOG_MS = 5_000
"""A late change waits this long for the rest of the backlog."""


@dataclass(slots=True, kw_only=True)
class Open:
    """A change that waits for its judgement; ``closed_ms`` is 0 while the signal has not gone back."""

    row: int
    time_ms: int
    arrived_ms: int
    value: float
    quality: int
    closed_ms: int = 0
    is_late: bool = False
    record: int = -1


@dataclass(frozen=True, slots=True)
class _Item:
    """One tracked sample or event in journal order."""

    record: int
    time_ms: int
    signal: int = -1
    value: float = math.nan
    quality: int = 0
    event: JudgedEvent | None = None


class History:
    """When a signal's verdict changed, for the last forty minutes."""

    __slots__ = ("changes",)

    def __init__(self, changes: list[tuple[int, bool]] | None = None) -> None:
        self.changes: list[tuple[int, bool]] = changes or []

    def note(self, time_ms: int, holds: bool) -> None:
        """Add a verdict; also an older one than the newest."""
        at = bisect_right(self.changes, (time_ms, True))
        if at and self.changes[at - 1][1] == holds:
            return
        if at < len(self.changes) and self.changes[at][1] == holds:
            del self.changes[at]
        insort(self.changes, (time_ms, holds))
        while len(self.changes) > 2 and self.changes[1][0] < time_ms - KEPT_MS:
            del self.changes[0]

    def holds_within(self, start_ms: int, end_ms: int) -> bool:
        """Whether the verdict was true at any time of [start, end]."""
        at = bisect_right(self.changes, (start_ms, True))
        if at and self.changes[at - 1][1]:
            return True
        return any(holds for time_ms, holds in self.changes[at:] if time_ms <= end_ms)


class SequenceJudge:
    """Judges every sequence row.

    Args:
        rows: All rows of the site; those of other kinds are left alone.
        table: The signals; inputs are marked as tracked.
        lanes: Watermarks and silence of the gateways.
    """

    def __init__(self, rows: Sequence[RuleRow], *, table: SignalTable, lanes: Lanes) -> None:
        self.rows = [row for row in rows if row.sequence is not None]
        self._tests: list[SequenceTest] = [row.sequence for row in self.rows if row.sequence is not None]
        self._table, self._lanes = table, lanes
        self._main = [table.number(test.signal) for test in self._tests]
        self._inputs = [[table.number(state.signal) for state in test.states] for test in self._tests]
        self._rows_of: dict[int, list[int]] = {}
        self._events_of: dict[tuple[str, str], list[int]] = {}
        for row, test in enumerate(self._tests):
            self._rows_of.setdefault(self._main[row], []).append(row)
            for kind, _, equipment, _ in test.events:
                self._events_of.setdefault((kind, equipment), []).append(row)
        self._used: dict[int, list[tuple[int, int]]] = {}
        for row, inputs in enumerate(self._inputs):
            for i, number in enumerate(inputs):
                self._used.setdefault(number, []).append((row, i))
        for number in (*self._rows_of, *self._used):
            table.is_tracked[number] = True
            table.is_clean[number] = False
        self._histories = [[History() for _ in test.states] for test in self._tests]
        self._grants: list[list[int]] = [[] for _ in self._tests]
        self._was: list[bool | None] = [None] * len(self._tests)
        self._late_was: list[bool | None] = [None] * len(self._tests)
        self._active = [False] * len(self._tests)
        self._sources: list[set[int]] = [set() for _ in self._tests]
        self.open: list[Open] = []

    def judge(self, chunk: Chunk, *, fresh: Samples, late: Samples, events: Sequence[JudgedEvent]) -> list[RowChange]:
        """Carry the rows through a chunk.

        Args:
            chunk: Records and watermarks.
            fresh: Samples in order; others than inputs are ignored.
            late: Samples older than what was judged.
            events: Events of the chunk, each with the record's offset.
        """
        if not self._tests:
            return []
        for item in self._items(chunk, late, ()):
            self._take_late(item, chunk)
        changes: list[RowChange] = []
        items = self._items(chunk, fresh, events)
        if not items and not (self.open and chunk.has_marks):
            return changes
        for item in items:
            changes += self._resolve(chunk, before=item.record)
            changes += self._take(item, chunk)
        changes += self._resolve(chunk, before=NO_RECORD)
        for one in self.open:
            one.record = -1
        return changes

    def tick(self, record: int, now_ms: int) -> list[RowChange]:
        """Judge what a silent gateway held up, and what late samples brought."""
        changes: list[RowChange] = []
        for one in list(self.open):
            if one.is_late:
                is_due = now_ms >= one.arrived_ms + BACKLOG_MS
            else:
                lanes = self._waits_for(one.row)
                limit = one.time_ms + self._tests[one.row].skew_ms
                is_due = bool((self._lanes.complete_ms[lanes] > limit).all())
                if not len(lanes):
                    is_due = now_ms > one.arrived_ms + self._tests[one.row].skew_ms
            if is_due:
                changes += self._decide(one, record, now_ms)
        return changes

    def _items(self, chunk: Chunk, samples: Samples, events: Sequence[JudgedEvent]) -> list[_Item]:
        items = []
        for at in np.flatnonzero(self._table.is_tracked[samples.signal]).tolist():
            signal = int(samples.signal[at])
            if (signal in self._rows_of or signal in self._used) and IS_USABLE[samples.quality[at]]:
                items.append(
                    _Item(
                        int(samples.record[at]),
                        int(samples.time_ms[at]),
                        signal,
                        float(samples.value[at]),
                        int(samples.quality[at]),
                    )
                )
        if events:
            record_of = {offset: record for record, offset in enumerate(chunk.offset)}
            items += [_Item(record_of[event.offset], event.judged_ms, event=event) for event in events]
        return sorted(items, key=lambda item: (item.record, item.time_ms, item.signal))

    def _take(self, item: _Item, chunk: Chunk) -> list[RowChange]:
        if item.event is not None:
            self._take_event(item.event, chunk.gateway[item.record])
            return []
        self._note(item)
        changes = []
        for row in self._rows_of.get(item.signal, ()):
            holds, was = item.value in self._tests[row].values, self._was[row]
            if math.isnan(item.value) or holds == was:
                continue
            self._was[row] = holds
            if not holds:
                for one in self.open:
                    if one.row == row and not one.is_late and not one.closed_ms:
                        one.closed_ms = item.time_ms
                if self._active[row]:
                    self._active[row] = False
                    changes.append(self._change(row, Change.CLEAR, item.time_ms, item.record, item.value, item.quality))
            # after an outage nobody knows how the door came to stand open: the backlog tells
            elif was is False and item.record not in chunk.snapshots:
                self.open.append(
                    Open(
                        row=row,
                        time_ms=item.time_ms,
                        arrived_ms=chunk.arrived_ms[item.record],
                        value=item.value,
                        quality=item.quality,
                        record=item.record,
                    )
                )
        return changes

    def _note(self, item: _Item) -> None:
        for row, i in self._used.get(item.signal, ()):
            verdict = self._tests[row].states[i].verdict(item.value)
            if verdict:
                self._histories[row][i].note(item.time_ms, verdict > 0)

    def _take_late(self, item: _Item, chunk: Chunk) -> None:
        self._note(item)
        for row in self._rows_of.get(item.signal, ()):
            holds, was = item.value in self._tests[row].values, self._late_was[row]
            self._late_was[row] = holds
            if holds and was is False:
                self.open.append(
                    Open(
                        row=row,
                        time_ms=item.time_ms,
                        arrived_ms=chunk.arrived_ms[item.record],
                        value=item.value,
                        quality=item.quality,
                        is_late=True,
                    )
                )

    def _take_event(self, judged: JudgedEvent, gateway: int) -> None:
        event = judged.event
        for row in self._events_of.get((event.kind, event.equipment or ""), ()):
            self._sources[row].add(gateway)
            for kind, name, equipment, values in self._tests[row].events:
                if (kind, equipment) == (event.kind, event.equipment) and event.fields.get(name) in values:
                    grants = self._grants[row]
                    insort(grants, judged.judged_ms)
                    del grants[: bisect_left(grants, judged.judged_ms - KEPT_MS)]

    def _resolve(self, chunk: Chunk, *, before: int) -> list[RowChange]:
        changes = []
        for one in list(self.open):
            if one.is_late:
                continue
            lanes = self._waits_for(one.row)
            if not len(lanes):
                continue
            limit = np.full(len(lanes), one.time_ms + self._tests[one.row].skew_ms, np.int64)
            record = max(int(chunk.crossed(lanes, limit).max()), one.record, 0)
            if record < before and record < NO_RECORD:
                changes += self._decide(one, record, chunk.arrived_ms[record])
        return changes

    def _waits_for(self, row: int) -> I64:
        """Return the lanes whose watermark must pass: those of the inputs, without silent gateways."""
        table = self._table
        lanes: set[int] = set()
        for number in (self._main[row], *self._inputs[row]):
            if table.lane[number] >= 0 and not self._lanes.states[int(table.gateway[number])].is_silent:
                lanes.add(int(table.lane[number]))
        if self._tests[row].events:
            own = int(table.gateway[self._main[row]])
            for gateway in self._sources[row] | ({own} if own >= 0 else set()):
                if not self._lanes.states[gateway].is_silent:
                    lanes.add(self._lanes.lane(gateway, 0))
        return np.array(sorted(lanes), np.int64)

    def _decide(self, one: Open, record: int, now_ms: int) -> list[RowChange]:
        self.open.remove(one)
        if self.is_explained(one.row, one.time_ms) or (one.is_late and now_ms - one.time_ms > OLDEST_MS):
            return []
        raised = self._change(one.row, Change.RAISE, one.time_ms, record, one.value, one.quality, is_late=one.is_late)
        if one.is_late and self._active[one.row]:
            return []
        if not one.is_late and not one.closed_ms:
            self._active[one.row] = True
            return [raised]
        end_ms = one.closed_ms or one.time_ms
        return [
            raised,
            self._change(one.row, Change.CLEAR, end_ms, record, one.value, one.quality, is_late=one.is_late),
        ]

    def is_explained(self, row: int, time_ms: int) -> bool:
        """Whether an event or a state explains a change at a time."""
        test = self._tests[row]
        start_ms, end_ms = time_ms - test.within_ms, time_ms + test.skew_ms
        grants = self._grants[row]
        at = bisect_left(grants, start_ms)
        if at < len(grants) and grants[at] <= end_ms:
            return True
        return any(history.holds_within(start_ms, end_ms) for history in self._histories[row])

    @staticmethod
    def _change(
        row: int, kind: Change, event_ms: int, record: int, value: float, quality: int, *, is_late: bool = False
    ) -> RowChange:
        return RowChange(
            row=row,
            kind=kind,
            level="",
            event_ms=event_ms,
            record=record,
            value=value,
            quality=quality,
            is_late=is_late,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the state by row keys for a checkpoint."""
        state: dict[str, Any] = {}
        for number, row in enumerate(self.rows):
            state[row.key] = {
                "histories": {
                    test.signal: history.changes
                    for test, history in zip(self._tests[number].states, self._histories[number], strict=True)
                },
                "grants": self._grants[number],
                "was": self._was[number],
                "late_was": self._late_was[number],
                "active": self._active[number],
                "sources": sorted(self._sources[number]),
                "open": [
                    [one.time_ms, one.arrived_ms, one.value, one.quality, one.closed_ms, one.is_late]
                    for one in self.open
                    if one.row == number
                ],
            }
        return state

    def load(self, content: dict[str, Any]) -> None:
        """Take over the state of a checkpoint; rows that are new keep their first state."""
        self.open = []
        for number, row in enumerate(self.rows):
            saved = content.get(row.key)
            if saved is None:
                continue
            for i, test in enumerate(self._tests[number].states):
                changes = saved["histories"].get(test.signal, [])
                self._histories[number][i] = History([(ms, holds) for ms, holds in changes])
            self._grants[number] = list(saved["grants"])
            self._was[number], self._late_was[number] = saved["was"], saved["late_was"]
            self._active[number], self._sources[number] = saved["active"], set(saved["sources"])
            for time_ms, arrived_ms, value, quality, closed_ms, is_late in saved["open"]:
                self.open.append(
                    Open(
                        row=number,
                        time_ms=time_ms,
                        arrived_ms=arrived_ms,
                        value=value,
                        quality=quality,
                        closed_ms=closed_ms,
                        is_late=is_late,
                    )
                )
