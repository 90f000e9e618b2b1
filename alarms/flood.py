"""Alarm floods, chattering alarms and caps of a storm: counts over sliding times. Pure.

Source: a flood begins with more than 10 annunciated alarms in 10 minutes and ends below 5 (ISA-18.2 as quoted by
prosys.com); an alarm chatters when it comes 3 times in one minute (PAS).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final

WINDOW_MS: Final = 600_000
STARTS_ABOVE: Final = 10
ENDS_BELOW: Final = 5
CHATTER_TIMES: Final = 3
CHATTER_MS: Final = 60_000
TICKET_CAP: Final = 20
MESSAGE_CAP: Final = 30
KEPT: Final = 100_000


class Window:
    """Times within the last ten minutes."""

    def __init__(self, *, span_ms: int = WINDOW_MS) -> None:
        self._times: deque[int] = deque(maxlen=KEPT)
        self._span_ms = span_ms

    def note(self, at_ms: int) -> None:
        """Count one; times may come slightly out of order."""
        self._times.append(at_ms)

    def count(self, now_ms: int) -> int:
        """Return how many lie within the span before now."""
        while self._times and self._times[0] <= now_ms - self._span_ms:
            self._times.popleft()
        return len(self._times)


class Flood:
    """Whether the console is flooded.

    Attributes:
        since_ms: Begin of the flood, None while there is none.
        peak: Most alarms in ten minutes since its begin.
    """

    def __init__(self) -> None:
        self._window = Window()
        self.since_ms: int | None = None
        self.peak = 0

    def note(self, at_ms: int) -> None:
        """An alarm was annunciated."""
        self._window.note(at_ms)
        self.look(at_ms)

    def look(self, now_ms: int) -> bool:
        """Return whether there is a flood now."""
        count = self._window.count(now_ms)
        if self.since_ms is None and count > STARTS_ABOVE:
            self.since_ms, self.peak = now_ms, 0
        elif self.since_ms is not None and count < ENDS_BELOW:
            self.since_ms = None
        if self.since_ms is not None:
            self.peak = max(self.peak, count)
        return self.since_ms is not None

    def facts(self, now_ms: int) -> dict[str, int | bool | None]:
        """Return the flood as JSON: ``is_flood``, ``count`` in ten minutes, ``since_ms``, ``peak``."""
        is_flood = self.look(now_ms)
        count = self._window.count(now_ms)
        return {"is_flood": is_flood, "count": count, "since_ms": self.since_ms, "peak": self.peak if is_flood else 0}


class Chatter:
    """Which rows come again and again."""

    def __init__(self) -> None:
        self._times: dict[str, deque[int]] = {}

    def note(self, row: str, event_ms: int) -> bool:
        """Return whether this raise of a row is the third within a minute."""
        times = self._times.setdefault(row, deque(maxlen=CHATTER_TIMES))
        times.append(event_ms)
        return len(times) == CHATTER_TIMES and max(times) - min(times) <= CHATTER_MS


class Cap:
    """At most so many different things in ten minutes.

    Args:
        most: The cap.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[Hashable, int] = {}

    def knows(self, key: Hashable, now_ms: int) -> bool:
        """Return whether this one has passed already; that it came again keeps it known."""
        self._forget(now_ms)
        if key not in self._seen:
            return False
        self._seen[key] = now_ms
        return True

    def admits(self, key: Hashable, now_ms: int) -> bool:
        """Count one and return whether it may pass; what does not pass is not counted."""
        self._forget(now_ms)
        if len(self._seen) >= self._most:
            return False
        self._seen[key] = now_ms
        return True

    def _forget(self, now_ms: int) -> None:
        if any(at_ms <= now_ms - WINDOW_MS for at_ms in self._seen.values()):
            self._seen = {key: at_ms for key, at_ms in self._seen.items() if at_ms > now_ms - WINDOW_MS}
