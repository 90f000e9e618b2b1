"""A judge that does what the records say, so that tests of the engine decide what is judged and when.

A record's payload is a JSON list: ``["RAISE", "WP-01", 1000]`` is a transition of that equipment's row, and
``["swipe", "e1"]`` an event of a reader. Anything else counts records and nothing more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from alarms.judged import Judged, Latest
from alarms.rows import RuleRow
from tests.alarms.handmade import change, rule, swipe
from watchroom.journal import Journal, Record

_rows: dict[str, RuleRow] = {}


def row_of(equipment: str) -> RuleRow:
    """Return the one rule row of a piece of equipment."""
    return _rows.setdefault(equipment, rule(equipment=equipment))


class ScriptJudge:
    """Judges by script; its state is how many records it has been fed, and it insists on their order."""

    def __init__(self) -> None:
        self.fed = 0
        self._judged = Judged()

    def feed(self, record: Record) -> None:
        """Take one record."""
        assert record.offset == self.fed, "records must come in order, each once"
        self.fed += 1
        for name, *rest in json.loads(record.payload) if record.payload else []:
            if name == "swipe":
                self._judged.events.append(swipe(rest[0], offset=record.offset))
            else:
                equipment, event_ms = rest
                self._judged.transitions.append(change(row_of(equipment), name, event_ms, offset=record.offset))

    def evaluate(self) -> Judged:
        """Return what the records said."""
        judged, self._judged = self._judged, Judged()
        return judged

    def checkpoint(self) -> bytes:
        """Return the count."""
        return str(self.fed).encode()

    def restore(self, state: bytes) -> None:
        """Take the count over."""
        self.fed = int(state)

    def explain(self, key: str) -> dict[str, Any]:
        """Return a signal that no rule watches."""
        return {"signal": {"key": key, "is_known": False}, "offset": self.fed, "rules": []}

    def latest(self) -> Latest:
        """Return one signal whose value is the count."""
        return Latest(
            keys=["WP-01/fed"],
            time_ms=np.array([1], np.int64),
            value=np.array([float(self.fed)]),
            quality=np.zeros(1, np.uint8),
            gateway=["pump-house"],
            is_stale=np.zeros(1, bool),
        )


def tell(journal: Journal, site: str, *lines: Sequence[object], arrived_ms: int = 1000) -> int:
    """Append one record with these lines, make it durable, and return the end."""
    journal.append(site, "g", json.dumps(lines).encode(), arrived_ms=arrived_ms)
    return journal.sync(site)
