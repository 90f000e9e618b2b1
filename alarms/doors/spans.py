"""Spans: states that last too long, such as a door held open, a lock not released on fire, or left unlocked. Pure.

A span runs while any of its states is true and nothing makes it right; each time it starts anew its delays start anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alarms.doors.hours import Hours
from alarms.doors.logs import Log
from alarms.doors.plan import Unit
from alarms.judged import Change
from alarms.signal_table import I64, NEVER, Bools

Permits = Callable[[str], Sequence[tuple[int, int]]]
Told = tuple[Change, str, int]
"""(change, level, time)"""


@dataclass(slots=True)
class Span:
    """State of one row.

    Attributes:
        since: When the run began, NEVER while it does not run.
        mark: Everything up to here was judged.
        level: Number of delays that have passed.
        is_awake: It runs or may run: it is looked at whenever time passes.
    """

    since: int = NEVER
    mark: int = NEVER
    level: int = 0
    is_awake: bool = False


class Spans:
    """Judges every span.

    Args:
        units: The rows.
        zone: Zone of the site, for hours.
        permits: Door -> (from, until) of permits to stand open.
    """

    def __init__(self, units: list[Unit], *, zone: str, permits: Permits) -> None:
        self.units, self._permits = units, permits
        self.states = [Span() for _ in units]
        self._hours = [Hours(unit.test.hours, zone) for unit in units]
        self._delays: list[list[tuple[str, int]]] = []
        for unit in units:
            test = unit.test
            levels = [("", test.after_ms)]
            if test.warn_ms is not None:
                levels = [("H", test.warn_ms), ("HH", test.after_ms)]
            self._delays.append(levels)
        self.of_slot: dict[int, list[int]] = {}
        for i, unit in enumerate(units):
            for slot in unit.trues:
                self.of_slot.setdefault(slot, []).append(i)
        self._shortest = {
            slot: min(self._delays[i][0][1] for i in members) for slot, members in self.of_slot.items()
        }  # fmt: skip

    def wake(self, slot: I64, time_ms: I64, value: Bools) -> None:
        """Note edges, sorted by slot and time; runs that end within the batch and are too short wake nobody."""
        if not len(slot) or not self.of_slot:
            return
        wanted = np.isin(slot, np.fromiter(self.of_slot, np.int64))
        delays = np.full(int(slot.max()) + 1, 0, np.int64)
        for number, delay in self._shortest.items():
            if number < len(delays):
                delays[number] = delay
        ends = np.append((slot[1:] == slot[:-1]) & ~value[1:], False)
        length = np.append(time_ms[1:] - time_ms[:-1], 0)
        is_long = wanted & value & ~(ends & (length <= delays[slot]))
        at = np.flatnonzero(is_long)
        if not len(at):
            return
        slots, first = np.unique(slot[at], return_index=True)
        for number, start_ms in zip(slots.tolist(), time_ms[at[first]].tolist(), strict=True):
            for i in self.of_slot[number]:
                if not self.states[i].is_awake:
                    self.states[i].is_awake, self.states[i].mark = True, max(self.states[i].mark, start_ms - 1)

    @property
    def awake(self) -> list[int]:
        """Numbers of the spans to look at."""
        return [i for i, state in enumerate(self.states) if state.is_awake]

    def advance(self, number: int, upto_ms: int, states: Log) -> Iterator[Told]:
        """Carry one span to a time before which every input is known."""
        span = self.states[number]
        if upto_ms <= span.mark:
            return
        if span.since == NEVER and self._runs(number, span.mark, states):
            span.since = self._start(number, span.mark, states)
        for edge_ms in self._edges(number, span.mark, upto_ms, states):
            yield from self._mature(number, edge_ms - 1)
            runs = self._runs(number, edge_ms, states)
            if runs and span.since == NEVER:
                span.since = edge_ms
            elif not runs:
                span.since = NEVER
                if span.level:
                    yield Change.CLEAR, self._delays[number][span.level - 1][0], edge_ms
                    span.level = 0
        yield from self._mature(number, upto_ms)
        span.mark = upto_ms
        if span.since == NEVER and not any(states.holds(slot, upto_ms) for slot in self.units[number].trues):
            # an edge beyond the time is known already: stay awake for it
            later = any(states.between(slot, upto_ms, upto_ms + 86_400_000) for slot in self.units[number].trues)
            span.is_awake = later

    def _mature(self, number: int, upto_ms: int) -> Iterator[Told]:
        span, delays = self.states[number], self._delays[number]
        while span.since > NEVER and span.level < len(delays) and span.since + delays[span.level][1] <= upto_ms:
            level, delay = delays[span.level]
            span.level += 1
            yield (Change.RAISE if span.level == 1 else Change.ESCALATE), level, span.since + delay

    def _runs(self, number: int, time_ms: int, states: Log) -> bool:
        unit = self.units[number]
        if not any(states.holds(slot, time_ms) for slot in unit.trues):
            return False
        if any(states.holds(slot, time_ms) for slot in unit.rights) or self._hours[number].holds(time_ms):
            return False
        return not any(start <= time_ms < end for start, end in self._permitted(number))

    def _permitted(self, number: int) -> Sequence[tuple[int, int]]:
        unit = self.units[number]
        return self._permits(unit.row.equipment) if unit.test.of == "held" else ()

    def _start(self, number: int, time_ms: int, states: Log) -> int:
        """Return when a run that is on at a time began."""
        unit = self.units[number]
        began = [
            int(states.times(at)[0])
            for slot in unit.trues
            if states.holds(slot, time_ms)
            for at in [states.last(np.array([slot]), np.array([time_ms]))]
        ]
        ended = [max((0, *states.between(slot, 0, time_ms))) for slot in unit.rights]
        ended += [end for _, end in self._permitted(number) if end <= time_ms]
        return max([min(began), *ended])

    def _edges(self, number: int, after_ms: int, upto_ms: int, states: Log) -> list[int]:
        unit = self.units[number]
        found = {ms for slot in (*unit.trues, *unit.rights) for ms in states.between(slot, max(0, after_ms), upto_ms)}
        found.update(ms for pair in self._permitted(number) for ms in pair if after_ms < ms <= upto_ms)
        if self.states[number].is_awake and after_ms > 0:
            found.update(self._hours[number].between(after_ms, upto_ms))
        return sorted(found)

    def shift(self, slots: set[int], by_ms: int) -> None:
        """Move runs in time whose first state was stamped by a clock that was set."""
        for unit, span in zip(self.units, self.states, strict=True):
            if unit.trues[0] in slots:
                span.since += by_ms if span.since > NEVER else 0
                span.mark += by_ms if span.mark > NEVER else 0

    def to_json(self) -> dict[str, Any]:
        """Return the state by row keys."""
        return {
            unit.row.key: [span.since, span.mark, span.level, span.is_awake]
            for unit, span in zip(self.units, self.states, strict=True)
        }

    def load(self, content: dict[str, Any]) -> None:
        """Take over the state; new rows keep their first."""
        for i, unit in enumerate(self.units):
            if unit.row.key in content:
                self.states[i] = Span(*content[unit.row.key])
