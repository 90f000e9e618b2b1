"""What the judge knows of credentials and permits: what the centre wrote into the journal, nothing else. Pure.

The registry in SQL may change at any time; the judge must not look at it, or a replay would not give the same alarms.
So the engine writes each change into the journal, and it counts from there on.
"""

from __future__ import annotations

from bisect import insort
from typing import Any, Final

from watchroom.centre import CENTRE_GATEWAY as CENTRE

__all__ = ["CENTRE", "CREDENTIAL", "PERMIT", "Permits", "Registry"]

CREDENTIAL: Final = "credential"
PERMIT: Final = "permit"
_REASONS: Final = {"black": "blacklisted", "lost": "lost", "revoked": "expired"}


Entry = tuple[str, int | None, int | None, int]
"""(standing, valid from, valid until, version)"""


class Registry:
    """Credentials by keyed hash."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        """Return how many credentials are registered."""
        return len(self._entries)

    def apply(self, fields: dict[str, Any]) -> None:
        """Take changes over; those that were taken before, or that make no sense, change nothing."""
        changes = fields.get("changes")
        for change in changes if isinstance(changes, list) else ():
            if not isinstance(change, list) or len(change) != 5:
                continue
            key, standing, from_ms, until_ms, version = change
            is_sound = isinstance(key, str) and isinstance(standing, str) and isinstance(version, int)
            if is_sound and all(ms is None or isinstance(ms, int) for ms in (from_ms, until_ms)):
                known = self._entries.get(key)
                if known is None or known[3] < version:
                    self._entries[key] = (standing, from_ms, until_ms, version)

    def reason(self, key: object, time_ms: int) -> str | None:
        """Return why a credential must not be used at a time: blacklisted, lost or expired; None if it may."""
        entry = self._entries.get(key) if isinstance(key, str) else None
        if entry is None:
            return None
        standing, from_ms, until_ms, _ = entry
        if standing in _REASONS:
            return _REASONS[standing]
        is_valid = (from_ms is None or time_ms >= from_ms) and (until_ms is None or time_ms < until_ms)
        return None if is_valid else "expired"

    def to_json(self) -> dict[str, Any]:
        """Return everything for a checkpoint."""
        return {key: list(entry) for key, entry in self._entries.items()}

    def load(self, content: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self._entries = {key: (row[0], row[1], row[2], row[3]) for key, row in content.items()}


class Permits:
    """Permits to stand open by door, with their ends."""

    def __init__(self) -> None:
        self._by_id: dict[str, tuple[str, int, int, int]] = {}
        self._of_door: dict[str, list[tuple[int, int]]] = {}

    def apply(self, door: str | None, fields: dict[str, Any]) -> None:
        """Take a permit over, or its new end; what was taken before changes nothing."""
        permit, start, end, version = (fields.get(name) for name in ("id", "from_ms", "until_ms", "version"))
        if not (door and isinstance(permit, str) and isinstance(start, int) and isinstance(end, int)):
            return
        known = self._by_id.get(permit)
        if not isinstance(version, int) or (known is not None and known[3] >= version):
            return
        self._by_id[permit] = (door, start, max(start, end), version)
        self._sort()

    def of(self, door: str) -> list[tuple[int, int]]:
        """Return (from, until) of a door's permits, sorted."""
        return self._of_door.get(door, [])

    def trim(self, before_ms: int) -> None:
        """Forget permits that ended before a time."""
        ended = [key for key, (_, _, end, _) in self._by_id.items() if end < before_ms]
        if ended:
            for key in ended:
                del self._by_id[key]
            self._sort()

    def _sort(self) -> None:
        self._of_door = {}
        for door, start, end, _ in self._by_id.values():
            insort(self._of_door.setdefault(door, []), (start, end))

    def to_json(self) -> dict[str, Any]:
        """Return everything for a checkpoint."""
        return {key: list(row) for key, row in self._by_id.items()}

    def load(self, content: dict[str, Any]) -> None:
        """Take over a checkpoint."""
        self._by_id = {key: (row[0], row[1], row[2], row[3]) for key, row in content.items()}
        self._sort()
