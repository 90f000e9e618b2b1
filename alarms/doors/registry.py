"""What the judge knows of credentials and permits: what the centre wrote into the journal, nothing else. Pure.

The registry in SQL may change at any time; the judge must not look at it, or a replay would not give the same alarms.
So the engine writes each change into the journal, and it counts from there on.
"""

from __future__ import annotations

from bisect import insort
from typing import Any, Final

from watchroom.topics import CENTRE

__all__ = ["CENTRE", "CREDENTIAL", "PERMIT", "Permits", "Registry"]

CREDENTIAL: Final = "credential"
PERMIT: Final = "permit"
_REASONS: Final = {"black": "blacklisted", "lost": "lost", "revoked": "expired"}


class Registry:
    """Credentials by keyed hash.

    Attributes:
        version: Number of the newest change; 0 when nothing was ever registered.
    """

    def __init__(self) -> None:
        self.version = 0
        self._entries: dict[str, tuple[str, int | None, int | None]] = {}

    def __len__(self) -> int:
        """Return how many credentials are registered."""
        return len(self._entries)

    def apply(self, fields: dict[str, Any]) -> None:
        """Take changes over; those that were taken before, or that make no sense, change nothing."""
        version, changes = fields.get("version"), fields.get("changes")
        if not isinstance(version, int) or not isinstance(changes, list):
            return
        if fields.get("reset"):
            self._entries.clear()
        elif version <= self.version and not fields.get("more"):
            return
        for change in changes:
            if isinstance(change, list) and len(change) == 4 and isinstance(change[0], str):
                key, standing, from_ms, until_ms = change
                if standing == "none":
                    self._entries.pop(key, None)
                else:
                    self._entries[key] = (str(standing), from_ms, until_ms)
        self.version = max(self.version, version)

    def reason(self, key: object, time_ms: int) -> str | None:
        """Return why a credential must not be used at a time: blacklisted, lost or expired; None if it may."""
        entry = self._entries.get(key) if isinstance(key, str) else None
        if entry is None:
            return None
        standing, from_ms, until_ms = entry
        if standing in _REASONS:
            return _REASONS[standing]
        is_valid = (from_ms is None or time_ms >= from_ms) and (until_ms is None or time_ms < until_ms)
        return None if is_valid else "expired"

    def to_json(self) -> dict[str, Any]:
        """Return everything for a checkpoint."""
        return {"version": self.version, "entries": {key: list(entry) for key, entry in self._entries.items()}}

    def load(self, content: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self.version = content["version"]
        self._entries = {key: (row[0], row[1], row[2]) for key, row in content["entries"].items()}


class Permits:
    """Permits to stand open by door, with their ends."""

    def __init__(self) -> None:
        self._by_id: dict[str, tuple[str, int, int]] = {}
        self._of_door: dict[str, list[tuple[int, int]]] = {}

    def apply(self, door: str | None, fields: dict[str, Any]) -> None:
        """Take a permit over, or its new end."""
        permit, start, end = fields.get("id"), fields.get("from_ms"), fields.get("until_ms")
        if not (door and isinstance(permit, str) and isinstance(start, int) and isinstance(end, int)):
            return
        self._by_id[permit] = (door, start, max(start, end))
        self._sort()

    def of(self, door: str) -> list[tuple[int, int]]:
        """Return (from, until) of a door's permits, sorted."""
        return self._of_door.get(door, [])

    def trim(self, before_ms: int) -> None:
        """Forget permits that ended before a time."""
        ended = [key for key, (_, _, end) in self._by_id.items() if end < before_ms]
        if ended:
            for key in ended:
                del self._by_id[key]
            self._sort()

    def _sort(self) -> None:
        self._of_door = {}
        for door, start, end in self._by_id.values():
            insort(self._of_door.setdefault(door, []), (start, end))

    def to_json(self) -> dict[str, Any]:
        """Return everything for a checkpoint."""
        return {key: list(row) for key, row in self._by_id.items()}

    def load(self, content: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self._by_id = {key: (row[0], row[1], row[2]) for key, row in content.items()}
        self._sort()
