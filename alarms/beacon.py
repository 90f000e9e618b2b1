"""A beacon or siren that does not need a browser: on while a priority 1 alarm waits for somebody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from sqlalchemy import Engine, func, select

from alarms.webhook import call
from watchroom.database.connect import reading
from watchroom.database.tables import alarm
from watchroom.errors import LinkError, StoreError

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
REPEAT_S: Final = 30.0
"""While it is on it is told again, for a device that was restarted or switches off by itself."""
RETRY_S: Final = 2.0
WAITING: Final = ("UNACK", "LUNACK")


class Beacon:
    """Drives one beacon through a webhook.

    Args:
        site: Id of the site.
        database: Where the alarms stand.
        url: Gets ``POST {"site", "on", "alarms", "time_ms"}``; empty: there is no beacon.
        now_ms: The wall clock.
    """

    def __init__(self, site: str, *, database: Engine, url: str, now_ms: Callable[[], int]) -> None:
        self._site, self._database, self._url, self._now_ms = site, database, url, now_ms
        self._asked = threading.Event()
        self._told: bool | None = None
        self._next_s = 0.0
        self._is_failing = False

    def wake(self) -> None:
        """Look at the alarms now; from any thread."""
        self._asked.set()

    def run(self, stop: threading.Event) -> None:
        """Drive it until stop is set, then switch it off no more: the next start decides."""
        if not self._url:
            stop.wait()
            return
        while not stop.is_set():
            self.look(time.monotonic())
            self._asked.wait(POLL_S)
            self._asked.clear()

    def look(self, now_s: float) -> None:
        """Tell the beacon if it has to change, or to be told again."""
        try:
            alarms = self._waiting()
        except StoreError as exc:
            log.debug("the beacon waits for the database", problem=str(exc))
            return
        is_on = alarms > 0
        if is_on == self._told and (not is_on or now_s < self._next_s):
            return
        if self._is_failing and now_s < self._next_s:
            return
        body: dict[str, Any] = {"site": self._site, "on": is_on, "alarms": alarms, "time_ms": self._now_ms()}
        try:
            call(self._url, body)
        except LinkError as exc:
            if not self._is_failing:
                log.warning("the beacon cannot be reached", problem=str(exc), on=is_on)
            self._is_failing, self._told, self._next_s = True, None, now_s + RETRY_S
            return
        if self._is_failing:
            log.info("the beacon answers again")
        self._is_failing, self._told, self._next_s = False, is_on, now_s + REPEAT_S

    def _waiting(self) -> int:
        query = select(func.count()).where(alarm.c.site == self._site, alarm.c.is_live, alarm.c.priority == 1)
        with reading(self._database) as connection:
            return int(connection.execute(query.where(alarm.c.state.in_(WAITING))).scalar_one())
