"""Signs of life for somebody outside: a heartbeat file, and a dead-man URL that is called only while all is well.

Both stop when the engine hangs, its journal stands still or its database is away: who watches them from outside
(a monitoring service, a script on another machine) then knows that Watchroom is silent.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from alarms.webhook import call
from watchroom.disk import Disk, replace_file
from watchroom.errors import LinkError, StoreError

log = structlog.get_logger(__name__)

BEAT_S: Final = 5.0
CALL_S: Final = 30.0
STILL_S: Final = 20.0
"""The journal gets a tick each second; a position that has not moved for so long means that nothing is judged."""


class Alive:
    """Gives the signs of life of one engine.

    Args:
        status: Returns the engine's status; called from this thread.
        path: The heartbeat file, ``{"time_ms", "offset", "state"}``.
        url: Called by GET every 30 s; empty: nobody is.
        disk: File operations.
        now_ms: The wall clock.
    """

    def __init__(
        self, status: Callable[[], Mapping[str, Any]], *, path: Path, url: str, disk: Disk, now_ms: Callable[[], int]
    ) -> None:
        self._status, self._path, self._url, self._disk, self._now_ms = status, path, url, disk, now_ms
        self._offset, self._moved_s, self._called_s = -1, 0.0, -CALL_S
        self._is_silent = False

    def run(self, stop: threading.Event) -> None:
        """Beat until stop is set."""
        self._moved_s = time.monotonic()
        while not stop.wait(BEAT_S):
            self.beat(time.monotonic())

    def beat(self, now_s: float) -> bool:
        """Give a sign if all is well; return whether it was given."""
        status = self._status()
        if status["committed"] != self._offset:
            self._offset, self._moved_s = status["committed"], now_s
        is_well = status["state"] == "running" and now_s - self._moved_s <= STILL_S
        if not is_well:
            if not self._is_silent:
                log.error("no sign of life is given", state=status["state"], still_s=round(now_s - self._moved_s, 1))
            self._is_silent = True
            return False
        self._is_silent = False
        return self._sign(status, now_s)

    def _sign(self, status: Mapping[str, Any], now_s: float) -> bool:
        beat = {"time_ms": self._now_ms(), "offset": status["committed"], "state": status["state"]}
        try:
            replace_file(self._disk, self._path, json.dumps(beat).encode())
        except StoreError as exc:
            log.warning("heartbeat file not written", problem=str(exc))
            return False
        if self._url and now_s - self._called_s >= CALL_S:
            self._called_s = now_s
            try:
                call(self._url)
            except LinkError as exc:
                log.warning("the dead-man service does not take the sign", problem=str(exc))
        return True
