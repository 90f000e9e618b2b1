"""From conditions to rows: the levels HH, H, L, LL of one signal are one alarm that escalates and eases. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

from alarms.conditions import LEVELS, Conditions
from alarms.judged import Change
from alarms.runs import Matured

NORMAL = "-"
"""Level of a row that is not active."""
_RANK = {"LL": 2, "HH": 2, "L": 1, "H": 1, "": 1}


class RowChange(NamedTuple):
    """One change of a row; ``level`` is the new level, for a CLEAR the one it left."""

    row: int
    kind: Change
    level: str
    event_ms: int
    record: int
    value: float
    quality: int
    is_late: bool = False
    cause: tuple[str, ...] = ()


class RowLevels:
    """Which conditions of each row are active.

    Args:
        state: The conditions; ``row_level`` of each row is updated.
    """

    def __init__(self, state: Conditions) -> None:
        self._state = state
        self._of_row: list[list[int]] = [[] for _ in state.rows]
        for condition, row in enumerate(state.row):
            self._of_row[row].append(condition)
        for members in self._of_row:
            members.sort(key=lambda condition: LEVELS.index(state.level[condition]))
        self._active = [bool(active) for active in state.act]
        self._row = state.row.tolist()

    def reload(self) -> None:
        """Take over what the conditions say, after a restore."""
        self._active = [bool(active) for active in self._state.act]

    def mend(self) -> Iterator[tuple[int, Change, str]]:
        """Yield (row, change, level) of rows that stand at a level their rule has no more."""
        for row, level in enumerate(self._state.row_level):
            if level != NORMAL and not any(self._state.level[one] == level for one in self._of_row[row]):
                change = self._change(row)
                if change is not None:
                    yield row, *change

    def apply(self, matured: Matured) -> Iterator[RowChange]:
        """Yield the changes of rows, in order of (record, event time, row)."""
        order = sorted(
            zip(
                matured.record.tolist(),
                matured.event_ms.tolist(),
                [self._row[condition] for condition in matured.condition.tolist()],
                matured.condition.tolist(),
                matured.is_active.tolist(),
                matured.value.tolist(),
                matured.quality.tolist(),
                strict=True,
            ),
            key=itemgetter(0, 1, 2, 3),
        )
        for i, (record, event_ms, row, condition, is_active, value, quality) in enumerate(order):
            self._active[condition] = is_active
            if i + 1 < len(order) and order[i + 1][2] == row and order[i + 1][:2] == (record, event_ms):
                continue  # levels that change at one moment are one change
            change = self._change(row)
            if change is not None:
                kind, level = change
                yield RowChange(row, kind, level, event_ms, record, value, quality)

    def _change(self, row: int) -> tuple[Change, str] | None:
        old = self._state.row_level[row]
        new, level, active = NORMAL, self._state.level, self._active
        for condition in self._of_row[row]:
            if active[condition]:
                new = level[condition]
                break
        if new == old:
            return None
        self._state.row_level[row] = new
        if old == NORMAL:
            return Change.RAISE, new
        if new == NORMAL:
            return Change.CLEAR, old
        # a change of side at the same rank is news as well
        return (Change.EASE if _RANK[new] < _RANK[old] else Change.ESCALATE), new
