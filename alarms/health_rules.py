"""Health rules: data that stopped, are invalid, or never came, and gateways that fell silent. Pure.

Judged at the journal's tick records, so that wall-clock judgements are a function of the journal alone. While a
gateway is silent, the rules of its equipment hold: one outage is one alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alarms.judged import Change
from alarms.lanes import Lanes
from alarms.levels import RowChange
from alarms.rows import Expected, RuleRow
from alarms.signal_table import I64, IS_USABLE, NEVER, Bools, Ints, SignalTable
from watchroom.centre import INTAKE

GAP_MS = 5_000
"""A longer pause between ticks means that the centre was down: every silence starts anew."""
SILENT_MS = 15_000
"""Silence of a gateway that no rule watches."""
CAUSES = 10


class HealthJudge:
    """Judges every health row at ticks.

    Args:
        rows: All rows of the site; those of other kinds are left alone.
        expected: Equipment id -> signals of its template.
        gateways: Gateway id -> equipment that stands for it.
        table: The signals; ``is_stale`` is updated.
        lanes: Watermarks; ``is_silent`` of the gateways is updated.
    """

    def __init__(
        self,
        rows: Sequence[RuleRow],
        *,
        expected: Mapping[str, Expected],
        gateways: Mapping[str, str],
        table: SignalTable,
        lanes: Lanes,
    ) -> None:
        self.rows = [row for row in rows if row.kind == "health"]
        self._table, self._lanes = table, lanes
        self._numbers = {equipment: i for i, equipment in enumerate(expected)}
        self._equipment: list[int] = []
        self._known: Ints = np.zeros(0, np.intp)
        self._gateway_of = {equipment: gateway for gateway, equipment in gateways.items()}
        for gateway in gateways:
            lanes.gateway(gateway)
        of = {row.equipment: row.after_ms for row in self.rows if row.health == "gateway_silent"}
        self._silent_ms = {gateway: of.get(equipment, SILENT_MS) for gateway, equipment in gateways.items()}
        n = len(self.rows)
        self._row_equipment: Ints = np.array([self._numbers.get(row.equipment, -1) for row in self.rows], np.intp)
        self._of = {name: np.flatnonzero([row.health == name for row in self.rows]) for name in _KINDS}
        self._on_ms: I64 = np.array([row.on_delay_ms + _extra(row) for row in self.rows], np.int64)
        self._off_ms: I64 = np.array([row.off_delay_ms for row in self.rows], np.int64)
        self.cond: Bools = np.zeros(n, bool)
        self.act: Bools = np.zeros(n, bool)
        self.since: I64 = np.full(n, NEVER, np.int64)
        self.tick_ms = NEVER

    def tick(self, now_ms: int) -> list[RowChange]:
        """Judge at the centre's clock; record numbers of the changes are 0."""
        # a clock set back is a gap too: what it said before would lie in the future, perhaps for months
        back_ms = max(0, self.tick_ms - now_ms)
        restarts = back_ms > 0 or now_ms - self.tick_ms > GAP_MS or self._is_closed()
        self.tick_ms = now_ms
        if restarts:
            for state in self._lanes.states:
                if not state.is_silent:
                    state.arrived_ms = now_ms
                else:
                    state.arrived_ms -= back_ms
            self.since[self.cond != self.act] = now_ms
        self._watch_gateways(now_ms)
        cond, since, holds = self._conditions(now_ms)
        changed = (cond != self.cond) & ~holds
        self.cond[changed], self.since[changed] = cond[changed], since[changed]
        delay = np.where(self.cond, self._on_ms, self._off_ms)
        event_ms = self.since + delay
        due = np.flatnonzero((self.cond != self.act) & ~holds & ((now_ms > event_ms) | (delay == 0)))
        self.act[due] = self.cond[due]
        return [
            RowChange(
                row=row,
                kind=Change.RAISE if self.cond[row] else Change.CLEAR,
                level="",
                event_ms=int(event_ms[row]),
                record=0,
                value=float("nan"),
                quality=0,
            )
            for row in due.tolist()
        ]

    def _is_closed(self) -> bool:
        """Whether the centre takes nothing in, its disk is full: nobody may be blamed for silence then."""
        number = self._table.find(INTAKE)
        return number >= 0 and bool(self._table.value[number] == 0.0)

    def causes(self, row: int) -> tuple[str, ...]:
        """Return what a row complains about now: names of signals, or the gateway."""
        rule = self.rows[row]
        if rule.health == "gateway_silent":
            return (self._gateway_of.get(rule.equipment, ""),)
        flags = self._flags()[rule.health] & (self._equipment_of() == self._row_equipment[row])
        numbers = np.flatnonzero(flags)[:CAUSES]
        return tuple(self._table.keys[number].partition("/")[2] for number in numbers.tolist())

    def gateway_of(self, row: int) -> int:
        """Return the number of the gateway that brings the row's equipment, -1 when it is not known."""
        rule = self.rows[row]
        if rule.equipment in self._gateway_of:
            return self._lanes.gateway(self._gateway_of[rule.equipment])
        mine = np.flatnonzero(self._equipment_of() == self._row_equipment[row])
        gateways = self._table.gateway[mine]
        return int(gateways.max()) if len(gateways) else -1

    def _watch_gateways(self, now_ms: int) -> None:
        for name, number in self._lanes.gateways.items():
            state = self._lanes.states[number]
            if state.arrived_ms == NEVER:
                state.arrived_ms = now_ms
            is_silent = now_ms - state.arrived_ms > self._silent_ms.get(name, SILENT_MS)
            if state.is_silent and not is_silent and state.back_ms == NEVER:
                state.back_ms = now_ms
            state.is_silent = is_silent

    def _equipment_of(self) -> Ints:
        """Return the number of each signal's equipment, -1 for equipment that the site does not have."""
        keys = self._table.keys
        while len(self._equipment) < len(keys):
            self._equipment.append(self._numbers.get(keys[len(self._equipment)].partition("/")[0], -1))
        if len(self._known) < len(keys):
            self._known = np.array(self._equipment, np.intp)
        return self._known

    def _flags(self) -> dict[str, Bools]:
        table, n = self._table, len(self._table)
        is_announced = table.lane[:n] >= 0
        is_seen = table.time_ms[:n] > NEVER
        complete = np.where(is_announced, self._lanes.complete_ms[table.lane[:n]], NEVER)
        # NEVER + 1: seen, but before its gateway's clock stepped
        late = is_announced & (table.time_ms[:n] > NEVER + 1) & (complete > table.time_ms[:n] + table.stale_ms[:n])
        return {
            "stale": late,
            "bad": is_announced & is_seen & ~IS_USABLE[table.quality[:n]],
            "never_seen": is_announced & ~is_seen,
        }

    def _conditions(self, now_ms: int) -> tuple[Bools, I64, Bools]:
        table, n, m = self._table, len(self._table), len(self._numbers)
        flags = self._flags()
        silent = np.array([state.is_silent for state in self._lanes.states] + [False])
        is_silent = silent[table.gateway[:n]]  # -1 finds the False at the end
        table.is_stale[:n] = flags["stale"] | is_silent | (table.time_ms[:n] == NEVER)
        cond, since = np.zeros(len(self.rows), bool), np.full(len(self.rows), now_ms, np.int64)
        if not len(self.rows):
            return cond, since, cond
        equipment = self._equipment_of()
        known = equipment >= 0
        counts = {
            name: np.bincount(equipment[flag & known], minlength=m)[self._row_equipment] > 0
            for name, flag in (*flags.items(), ("silent", is_silent), ("announced", table.lane[:n] >= 0))
        }
        own = np.array([self._is_own_silent(row) for row in self.rows])
        holds: Bools = counts["silent"] | own
        counts["never_seen"] |= ~counts["announced"] & self._lacks_everything(bool(silent.any()))
        for name, which in self._of.items():
            if name != "gateway_silent":
                cond[which] = counts[name][which]
        for row in self._of["gateway_silent"].tolist():
            state = self._lanes.states[self.gateway_of(row)]
            cond[row], holds[row] = state.is_silent, False
            if state.is_silent:
                since[row] = state.arrived_ms + self.rows[row].after_ms
            elif state.back_ms != NEVER:
                since[row], state.back_ms = state.back_ms, NEVER
        return cond, since, holds

    def _is_own_silent(self, row: RuleRow) -> bool:
        gateway = self._gateway_of.get(row.equipment)
        return gateway is not None and self._lanes.states[self._lanes.gateway(gateway)].is_silent

    def _lacks_everything(self, is_any_silent: bool) -> Bools:
        """Rows of equipment that no gateway announces; unknown while a gateway is silent, it may be that one's."""
        return np.array([not is_any_silent and row.equipment not in self._gateway_of for row in self.rows])

    def to_json(self) -> dict[str, Any]:
        """Return the state by row keys for a checkpoint."""
        rows = {row.key: [bool(self.cond[i]), bool(self.act[i]), int(self.since[i])] for i, row in enumerate(self.rows)}
        return {"rows": rows, "tick_ms": self.tick_ms}

    def load(self, content: dict[str, Any]) -> None:
        """Take over the state of a checkpoint; rows that are new keep their first state."""
        self.tick_ms = content["tick_ms"]
        for i, row in enumerate(self.rows):
            saved = content["rows"].get(row.key)
            if saved is not None:
                self.cond[i], self.act[i], self.since[i] = saved


_KINDS = ("stale", "bad", "never_seen", "gateway_silent")


def _extra(row: RuleRow) -> int:
    """never_seen: the time allowed works like a delay, so that a new gateway is not blamed before its first frame."""
    return row.after_ms if row.health == "never_seen" else 0
