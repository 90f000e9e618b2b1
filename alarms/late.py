"""Late samples: what an outage hid. The live state never moves back, but a latched alarm is still told. Pure.

A latching condition that was true in samples up to 30 minutes old raises its alarm marked *late*, and clears it at
once: it stays until a person has acknowledged and reset it. Judged at the next tick, so that the result does not
depend on how the journal was cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alarms.chunk import Samples
from alarms.conditions import LEVELS, Conditions
from alarms.judged import Change
from alarms.levels import NORMAL, RowChange
from alarms.signal_table import IS_USABLE, NEVER

OLDEST_MS = 30 * 60_000


class LateLane:
    """Runs of latching conditions in late samples.

    Args:
        state: The live conditions; only read.
    """

    def __init__(self, state: Conditions) -> None:
        self._state = state
        self._names = state.names()
        # condition -> start of the late run, NEVER when the last late sample failed or the run was told
        self._since: dict[int, int] = {}
        self._was: dict[int, bool] = {}
        # row -> (event_ms, condition, value, quality)
        self._found: dict[int, tuple[int, int, float, int]] = {}

    def take(self, late: Samples) -> None:
        """Note the late samples of a chunk, sorted by (signal, record, time)."""
        position, condition, is_guard = self._state.users(late.signal)
        for at, one, guard in zip(position.tolist(), condition.tolist(), is_guard.tolist(), strict=True):
            if guard or not self._state.rows[self._state.row[one]].latching or not IS_USABLE[late.quality[at]]:
                continue
            verdict = self._state.test[one].verdict(float(late.value[at]))
            if verdict:
                self._step(one, int(late.time_ms[at]), float(late.value[at]), int(late.quality[at]), verdict > 0)

    def _step(self, condition: int, time_ms: int, value: float, quality: int, is_true: bool) -> None:
        was = self._was.get(condition, False)
        if is_true and not was:
            self._since[condition] = time_ms
        start = self._since.get(condition, NEVER)
        delay = int(self._state.on_ms[condition])
        if start > NEVER and (time_ms > start + delay or (delay == 0 and is_true)):
            row = int(self._state.row[condition])
            known = self._found.get(row)
            if known is None or self._rank(condition) < self._rank(known[1]):
                self._found[row] = (start + delay, condition, value, quality)
            self._since[condition] = NEVER
        self._was[condition] = is_true
        if not is_true:
            self._since[condition] = NEVER

    def _rank(self, condition: int) -> int:
        return LEVELS.index(self._state.level[condition])

    def tell(self, now_ms: int) -> Iterator[RowChange]:
        """Yield a RAISE and a CLEAR for each row found since the last tick that is not active now."""
        for row, (event_ms, condition, value, quality) in sorted(self._found.items()):
            if self._state.row_level[row] != NORMAL or now_ms - event_ms > OLDEST_MS:
                continue
            for kind in (Change.RAISE, Change.CLEAR):
                yield RowChange(
                    row=row,
                    kind=kind,
                    level=self._state.level[condition],
                    event_ms=event_ms,
                    record=0,
                    value=value,
                    quality=quality,
                    is_late=True,
                )
        self._found.clear()

    def to_json(self) -> dict[str, Any]:
        """Return the state for a checkpoint, by names of conditions."""
        return {
            "since": {self._names[c]: start for c, start in self._since.items()},
            "was": {self._names[c]: was for c, was in self._was.items()},
            "found": {self._names[c]: [ms, value, quality] for ms, c, value, quality in self._found.values()},
        }

    def load(self, content: dict[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        number = {name: i for i, name in enumerate(self._names)}
        self._since = {number[name]: start for name, start in content["since"].items() if name in number}
        self._was = {number[name]: was for name, was in content["was"].items() if name in number}
        self._found = {
            int(self._state.row[number[name]]): (ms, number[name], value, quality)
            for name, (ms, value, quality) in content["found"].items()
            if name in number
        }
