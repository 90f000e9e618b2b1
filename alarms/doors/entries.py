"""Entries: a door that opens and nothing explains it, and more openings than grants. Pure.

An opening at *t* is judged when every gateway that could still bring an explanation has measured beyond ``t + skew``:
a late grant never makes a forced door.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from alarms.doors.logs import Log
from alarms.doors.plan import Unit
from alarms.late import OLDEST_MS
from alarms.signal_table import I64, Bools

BOUNCE_MS = 500
"""A contact that closes for a shorter time has bounced: no second person."""
BACKLOG_MS = 5_000
"""A late opening waits this long for the rest of the backlog."""
_COLUMNS = {"unit": "i8", "time_ms": "i8", "arrived_ms": "i8", "record": "i8", "value": "f8", "quality": "i8"}


class Waiting:
    """Openings that wait for their judgement, as columns of shape (n,)."""

    def __init__(self) -> None:
        self.unit: I64
        self.time_ms: I64
        self.arrived_ms: I64
        self.record: I64
        self.value: Any
        self.quality: I64
        self.keep(None)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self.unit)

    def keep(self, which: Bools | None) -> None:
        """Keep some; None for none."""
        for name, kind in _COLUMNS.items():
            setattr(self, name, np.zeros(0, kind) if which is None else getattr(self, name)[which])

    def add(self, **columns: Any) -> None:
        """Append openings."""
        for name, kind in _COLUMNS.items():
            setattr(self, name, np.concatenate([getattr(self, name), np.asarray(columns[name], kind)]))

    def part(self, which: Any) -> Waiting:
        """Return some of them."""
        result = Waiting()
        for name in _COLUMNS:
            setattr(result, name, getattr(self, name)[which])
        return result

    def to_json(self) -> dict[str, Any]:
        """Return the columns for a checkpoint."""
        return {name: getattr(self, name).tolist() for name in _COLUMNS}

    def load(self, content: dict[str, Any], renumber: list[int]) -> None:
        """Take over columns of a checkpoint; ``renumber`` gives each unit's number now, -1 for one that is gone."""
        self.keep(None)
        unit = [renumber[number] for number in content["unit"]]
        self.add(**{**content, "unit": unit, "record": [-1] * len(unit)})
        self.keep(self.unit >= 0)


class Entries:
    """Decides which openings are wrong.

    Args:
        units: The rows; each has the contact (or a counter of passages) as its first state.
        slots: How many state slots there are.
    """

    def __init__(self, units: list[Unit], *, slots: int) -> None:
        self.units = units
        tests = [unit.test for unit in units]
        self.within_ms = np.array([test.within_ms for test in tests], np.int64)
        self.skew_ms = np.array([test.skew_ms for test in tests], np.int64)
        self.grant = np.array([unit.grant for unit in units], np.int64)
        self.contact = np.array([unit.trues[0] for unit in units], np.int64)
        self.is_count = np.array([test.of == "tailgating" for test in tests], bool)
        width = max((len(unit.rights) for unit in units), default=0)
        self.rights = np.full((len(units), width), -1, np.int64)
        for i, unit in enumerate(units):
            self.rights[i, : len(unit.rights)] = unit.rights
        of_slot: dict[int, list[int]] = {}
        for i, slot in enumerate(self.contact.tolist()):
            of_slot.setdefault(slot, []).append(i)
        # units that judge the rises of each state slot, -1 where there are fewer
        self.units_of = np.full((slots, max((len(some) for some in of_slot.values()), default=0)), -1, np.int64)
        for slot, some in of_slot.items():
            self.units_of[slot, : len(some)] = some
        self.is_contact: Bools = np.isin(np.arange(slots), self.contact)

    def are_wrong(self, unit: I64, time_ms: I64, *, states: Log, grants: Log, opens: Log) -> Bools:
        """Return which openings are alarms.

        Args:
            unit: Number of the row within ``units``, shape (n,).
            time_ms: When it opened, shape (n,).
            states: Edges of all states.
            grants: Times of grants by grant slot.
            opens: Times of openings that were no bounce, by state slot.
        """
        start, end = time_ms - self.within_ms[unit], time_ms + self.skew_ms[unit]
        slot = self.grant[unit]
        granted = np.where(slot >= 0, grants.count(np.maximum(slot, 0), start, end), 0)
        wrong: Bools = np.where(self.is_count[unit], granted > 0, granted == 0)
        for column in range(self.rights.shape[1]):
            left = np.flatnonzero(wrong & (self.rights[unit, column] >= 0))
            if len(left):
                wrong[left] = ~states.holds_within(self.rights[unit[left], column], start[left], end[left])
        left = np.flatnonzero(wrong & self.is_count[unit])
        if len(left):
            first = self._first_grant(grants, slot[left], start[left]) - self.skew_ms[unit[left]]
            entered = opens.count(self.contact[unit[left]], first, time_ms[left])
            is_entry = opens.count(self.contact[unit[left]], time_ms[left], time_ms[left]) > 0
            wrong[left] = is_entry & (entered > granted[left])
        return wrong

    @staticmethod
    def _first_grant(grants: Log, slot: I64, start_ms: I64) -> I64:
        at = grants.last(slot, start_ms - 1) + 1
        none = at == 0
        if none.any():
            at[none] = np.searchsorted(grants.key, slot[none] << 42, side="left")
        return grants.times(at)


def is_too_old(time_ms: int, now_ms: int) -> bool:
    """Whether an opening found in a backlog is only recorded, not told any more."""
    return now_ms - time_ms > OLDEST_MS
