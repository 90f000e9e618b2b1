"""The rows of access control as columns: which inputs each has, and which lanes it waits for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from alarms.lanes import Lanes
from alarms.rows import AccessTest, Op, RuleRow, StateTest
from alarms.signal_table import I64, SignalTable
from alarms.templates import ENTRY_KINDS, SPAN_KINDS

Input = tuple[str, Op, tuple[float, ...], int]
Grants = tuple[tuple[str, str, str, tuple[str | float, ...]], ...]


class Slots:
    """Dense numbers of the states and grants that rows ask for.

    Attributes:
        tests: Test of each state slot.
        users: Signal number -> state slots.
        granting: (event kind, equipment) -> (grant slot, field, values).
    """

    def __init__(self, table: SignalTable) -> None:
        self._table = table
        self._states: dict[Input, int] = {}
        self._grants: dict[Grants, int] = {}
        self.tests: list[StateTest] = []
        self.users: dict[int, list[int]] = {}
        self.granting: dict[tuple[str, str], list[tuple[int, str, frozenset[str | float]]]] = {}

    def state(self, test: StateTest) -> int:
        """Return the slot of a state; a new one gets the next."""
        key = (test.signal, test.op, test.values, test.mask)
        if key not in self._states:
            self._states[key] = len(self.tests)
            self.users.setdefault(self._table.number(test.signal), []).append(len(self.tests))
            self.tests.append(test)
        return self._states[key]

    def grants(self, events: Grants) -> int:
        """Return the slot of a set of grants, -1 for none."""
        if not events:
            return -1
        if events not in self._grants:
            number = self._grants[events] = len(self._grants)
            for kind, name, equipment, values in events:
                self.granting.setdefault((kind, equipment), []).append((number, name, frozenset(values)))
        return self._grants[events]

    @property
    def state_names(self) -> list[str]:
        """Names of the state slots for a checkpoint."""
        return [f"{signal} {int(op)} {list(values)} {mask}" for signal, op, values, mask in self._states]

    @property
    def grant_names(self) -> list[str]:
        """Names of the grant slots for a checkpoint."""
        return [repr(events) for events in self._grants]


class Unit:
    """One row that waits for several inputs.

    Attributes:
        trues: State slots any of which makes it true.
        rights: State slots that make it right.
        grant: Slot of the grants that do, -1 for none.
        lanes: Lanes whose watermark must pass, as of the last tick.
        is_blind: The gateway of its first input is silent.
    """

    def __init__(self, number: int, row: RuleRow, test: AccessTest, *, slots: Slots, table: SignalTable) -> None:
        self.number, self.row, self.test = number, row, test
        self.trues = [slots.state(item) for item in test.trues]
        self.rights = [slots.state(item) for item in test.states]
        self.grant = slots.grants(test.events)
        self.signals = [table.number(item.signal) for item in (*test.trues, *test.states)]
        self.senders = tuple((kind, equipment) for kind, _, equipment, _ in test.events)
        self.lanes: list[int] = []
        self.is_blind = False

    def look(self, table: SignalTable, lanes: Lanes, sources: Mapping[tuple[str, str], set[int]]) -> None:
        """Find the lanes anew: gateways come, fall silent and come back."""
        found: set[int] = set()
        for number in self.signals:
            if table.lane[number] >= 0 and not lanes.states[int(table.gateway[number])].is_silent:
                found.add(int(table.lane[number]))
        own = int(table.gateway[self.signals[0]]) if self.signals else -1
        if self.senders:
            gateways = set().union(*(sources.get(sender, set()) for sender in self.senders)) | ({own} - {-1})
            found |= {lanes.lane(gateway, 0) for gateway in gateways if not lanes.states[gateway].is_silent}
        self.lanes = sorted(found)
        self.is_blind = own < 0 or lanes.states[own].is_silent


class Plan:
    """All rows of access control, sorted by how they are judged.

    Args:
        rows: All rows of the site; those of other kinds are left alone.
        table: The signals; inputs are marked as tracked.
    """

    def __init__(self, rows: Sequence[RuleRow], *, table: SignalTable) -> None:
        self.rows = [row for row in rows if row.access is not None]
        self.slots = Slots(table)
        self.entries: list[Unit] = []
        self.spans: list[Unit] = []
        self.cards: list[tuple[int, RuleRow, AccessTest]] = []
        for number, row in enumerate(self.rows):
            test = row.access
            if test is None or (test.of in (*ENTRY_KINDS, *SPAN_KINDS) and not test.trues):
                continue
            if test.of in ENTRY_KINDS:
                self.entries.append(Unit(number, row, test, slots=self.slots, table=table))
            elif test.of in SPAN_KINDS:
                self.spans.append(Unit(number, row, test, slots=self.slots, table=table))
            else:
                self.cards.append((number, row, test))
        for number in self.slots.users:
            table.is_tracked[number] = True
            table.is_clean[number] = False

    def lanes_of(self, units: Sequence[Unit]) -> I64:
        """Return the lanes of units as a matrix, -1 where there are fewer; shape (units, most)."""
        width = max((len(unit.lanes) for unit in units), default=0)
        result = np.full((len(units), max(1, width)), -1, np.int64)
        for i, unit in enumerate(units):
            result[i, : len(unit.lanes)] = unit.lanes
        return result
