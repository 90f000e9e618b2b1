"""What a window over the past of one signal says: rate, change, mean, extremes, share of time on, starts. Pure.

A value holds until the next one. Nothing is said before the samples cover the whole window.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from typing import Any

from alarms.signal_table import NEVER

KEPT = 4096
"""Changes of value kept; of a signal that changes more often within its window, the window is shorter."""


class Window:
    """The last stretch of one signal.

    Args:
        how: rate, delta, mean, min, max, duty or starts.
        length_ms: Length of the window.
    """

    def __init__(self, how: str, length_ms: int) -> None:
        self._how, self._length_ms = how, length_ms
        self.clear()

    def clear(self) -> None:
        """Forget everything, after a step of the clock."""
        self._changes: deque[tuple[int, float]] = deque()
        self._area = 0.0
        self._is_cut = False

    def add(self, time_ms: int, value: float) -> float:
        """Take a finite sample, not older than the one before; return what the window says then, NaN if unsure."""
        changes = self._changes
        if not changes or changes[-1][1] != value:
            if changes:
                self._area += self._part(changes[-1], time_ms)
            changes.append((time_ms, value))
        start_ms = time_ms - self._length_ms
        while len(changes) > 1 and changes[1][0] <= start_ms:
            self._drop()
        while len(changes) > KEPT:
            self._drop()
            self._is_cut = True
        if changes[0][0] <= start_ms:
            self._is_cut = False
        elif not self._is_cut:
            return math.nan
        return self._say(time_ms, value, max(start_ms, changes[0][0]))

    def _drop(self) -> None:
        first = self._changes.popleft()
        self._area -= self._part(first, self._changes[0][0])
        if len(self._changes) == 1:
            self._area = 0.0  # no rounding error outlives the samples it came from

    def _part(self, change: tuple[int, float], end_ms: int) -> float:
        height = float(change[1] != 0) if self._how == "duty" else change[1]
        return height * (end_ms - change[0])

    def _say(self, time_ms: int, value: float, start_ms: int) -> float:
        changes = self._changes
        first_ms, first = changes[0]
        match self._how:
            case "delta":
                return value - first
            case "rate":
                return (value - first) / max(1, time_ms - start_ms) * 60_000
            case "min":
                return min(item[1] for item in changes)
            case "max":
                return max(item[1] for item in changes)
            case "starts":
                values = [item[1] for item in changes]
                return float(sum(after != 0 and before == 0 for before, after in pairwise(values)))
        area = self._area + self._part(changes[-1], time_ms) - self._part((first_ms, first), start_ms)
        return area / max(1, time_ms - start_ms)

    def to_json(self) -> list[Any]:
        """Return the state for a checkpoint."""
        return [list(self._changes), self._area, self._is_cut]

    def load(self, content: list[Any]) -> None:
        """Take over the state of a checkpoint."""
        changes, self._area, self._is_cut = content
        self._changes = deque((time_ms, value) for time_ms, value in changes)


class Occurrences:
    """When something happened lately, apart by a key such as a card.

    Args:
        length_ms: How long each counts.
    """

    def __init__(self, length_ms: int) -> None:
        self._length_ms = length_ms
        self._times: dict[str, deque[int]] = {}
        self.next_ms = -NEVER

    def add(self, time_ms: int, key: str) -> None:
        """Note one; older ones than the newest are allowed."""
        times = self._times.setdefault(key, deque(maxlen=KEPT))
        times.append(time_ms)
        if len(times) > 1 and times[-2] > time_ms:
            self._times[key] = deque(sorted(times), maxlen=KEPT)
        self.next_ms = min(self.next_ms, time_ms + self._length_ms)

    def at(self, time_ms: int) -> float:
        """Return the largest count of one key in (time - length, time]; what is older is forgotten."""
        for key, times in list(self._times.items()):
            while times and times[0] <= time_ms - self._length_ms:
                times.popleft()
            if not times:
                del self._times[key]
        self.next_ms = min((times[0] + self._length_ms for times in self._times.values()), default=-NEVER)
        return float(max((len(times) for times in self._times.values()), default=0))

    def to_json(self) -> dict[str, list[int]]:
        """Return the state for a checkpoint."""
        return {key: list(times) for key, times in self._times.items()}

    def load(self, content: dict[str, list[int]]) -> None:
        """Take over the state of a checkpoint."""
        self._times = {key: deque(times, maxlen=KEPT) for key, times in content.items()}
        self.next_ms = min((times[0] + self._length_ms for times in self._times.values()), default=-NEVER)
