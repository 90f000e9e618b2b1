"""Swipes on their way to the rules: single ones at once, journeys when every gateway has measured beyond them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alarms.doors.inputs import Event
from alarms.doors.journeys import BITS, Found, Journeys
from alarms.doors.logs import Log
from alarms.doors.places import areas_of, points_of
from alarms.doors.plan import Plan
from alarms.doors.registry import Registry
from alarms.doors.swipes import ACCESS, Swipe, swipe_of
from alarms.late import OLDEST_MS
from alarms.signal_table import NEVER
from watchroom.site import Site

_COLUMNS = ("key", "door", "time_ms", "direction", "what", "record")
SKEW_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A swipe that breaks a rule by itself or with others."""

    row: int
    time_ms: int
    record: int
    key: str
    is_late: bool = False


class SwipeStream:
    """Swipes of all doors of a site.

    Args:
        plan: The rows.
        site: For places and areas; None for none.
        zone: Zone of the site.
        registry: Standing of credentials.
    """

    def __init__(self, plan: Plan, *, site: Site | None, zone: str, registry: Registry) -> None:
        self._registry = registry
        doors = sorted({row.equipment for _, row, _ in plan.cards})
        fires = [
            slot
            for unit in plan.entries
            for slot in unit.rights
            if plan.slots.tests[slot].signal.partition("/")[0] != unit.row.equipment
        ]
        self.journeys = Journeys(
            plan.cards,
            doors=doors,
            areas=areas_of(site, doors),
            points=points_of(site, doors),
            zone=zone,
            fires=sorted(set(fires)),
        )
        self._single: dict[tuple[str, str], int] = {
            (test.of, row.equipment): number for number, row, test in plan.cards if test.count == 1
        }
        # columns of swipes that wait, as lists: they are few between two watermarks
        self._rows: list[tuple[int, int, int, int, int, int]] = []
        self._done_ms = NEVER
        self.late = 0

    @property
    def is_waiting(self) -> bool:
        """Whether any swipe waits for others."""
        return bool(self._rows)

    def take(self, events: Iterable[Event]) -> Iterator[Told]:
        """Note swipes and yield what single ones tell."""
        for record, item, _ in events:
            door = self.journeys.door(item.event.equipment or "")
            if item.event.kind != ACCESS or door < 0:
                continue
            swipe = swipe_of(
                item.event.equipment or "", item.event.fields, time_ms=item.judged_ms, registry=self._registry
            )
            is_late = swipe.time_ms + SKEW_MS < self._done_ms
            yield from self._alone(swipe, record, is_late=is_late, arrived_ms=item.arrived_ms)
            if is_late:
                self.late += 1
            else:
                what = BITS["granted"] if swipe.is_granted else 0
                for reason in swipe.reasons:
                    what |= BITS[reason]
                key = self.journeys.key(swipe.key)
                self._rows.append((key, door, swipe.time_ms, swipe.direction, what, record))

    def _alone(self, swipe: Swipe, record: int, *, is_late: bool, arrived_ms: int) -> Iterator[Told]:
        for reason in swipe.reasons:
            row = self._single.get((reason, swipe.door))
            if row is not None and not (is_late and arrived_ms - swipe.time_ms > OLDEST_MS):
                yield Told(row=row, time_ms=swipe.time_ms, record=record, key=swipe.key, is_late=is_late)

    def reach(self, done_ms: int) -> None:
        """Note how far every gateway has measured: what is older comes late."""
        self._done_ms = max(self._done_ms, done_ms)

    def settle(self, done_ms: int, states: Log) -> tuple[list[Found], Sequence[int]]:
        """Judge the swipes whose time is complete.

        Returns:
            (what was found, records of the swipes judged: ``Found.at`` points into them).
        """
        self.reach(done_ms)
        if not self._rows:
            return [], ()
        rows = np.array(self._rows, np.int64)
        is_due = rows[:, 2] + SKEW_MS < self._done_ms
        if not is_due.any():
            return [], ()
        self._rows = (
            [] if is_due.all() else [row for row, due in zip(self._rows, is_due.tolist(), strict=True) if not due]
        )
        due = rows[is_due]
        columns = {name: due[:, i] for i, name in enumerate(_COLUMNS)}
        record = columns.pop("record")
        return self.journeys.judge(**columns, states=states), record.tolist()

    def end_chunk(self) -> None:
        """Forget numbers of records: the next chunk counts anew."""
        self._rows = [(*row[:5], -1) for row in self._rows]

    def to_json(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        doors = {i: name for name, i in self.journeys.door_numbers.items()}
        rows = [[row[0], doors[row[1]], *row[2:5]] for row in self._rows]
        return {"journeys": self.journeys.to_json(), "rows": rows, "done_ms": self._done_ms}

    def load(self, content: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.journeys.load(content["journeys"])
        self._done_ms = content["done_ms"]
        self._rows = []
        for key, name, *rest in content["rows"]:
            door = self.journeys.door(name)
            if door >= 0:
                self._rows.append((key, door, rest[0], rest[1], rest[2], -1))
