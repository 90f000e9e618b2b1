"""From a chunk of the journal to edges of states, grants and swipes: what came in time, and what did not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from alarms.chunk import Chunk, Samples
from alarms.doors.plan import Plan
from alarms.doors.registry import CENTRE, CREDENTIAL, PERMIT
from alarms.doors.swipes import ACCESS
from alarms.judged import JudgedEvent
from alarms.lanes import Lanes
from alarms.rows import Op
from alarms.signal_table import F64, I64, IS_USABLE, U8, Bools, SignalTable

Event = tuple[int, JudgedEvent, int]
"""(record, event, number of its gateway)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """Something that came after its time was complete; it counts from its record on.

    Attributes:
        slot: State slot of a sample, -1 for an event.
        is_late: Older than another sample of its signal.
    """

    record: int
    time_ms: int
    slot: int = -1
    value: bool = False
    raw: float = 0.0
    quality: int = 0
    is_opening: bool = False
    is_late: bool = False
    event: Event | None = None


@dataclass(slots=True, kw_only=True)
class Noted:
    """Edges of states as columns sorted by (slot, time), grants, swipes in journal order, and what came behind."""

    slot: I64
    time_ms: I64
    value: Bools
    raw: F64
    quality: U8
    record: I64
    is_opening: Bools
    grant_slot: I64
    grant_ms: I64
    events: list[Event] = field(default_factory=list)
    behind: list[Behind] = field(default_factory=list)
    falls: tuple[I64, I64, I64] | None = None

    def falls_of(self, slot: int, after_ms: int) -> list[tuple[int, int]]:
        """Return (time, record) of a state's falls after a time, also of those that came behind."""
        if self.falls is None:
            return []
        slots, time_ms, record = self.falls
        at = np.flatnonzero((slots == slot) & (time_ms > after_ms))
        return list(zip(time_ms[at].tolist(), record[at].tolist(), strict=True))


class Inputs:
    """Reads the inputs of access control.

    Args:
        plan: The rows.
        table: The signals, for their lanes.
        lanes: The gateways.
    """

    def __init__(self, plan: Plan, *, table: SignalTable, lanes: Lanes) -> None:
        self._table, self._lanes = table, lanes
        slots = plan.slots
        self._granting = slots.granting
        self._cards = frozenset(row.equipment for _, row, _ in plan.cards)
        size = max(slots.users, default=-1) + 1
        # tests of the same shape are answered together: shape -> slot by signal
        self._shapes: dict[tuple[Op, tuple[float, ...], int], I64] = {}
        for number, members in slots.users.items():
            for slot in members:
                test = slots.tests[slot]
                self._shapes.setdefault((test.op, test.values, test.mask), np.full(size, -1, np.int64))[number] = slot
        self._size = size
        self._was = np.full(len(slots.tests), -1, np.int8)
        self._late_was = np.full(len(slots.tests), -1, np.int8)
        self._lane: I64 = np.full(size, -1, np.int64)
        self._units = [*plan.entries, *plan.spans]
        self.sources: dict[tuple[str, str], set[int]] = {}
        self._known: dict[tuple[str, str, int], int] = {}

    def look(self) -> None:
        """Find anew which lanes are waited for: called at ticks, so that it does not depend on batches."""
        used = {number for unit in self._units for number in unit.signals}
        self._lane[:] = -1
        for number in used:
            gateway = int(self._table.gateway[number])
            if gateway >= 0 and not self._lanes.states[gateway].is_silent:
                self._lane[number] = self._table.lane[number]
        self._known = {}
        for (kind, equipment), gateways in self.sources.items():
            for gateway in gateways:
                if not self._lanes.states[gateway].is_silent:
                    self._known[kind, equipment, gateway] = self._lanes.lane(gateway, 0)
        for unit in self._units:
            unit.look(self._table, self._lanes, self.sources)
            own = int(self._table.gateway[unit.signals[0]]) if unit.signals else -1
            if own >= 0 and not self._lanes.states[own].is_silent:
                for kind, equipment in unit.senders:
                    self._known[kind, equipment, own] = self._lanes.lane(own, 0)

    @property
    def site_lanes(self) -> list[int]:
        """Lanes of every input, for what concerns the whole site."""
        return sorted({lane for unit in self._units for lane in unit.lanes} | set(self._known.values()))

    def take(self, chunk: Chunk, *, fresh: Samples, late: Samples, events: Sequence[JudgedEvent]) -> Noted | None:
        """Return what a chunk says about inputs, None for nothing."""
        noted = self._samples(chunk, fresh)
        behind = [*self._late_samples(late)]
        grants: list[tuple[int, int]] = []
        if events:
            noted = noted or _nothing()
            grants = self._events(chunk, events, noted, behind)
        if noted is None and not behind:
            return None
        noted = noted or _nothing()
        noted.behind += behind
        noted.behind.sort(key=attrgetter("record"))
        noted.grant_slot = np.array([slot for slot, _ in grants], np.int64)
        noted.grant_ms = np.array([ms for _, ms in grants], np.int64)
        return noted

    def _tested(self, samples: Samples) -> dict[str, Any] | None:
        """Return the samples of inputs by slot, in the order of each slot."""
        if not len(samples.signal) or not self._size:
            return None
        is_mine = self._table.is_tracked[samples.signal] & (samples.signal < self._size)
        at = np.flatnonzero(is_mine & IS_USABLE[samples.quality] & ~np.isnan(samples.value))
        if not len(at):
            return None
        parts = []
        for (op, values, mask), slot_of in self._shapes.items():
            slot = slot_of[samples.signal[at]]
            mine = at[slot >= 0]
            if len(mine):
                parts.append((slot[slot >= 0], mine, _verdicts(op, values, mask, samples.value[mine])))
        if not parts:
            return None
        slot = np.concatenate([part[0] for part in parts])
        which = np.concatenate([part[1] for part in parts])
        value = np.concatenate([part[2] for part in parts])
        order = np.argsort(slot, kind="stable")
        return {"slot": slot[order], "which": which[order], "value": value[order]}

    def _samples(self, chunk: Chunk, fresh: Samples) -> Noted | None:
        tested = self._tested(fresh)
        if tested is None:
            return None
        slot, which, value = tested["slot"], tested["which"], tested["value"]
        is_first = np.append(True, slot[1:] != slot[:-1])
        before = np.append(np.int8(-1), value[:-1].astype(np.int8))
        before[is_first] = self._was[slot[is_first]]
        is_last = np.append(slot[1:] != slot[:-1], True)
        self._was[slot[is_last]] = value[is_last]
        kept = np.flatnonzero(before != value)
        slot, which, value, before = slot[kept], which[kept], value[kept], before[kept]
        if not len(slot):
            return None
        record, time_ms = fresh.record[which], fresh.time_ms[which]
        lane = self._lane[fresh.signal[which]]
        is_behind = (lane < 0) | (lane != self._table.lane[fresh.signal[which]])
        is_behind |= chunk.crossed(lane, time_ms) < record
        is_opening = value & (before == 0)
        if chunk.snapshots:
            # after an outage nobody knows how the door came to stand open: the backlog tells
            is_opening &= ~np.isin(record, list(chunk.snapshots))
        columns = {
            "slot": slot,
            "time_ms": time_ms,
            "value": value,
            "raw": fresh.value[which],
            "quality": fresh.quality[which],
            "record": record,
            "is_opening": is_opening,
        }
        falls = (slot[~value], time_ms[~value], record[~value])
        in_time = {name: column[~is_behind] for name, column in columns.items()}
        noted = Noted(**in_time, grant_slot=_NONE, grant_ms=_NONE, falls=falls)
        if is_behind.any():
            late = {name: column[is_behind].tolist() for name, column in columns.items()}
            noted.behind = [Behind(**dict(zip(late, row, strict=True))) for row in zip(*late.values(), strict=True)]
        return noted

    def _late_samples(self, late: Samples) -> Iterable[Behind]:
        tested = self._tested(late)
        if tested is None:
            return
        for slot, at, value in zip(*(tested[name].tolist() for name in ("slot", "which", "value")), strict=True):
            was, self._late_was[slot] = self._late_was[slot], value
            yield Behind(
                record=int(late.record[at]),
                time_ms=int(late.time_ms[at]),
                slot=slot,
                value=bool(value),
                raw=float(late.value[at]),
                quality=int(late.quality[at]),
                is_opening=bool(value) and was == 0,
                is_late=True,
            )

    def _events(
        self, chunk: Chunk, events: Sequence[JudgedEvent], noted: Noted, behind: list[Behind]
    ) -> list[tuple[int, int]]:
        wanted: list[Event] = []
        lanes: list[int] = []
        record_of = dict(zip(chunk.offset, range(len(chunk.offset)), strict=True))
        known, granting = self._known, self._granting
        for item in events:
            event = item.event
            key = (event.kind, event.equipment or "")
            if item.gateway == CENTRE and event.kind in (CREDENTIAL, PERMIT):
                record = record_of[item.offset]
                behind.append(Behind(record=record, time_ms=item.judged_ms, event=(record, item, -1)))
            elif key in granting or (event.kind == ACCESS and event.equipment in self._cards):
                record = record_of[item.offset]
                gateway = chunk.gateway[record]
                wanted.append((record, item, gateway))
                lanes.append(known.get((*key, gateway), -1))
        if not wanted:
            return []
        lane = np.array(lanes, np.int64)
        crossed = chunk.crossed(lane, np.array([item.judged_ms for _, item, _ in wanted], np.int64))
        is_behind = (lane < 0) | (crossed < np.array([record for record, _, _ in wanted], np.int64))
        grants: list[tuple[int, int]] = []
        for one, came_behind in zip(wanted, is_behind.tolist(), strict=True):
            if came_behind:
                behind.append(Behind(record=one[0], time_ms=one[1].judged_ms, event=one))
            else:
                noted.events.append(one)
                grants += self.grants_of(one)
        return grants

    def grants_of(self, one: Event) -> list[tuple[int, int]]:
        """Return (grant slot, time) of what an event grants; its gateway is a source from now on."""
        _, item, gateway = one
        event, key = item.event, (item.event.kind, item.event.equipment or "")
        sources = self.sources.get(key)
        if sources is None:
            sources = self.sources[key] = set()
        sources.add(gateway)
        granting = self._granting.get(key)
        if granting is None:
            return []
        fields, judged_ms = event.fields, item.judged_ms
        return [(slot, judged_ms) for slot, name, values in granting if _held(fields.get(name), values)]

    def slots_of(self, gateway: int) -> tuple[set[int], set[int]]:
        """Return (state slots, grant slots) of what a gateway reports."""
        mine = {number for number in range(self._size) if int(self._table.gateway[number]) == gateway}
        states = {int(slots[number]) for slots in self._shapes.values() for number in mine} - {-1}
        grants = {
            slot
            for key, gateways in self.sources.items()
            if gateway in gateways
            for slot, _, _ in self._granting.get(key, ())
        }
        return states, grants

    def to_json(self, names: list[str]) -> dict[str, Any]:
        """Return the state for a checkpoint, lanes as of the last tick among it."""
        used = np.flatnonzero(self._lane >= 0).tolist()
        return {
            "was": dict(zip(names, self._was.tolist(), strict=True)),
            "late_was": dict(zip(names, self._late_was.tolist(), strict=True)),
            "sources": [[*key, sorted(gateways)] for key, gateways in self.sources.items()],
            "known": [[*key, lane] for key, lane in self._known.items()],
            "lanes": {self._table.keys[number]: int(self._lane[number]) for number in used},
            "units": {unit.row.key: [unit.lanes, unit.is_blind] for unit in self._units},
        }

    def load(self, content: dict[str, Any], names: list[str]) -> None:
        """Take over the state of a checkpoint."""
        for i, name in enumerate(names):
            self._was[i] = content["was"].get(name, -1)
            self._late_was[i] = content["late_was"].get(name, -1)
        self.sources = {(kind, equipment): set(gateways) for kind, equipment, gateways in content["sources"]}
        self._known = {(kind, equipment, gateway): lane for kind, equipment, gateway, lane in content["known"]}
        self._lane[:] = -1
        for key, lane in content["lanes"].items():
            number = self._table.find(key)
            if 0 <= number < self._size:
                self._lane[number] = lane
        for unit in self._units:
            unit.lanes, unit.is_blind = content["units"].get(unit.row.key, ([], True))


def _held(value: object, values: frozenset[str | float]) -> bool:
    return isinstance(value, str | int | float) and value in values


def _verdicts(op: Op, values: tuple[float, ...], mask: int, value: F64) -> Bools:
    if op is Op.BITS:
        # what no integer can hold is no set of bits
        whole = np.where(np.isfinite(value) & (np.abs(value) < 2**53), value, 0.0).astype(np.int64)
        bits: Bools = (whole & mask) != 0
        return bits
    held: Bools = (value == values[0]) if len(values) == 1 else np.isin(value, values)
    return held if op is Op.IN else ~held


_NONE: I64 = np.zeros(0, np.int64)


def _nothing() -> Noted:
    return Noted(
        slot=_NONE,
        time_ms=_NONE,
        value=np.zeros(0, bool),
        raw=np.zeros(0),
        quality=np.zeros(0, np.uint8),
        record=_NONE,
        is_opening=np.zeros(0, bool),
        grant_slot=_NONE,
        grant_ms=_NONE,
    )


__all__ = ["Behind", "Event", "Inputs", "Noted"]
