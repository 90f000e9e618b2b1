"""Judges every rule of access control: entries, spans and swipes. Pure.

What arrives in time is noted at once, for the judgement asks only about times that are complete. What arrives after
its time was complete - a backlog, the centre's own records - counts from its record on, exactly there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from alarms.chunk import Chunk, Samples
from alarms.doors.entries import BACKLOG_MS, BOUNCE_MS, Entries, Waiting, is_too_old
from alarms.doors.inputs import Behind, Event, Inputs, Noted
from alarms.doors.logs import Log
from alarms.doors.plan import Plan, Unit
from alarms.doors.registry import CENTRE, CREDENTIAL, PERMIT, Permits, Registry
from alarms.doors.spans import Spans
from alarms.doors.stream import SKEW_MS, SwipeStream, Told
from alarms.judged import Change, JudgedEvent
from alarms.lanes import Lanes
from alarms.late import OLDEST_MS
from alarms.levels import RowChange
from alarms.rows import RuleRow
from alarms.runs import NO_RECORD
from alarms.signal_table import I64, NEVER, Bools, SignalTable
from watchroom.site import Site

KEPT_MS = OLDEST_MS + 10 * 60_000
FAR = 1 << 60
"""Watermark of lane -1, which stands for none."""


class DoorJudge:
    """Judges every row of access control.

    Args:
        rows: All rows of the site; those of other kinds are left alone.
        table: The signals; inputs are marked as tracked.
        lanes: Watermarks and silence of the gateways.
        site: For places, areas and the zone; None for a site without them.
    """

    def __init__(self, rows: Sequence[RuleRow], *, table: SignalTable, lanes: Lanes, site: Site | None = None) -> None:
        self.plan = Plan(rows, table=table)
        self.rows = self.plan.rows
        self._table, self._lanes = table, lanes
        self._states, self._grants, self._opens = Log(edges=True), Log(edges=False), Log(edges=False)
        self.registry, self._permits = Registry(), Permits()
        self._entries = Entries(self.plan.entries, slots=len(self.plan.slots.tests))
        zone = site.info.zone if site is not None else "Asia/Shanghai"
        self._spans = Spans(self.plan.spans, zone=zone, permits=self._permits.of)
        self._inputs = Inputs(self.plan, table=table, lanes=lanes)
        self._swipes = SwipeStream(self.plan, site=site, zone=zone, registry=self.registry)
        self._waiting, self._late = Waiting(), Waiting()
        self._active: dict[int, int] = {}
        self._site_lanes: list[int] = []
        self._entry_lanes = self.plan.lanes_of(self.plan.entries)

    def judge(self, chunk: Chunk, *, fresh: Samples, late: Samples, events: Sequence[JudgedEvent]) -> list[RowChange]:
        """Carry the rows through a chunk.

        Args:
            chunk: Records and watermarks.
            fresh: Samples in order; others than inputs are ignored.
            late: Samples older than what was judged.
            events: Events of the chunk, each with the record's offset.
        """
        if not self.rows:
            return []
        noted = self._inputs.take(chunk, fresh=fresh, late=late, events=events)
        if noted is None and not (chunk.has_marks and self._has_work):
            return []
        changes: list[RowChange] = []
        if noted is not None:
            changes += self._take(chunk, noted)
            for behind in noted.behind:
                changes += self._settle(chunk, noted, before=behind.record)
                changes += self._take_behind(chunk, behind)
        changes += self._settle(chunk, noted, before=NO_RECORD)
        self._waiting.record[:] = -1
        self._swipes.end_chunk()
        return changes

    @property
    def _has_work(self) -> bool:
        return bool(len(self._waiting) or self._swipes.is_waiting or self._spans.awake)

    def _take(self, chunk: Chunk, noted: Noted) -> list[RowChange]:
        """Note what came in time, and end what a closing door ends."""
        self._note(noted.slot, noted.time_ms, noted.value)
        self._grants.note(noted.grant_slot, noted.grant_ms, np.ones(len(noted.grant_slot), bool))
        self._spans.wake(noted.slot, noted.time_ms, noted.value)
        at = np.flatnonzero(noted.is_opening)
        if len(at):
            record = noted.record[at]
            self._wait(
                slot=noted.slot[at],
                time_ms=noted.time_ms[at],
                arrived_ms=np.array(chunk.arrived_ms, np.int64)[record],
                record=record,
                value=noted.raw[at],
                quality=noted.quality[at],
            )
        changes = []
        for number, since_ms in list(self._active.items()):
            falls = noted.falls_of(int(self._entries.contact[number]), since_ms)
            if falls:
                del self._active[number]
                changes.append(self._change(self.plan.entries[number], Change.CLEAR, *falls[0], value=0.0))
        return changes

    def _note(self, slot: I64, time_ms: I64, value: Bools) -> None:
        """Note edges of states; a rise after a long enough fall is an opening of its own."""
        if not len(slot):
            return
        self._states.note(slot, time_ms, value)
        rises = np.flatnonzero(value & self._entries.is_contact[slot])
        if len(rises):
            at = self._states.last(slot[rises], time_ms[rises] - 1)
            fell_ms = np.where(at >= 0, self._states.times(np.maximum(at, 0)), NEVER)
            kept = rises[time_ms[rises] - fell_ms >= BOUNCE_MS]
            self._opens.note(slot[kept], time_ms[kept], np.ones(len(kept), bool))

    def _wait(self, *, slot: I64, is_late: bool = False, **columns: Any) -> None:
        waiting = self._late if is_late else self._waiting
        for units in self._entries.units_of.T:
            unit = units[slot]
            has = unit >= 0
            if has.any():
                waiting.add(unit=unit[has], **{name: np.asarray(column)[has] for name, column in columns.items()})

    def _take_behind(self, chunk: Chunk, behind: Behind) -> list[RowChange]:
        if behind.event is not None:
            if self._site_lanes:
                self._swipes.reach(int(chunk.reached(before=behind.record)[self._site_lanes].min()))
            return self._take_event(behind.event)
        slot, time_ms = np.array([behind.slot]), np.array([behind.time_ms])
        self._note(slot, time_ms, np.array([behind.value]))
        if not behind.is_late:
            self._spans.wake(slot, time_ms, np.array([behind.value]))
        if behind.is_opening:
            self._wait(
                slot=slot,
                is_late=behind.is_late,
                time_ms=time_ms,
                arrived_ms=np.array([chunk.arrived_ms[behind.record]]),
                record=np.array([behind.record]),
                value=np.array([behind.raw]),
                quality=np.array([behind.quality]),
            )
        return []

    def _take_event(self, one: Event) -> list[RowChange]:
        event = one[1].event
        if one[1].gateway == CENTRE:
            if event.kind == PERMIT:
                self._permits.apply(event.equipment, event.fields)
            elif event.kind == CREDENTIAL:
                self.registry.apply(event.fields)
            return []
        grants = self._inputs.grants_of(one)
        if grants:
            self._grants.note(
                np.array([slot for slot, _ in grants]), np.array([ms for _, ms in grants]), np.ones(len(grants), bool)
            )
        return self._alone([one])

    def _alone(self, events: Iterable[Event]) -> list[RowChange]:
        return [change for told in self._swipes.take(events) for change in self._told(told)]

    def _settle(self, chunk: Chunk, noted: Noted | None, *, before: int) -> list[RowChange]:
        """Judge everything that is complete before a record of the chunk."""
        if noted is not None and noted.events:
            due = [one for one in noted.events if one[0] < before]
            noted.events = [one for one in noted.events if one[0] >= before] if len(due) < len(noted.events) else []
            changes = self._alone(due)
        else:
            changes = []
        if not self._has_work:
            return changes
        reached = np.append(chunk.reached(before=before), FAR)
        changes += self._settle_entries(chunk, noted, reached)
        changes += self._settle_spans(reached, lambda unit, ms: self._crossing(chunk, unit.lanes, ms))
        changes += self._settle_swipes(reached, lambda ms: self._crossing(chunk, self._site_lanes, ms))
        return changes

    def _settle_entries(self, chunk: Chunk, noted: Noted | None, reached: I64) -> list[RowChange]:
        waiting = self._waiting
        if not len(waiting):
            return []
        complete = _complete(reached, self._entry_lanes)
        limit = waiting.time_ms + self._entries.skew_ms[waiting.unit]
        is_due = complete[waiting.unit] > limit
        if not is_due.any():
            return []
        due = waiting.part(is_due)
        waiting.keep(~is_due)
        wrong = due.part(self._wrong(due, self._states, self._grants, self._opens))
        changes = []
        for i in range(len(wrong)):
            unit = self.plan.entries[int(wrong.unit[i])]
            ms = int(wrong.time_ms[i])
            record = max(self._crossing(chunk, unit.lanes, ms + unit.test.skew_ms), int(wrong.record[i]), 0)
            changes += self._raise(wrong, i, record, noted)
        return changes

    def _wrong(self, some: Waiting, states: Log, grants: Log, opens: Log) -> Bools:
        return self._entries.are_wrong(some.unit, some.time_ms, states=states, grants=grants, opens=opens)

    def _raise(self, wrong: Waiting, i: int, record: int, noted: Noted | None) -> list[RowChange]:
        number, ms = int(wrong.unit[i]), int(wrong.time_ms[i])
        unit, value, quality = self.plan.entries[number], float(wrong.value[i]), int(wrong.quality[i])
        raised = self._change(unit, Change.RAISE, ms, record, value=value, quality=quality)
        if unit.test.of != "forced":
            return [raised, self._change(unit, Change.CLEAR, ms, record, value=value, quality=quality)]
        slot = int(self._entries.contact[number])
        closed = self._states.between(slot, ms, ms + KEPT_MS)
        if not closed:
            self._active[number] = ms
            return [raised]
        falls = dict(noted.falls_of(slot, ms)) if noted is not None else {}
        at = max(record, falls.get(closed[0], -1))
        return [raised, self._change(unit, Change.CLEAR, closed[0], at, value=value, quality=quality)]

    def _settle_spans(self, reached: I64, crossing: Callable[[Unit, int], int]) -> list[RowChange]:
        changes = []
        for number in self._spans.awake:
            unit = self.plan.spans[number]
            # while the contact's own gateway is silent nobody knows whether the door still stands open
            if unit.is_blind or not unit.lanes:
                continue
            upto_ms = int(reached[unit.lanes].min()) - unit.test.skew_ms - 1
            mark_ms = self._spans.states[number].mark
            for change, level, ms in self._spans.advance(number, upto_ms, self._states):
                # what a backlog brings about is decided when time next passes, not when it would have been
                record = max(crossing(unit, max(ms, mark_ms + 1) + unit.test.skew_ms), 0)
                changes.append(self._change(unit, change, ms, record, value=1.0, level=level))
        return changes

    def _settle_swipes(self, reached: I64, crossing: Callable[[int], int]) -> list[RowChange]:
        if not self._site_lanes:
            return []
        found, records = self._swipes.settle(int(reached[self._site_lanes].min()), self._states)
        changes = []
        for one in found:
            record = max(crossing(one.time_ms + SKEW_MS), records[one.at], 0)
            changes += self._told(Told(row=one.row, time_ms=one.time_ms, record=record, key=one.key))
        return changes

    @staticmethod
    def _crossing(chunk: Chunk, lanes: Sequence[int], time_ms: int) -> int:
        """Return the record at which all lanes are complete beyond a time; -1 for before."""
        if not lanes:
            return 0
        return int(chunk.crossed(np.array(lanes, np.int64), np.full(len(lanes), time_ms, np.int64)).max())

    def tick(self, record: int, now_ms: int) -> list[RowChange]:
        """Judge what a silent gateway held up and what late samples brought; find the lanes to wait for anew."""
        if not self.rows:
            return []
        self._inputs.look()
        self._entry_lanes = self.plan.lanes_of(self.plan.entries)
        self._site_lanes = self._inputs.site_lanes
        self._trim(now_ms)
        changes = self._tick_late(record, now_ms)
        if not self._has_work:
            return changes
        chunk = Chunk()
        chunk.start(self._lanes.complete_ms)
        changes += self._tick_orphans(record, now_ms)
        reached = np.append(chunk.reached(before=NO_RECORD), FAR)
        changes += self._settle_entries(chunk, None, reached)
        changes += self._settle_spans(reached, lambda _unit, _ms: record)
        changes += self._settle_swipes(reached, lambda _ms: record)
        return changes

    def _tick_orphans(self, record: int, now_ms: int) -> list[RowChange]:
        """Judge openings all of whose gateways are silent: nothing more will come."""
        waiting = self._waiting
        if not len(waiting):
            return []
        has_none: Bools = np.asarray((self._entry_lanes < 0).all(axis=1))[waiting.unit]
        is_due: Bools = has_none & (now_ms > waiting.arrived_ms + self._entries.skew_ms[waiting.unit])
        due = waiting.part(is_due)
        waiting.keep(~is_due)
        wrong = due.part(self._wrong(due, self._states, self._grants, self._opens))
        return [change for i in range(len(wrong)) for change in self._raise(wrong, i, record, None)]

    def _tick_late(self, record: int, now_ms: int) -> list[RowChange]:
        late = self._late
        if not len(late):
            return []
        is_due: Bools = now_ms >= late.arrived_ms + BACKLOG_MS
        due = late.part(is_due)
        late.keep(~is_due)
        if not len(due):
            return []
        states, grants, opens = self._states.whole(), self._grants.whole(), self._opens.whole()
        wrong = due.part(self._wrong(due, states, grants, opens))
        changes = []
        for i in range(len(wrong)):
            number, ms = int(wrong.unit[i]), int(wrong.time_ms[i])
            if is_too_old(ms, now_ms) or number in self._active:
                continue
            unit = self.plan.entries[number]
            end_ms = min(states.between(int(self._entries.contact[number]), ms, now_ms), default=ms)
            for kind, at_ms in ((Change.RAISE, ms), (Change.CLEAR, end_ms)):
                changes.append(
                    self._change(
                        unit,
                        kind,
                        at_ms,
                        record,
                        value=float(wrong.value[i]),
                        quality=int(wrong.quality[i]),
                        is_late=True,
                    )
                )
        return changes

    def _trim(self, now_ms: int) -> None:
        for log in (self._states, self._grants, self._opens):
            log.trim(now_ms, keep_ms=KEPT_MS)
        self._permits.trim(now_ms - KEPT_MS)
        self._swipes.journeys.trim(now_ms)

    def restart_clock(self, gateway: int, by_ms: int) -> None:
        """A gateway's clock was set: move what it said to where its new clock would have put it."""
        slots, grants = self._inputs.slots_of(gateway)
        if not slots and not grants:
            return
        self._states.shift(slots, by_ms)
        self._opens.shift(slots, by_ms)
        self._grants.shift(grants, by_ms)
        contact = self._entries.contact
        for waiting in (self._waiting, self._late):
            if len(waiting):
                waiting.time_ms += np.where(np.isin(contact[waiting.unit], list(slots)), by_ms, 0)
        self._active = {
            number: ms + (by_ms if int(contact[number]) in slots else 0) for number, ms in self._active.items()
        }
        self._spans.shift(slots, by_ms)

    @staticmethod
    def _told(told: Told) -> list[RowChange]:
        return [
            RowChange(
                row=told.row,
                kind=kind,
                level="",
                event_ms=told.time_ms,
                record=told.record,
                value=float("nan"),
                quality=0,
                is_late=told.is_late,
                cause=(told.key,) if told.key else (),
            )
            for kind in (Change.RAISE, Change.CLEAR)
        ]

    @staticmethod
    def _change(
        unit: Unit,
        kind: Change,
        event_ms: int,
        record: int,
        *,
        value: float,
        quality: int = 0,
        level: str = "",
        is_late: bool = False,
    ) -> RowChange:
        return RowChange(
            row=unit.number,
            kind=kind,
            level=level,
            event_ms=event_ms,
            record=record,
            value=value,
            quality=quality,
            is_late=is_late,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the state for a checkpoint, by names."""
        slots, units = self.plan.slots, [unit.row.key for unit in self.plan.entries]
        return {
            "states": self._states.to_json(slots.state_names),
            "opens": self._opens.to_json(slots.state_names),
            "grants": self._grants.to_json(slots.grant_names),
            "inputs": self._inputs.to_json(slots.state_names),
            "units": units,
            "waiting": self._waiting.to_json(),
            "late": self._late.to_json(),
            "active": {units[number]: ms for number, ms in self._active.items()},
            "spans": self._spans.to_json(),
            "swipes": self._swipes.to_json(),
            "site_lanes": self._site_lanes,
            "registry": self.registry.to_json(),
            "permits": self._permits.to_json(),
        }

    def load(self, content: dict[str, Any] | None) -> None:
        """Take over the state of a checkpoint; rows that are new keep their first state."""
        if content is None:
            return
        slots = self.plan.slots
        states = {name: i for i, name in enumerate(slots.state_names)}
        self._states.load(content["states"], states)
        self._opens.load(content["opens"], states)
        self._grants.load(content["grants"], {name: i for i, name in enumerate(slots.grant_names)})
        self._inputs.load(content["inputs"], slots.state_names)
        number = {unit.row.key: i for i, unit in enumerate(self.plan.entries)}
        renumber = [number.get(key, -1) for key in content["units"]]
        self._waiting.load(content["waiting"], renumber)
        self._late.load(content["late"], renumber)
        self._active = {number[key]: ms for key, ms in content["active"].items() if key in number}
        self._spans.load(content["spans"])
        self._swipes.load(content["swipes"])
        self._site_lanes = list(content["site_lanes"])
        self.registry.load(content["registry"])
        self._permits.load(content["permits"])
        self._entry_lanes = self.plan.lanes_of(self.plan.entries)


def _complete(reached: I64, lanes: I64) -> I64:
    """Return the watermark of each unit: the lowest of its lanes; NEVER when it has none."""
    result: I64 = np.where((lanes < 0).all(axis=1), NEVER, reached[lanes].min(axis=1))
    return result
