"""Messages about new tickets and unattended alarms, sent through Apprise to the channels of the site files.

The rows of table ``message`` are written in the ticket's own transaction, one for each ticket and channel. The
notifier claims a row before it sends, so a crash sends a message late rather than never.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from sqlalchemy import Engine, select, update

from watchroom.database.connect import reading, writing
from watchroom.database.tables import message
from watchroom.errors import LinkError, StoreError
from watchroom.site import Channel, Site

log = structlog.get_logger(__name__)

POLL_S: Final = 0.5
LEASE_MS: Final = 60_000
BATCH: Final = 20
BACKOFF_MS: Final = (5_000, 15_000, 60_000, 300_000, 900_000, 1_800_000)
ATTEMPTS: Final = 24
"""After about ten hours nobody needs to be told any more: the ticket is on every screen."""


def active_channels(channels: Mapping[str, Channel], environ: Mapping[str, str]) -> dict[str, Channel]:
    """Return the channels whose address is in the environment; the others get no messages."""
    return {key: channel for key, channel in channels.items() if environ.get(channel.url_env)}


class Notifier:
    """Sends what waits in table ``message``.

    Args:
        site: The site; its channels say where messages go.
        database: The open database.
        public_url: URL of the pages, without a slash at its end, for the link.
        now_ms: The wall clock.
        environ: Holds the channels' addresses.
    """

    def __init__(
        self,
        site: Site,
        *,
        database: Engine,
        public_url: str,
        now_ms: Callable[[], int],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._site, self._database, self._public_url, self._now_ms = site, database, public_url, now_ms
        self._environ = os.environ if environ is None else environ
        self._channels = active_channels(site.channels, self._environ)
        self._asked = threading.Event()
        self._senders: dict[str, Any] = {}

    def wake(self) -> None:
        """Look for messages now; from any thread."""
        self._asked.set()

    def run(self, stop: threading.Event) -> None:
        """Send until stop is set; waits for stop alone when the site has no channel with an address."""
        for key in sorted(set(self._site.channels) - set(self._channels)):
            log.warning("channel has no address", channel=key, variable=self._site.channels[key].url_env)
        if not self._channels:
            stop.wait()
            return
        while not stop.is_set():
            try:
                sent = self.send_due()
            except StoreError as exc:
                log.debug("messages wait for the database", problem=str(exc))
                sent = 0
            if not sent:
                self._asked.wait(POLL_S)
                self._asked.clear()

    def send_due(self) -> int:
        """Send the messages that are due, at most a batch; return how many were tried.

        Raises:
            StoreError: If the database is away.
        """
        query = select(message).where(message.c.site == self._site.id, message.c.next_ms <= self._now_ms())
        with reading(self._database) as connection:
            rows = connection.execute(query.order_by(message.c.next_ms).limit(BATCH)).mappings().all()
        return sum(self._send_one(dict(row)) for row in rows)

    def _send_one(self, row: dict[str, Any]) -> bool:
        if not self._claim(row):
            return False
        try:
            self._send(row)
        except LinkError as exc:
            attempts = row["attempts"] + 1
            is_over = attempts >= ATTEMPTS
            pause = BACKOFF_MS[min(attempts, len(BACKOFF_MS)) - 1]
            log.warning("message not sent", channel=row["channel"], attempt=attempts, problem=str(exc), gave_up=is_over)
            self._store(row, next_ms=None if is_over else self._now_ms() + pause, problem=str(exc))
        else:
            self._store(row, next_ms=None, sent_ms=self._now_ms(), problem=None)
        return True

    def _claim(self, row: Mapping[str, Any]) -> bool:
        """Take a message for the next minute; False when another process was faster."""
        mine = (message.c.id == row["id"]) & (message.c.next_ms == row["next_ms"])
        values = {"next_ms": self._now_ms() + LEASE_MS, "attempts": row["attempts"] + 1}
        with writing(self._database) as connection:
            return bool(connection.execute(update(message).where(mine).values(values)).rowcount)

    def _store(self, row: Mapping[str, Any], **values: object) -> None:
        with writing(self._database) as connection:
            connection.execute(update(message).where(message.c.id == row["id"]).values(values))

    def _send(self, row: Mapping[str, Any]) -> None:
        channel = self._channels.get(row["channel"])
        if channel is None:
            raise LinkError("the channel has no address")
        sender = self._sender(row["channel"], self._environ[channel.url_env])
        path = row["path"] or f"/tickets/{row['ticket_id']}"
        body = f"{row['body']}\n{self._public_url}{path}"
        if not sender.notify(title=row["title"], body=body):
            raise LinkError("the service did not take it")

    def _sender(self, key: str, url: str) -> Any:
        if key not in self._senders:
            # 0.3 s and 20 MB: only for sites that send messages
            import apprise

            # its log would tell addresses, which are secrets
            logging.getLogger("apprise").setLevel(logging.CRITICAL)
            sender = apprise.Apprise()
            if not sender.add(url):
                raise LinkError("its address is not an Apprise URL")
            self._senders[key] = sender
        return self._senders[key]
