"""Who watches: how many consoles are signed on, and how many of them can be heard.

Every dashboard process tells the engine every few seconds; what has not been told again counts as gone, so that a
dashboard that ended takes its consoles with it. The figures become samples of the centre, judged by ordinary rules.
"""

from __future__ import annotations

import threading
from typing import Final

FRESH_S: Final = 10.0
SOURCES: Final = 64


class Consoles:
    """The consoles of all dashboard processes; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, int, int]] = {}

    def report(self, source: str, *, consoles: int, sounding: int, now_s: float) -> None:
        """Take what one dashboard process says.

        Args:
            source: Which process.
            consoles: Screens at which somebody sits who may acknowledge.
            sounding: Those among them whose sound is on.
            now_s: Monotonic clock.
        """
        with self._lock:
            self._told[source] = (now_s, max(0, consoles), max(0, min(consoles, sounding)))
            if len(self._told) > SOURCES:
                del self._told[min(self._told, key=lambda name: self._told[name][0])]

    def readings(self, now_s: float) -> dict[str, float]:
        """Return ``consoles``, and ``sound``: 0 when there are consoles but none can be heard, else 1."""
        with self._lock:
            self._told = {name: told for name, told in self._told.items() if now_s - told[0] <= FRESH_S}
            consoles = sum(told[1] for told in self._told.values())
            sounding = sum(told[2] for told in self._told.values())
        return {"consoles": float(consoles), "sound": 0.0 if consoles and not sounding else 1.0}
