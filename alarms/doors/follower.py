"""Writes what changed in the registry into the journal, so that the judge knows it from there on (ADR 11).

At each start everything is written once more: the judge takes a change only once, and a journal that was trimmed, or
a judge without its checkpoint, is complete again. A crash between SQL and journal loses nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import structlog
from sqlalchemy import Engine

from alarms.doors.registry import CREDENTIAL, PERMIT
from watchroom.centre import CENTRE_GATEWAY
from watchroom.credentials.registry import newer
from watchroom.database.connect import reading
from watchroom.database.tables import credential, permit
from watchroom.errors import StoreError
from watchroom.frames import FLAG_HEARTBEAT, Event, Header, encode_events
from watchroom.journal import Journal
from watchroom.signals import Lane

log = structlog.get_logger(__name__)

POLL_S: Final = 0.5
BATCH: Final = 1500
"""Changes in one frame: about 150 KiB."""
EPOCH: Final = 1
"""That of the centre's own samples: its frames have no numbers."""


class RegistryFollower:
    """Follows the registry of one site; one thread.

    Args:
        site: Its id.
        journal: Gets the records.
        database: Has the registry.
        now_ms: The centre's clock, UTC ms.
    """

    def __init__(self, site: str, *, journal: Journal, database: Engine, now_ms: Callable[[], int]) -> None:
        self._site, self._journal, self._database, self._now_ms = site, journal, database, now_ms
        self._seen = {CREDENTIAL: (0, ""), PERMIT: (0, "")}
        self._is_away = False

    def run(self, stop: threading.Event) -> None:
        """Follow until stop is set; while SQL or the disk is away, try again."""
        while not stop.is_set():
            try:
                while self.step():
                    pass
                self._is_away = False
            except StoreError as exc:
                if not self._is_away:
                    log.warning("changes of the registry wait", problem=str(exc))
                self._is_away = True
            stop.wait(POLL_S)

    def step(self) -> bool:
        """Write the next changes, durably; return whether there were any.

        Raises:
            StoreError: If SQL cannot be read or the journal cannot be written; nothing counts as written then.
        """
        for kind, table in ((CREDENTIAL, credential), (PERMIT, permit)):
            version, after = self._seen[kind]
            with reading(self._database) as conn:
                rows = newer(conn, table, self._site, version=version, after=after, limit=BATCH)
            if rows:
                events = self._credentials(rows) if kind == CREDENTIAL else self._permits(rows)
                self._journal.append(self._site, CENTRE_GATEWAY, self._frame(events), arrived_ms=self._now_ms())
                self._journal.sync(self._site)
                self._seen[kind] = (rows[-1]["version"], rows[-1]["key" if kind == CREDENTIAL else "id"])
                return True
        return False

    def _credentials(self, rows: list[dict[str, Any]]) -> list[Event]:
        changes = [[row["key"], row["standing"], row["from_ms"], row["until_ms"], row["version"]] for row in rows]
        name = f"{CREDENTIAL}:{rows[0]['version']}:{rows[0]['key']}"
        return [self._event(name, CREDENTIAL, None, {"changes": changes})]

    def _permits(self, rows: list[dict[str, Any]]) -> list[Event]:
        names = ("id", "from_ms", "until_ms", "version", "user", "reason")
        return [
            self._event(
                f"{PERMIT}:{row['id']}:{row['version']}", PERMIT, row["door"], {name: row[name] for name in names}
            )
            for row in rows
        ]

    def _event(self, name: str, kind: str, equipment: str | None, fields: dict[str, Any]) -> Event:
        now_ms = self._now_ms()
        return Event(id=name, kind=kind, equipment=equipment, time_ms=now_ms, seen_ms=now_ms, fields=fields)

    @staticmethod
    def _frame(events: list[Event]) -> bytes:
        # marked as a heartbeat that claims nothing: the watermark of the centre's samples stays theirs
        header = Header(
            kind="E",
            lane=int(Lane.URGENT),
            flags=FLAG_HEARTBEAT,
            epoch=EPOCH,
            seq=0,
            base_ms=0,
            complete_ms=0,
            schema=0,
        )
        return encode_events(header, events)
