"""The live hub: turns wakes into messages and hands each one to every screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from dashboard.accounts import Person
from dashboard.feed import Feed
from dashboard.rights import may
from dashboard.screen import Screen
from dashboard.wire import Parcel, dumps
from watchroom.errors import StoreError

log = structlog.get_logger(__name__)

POLL_S = 0.25
TICK_SHARED_S = 0.5


class Hub:
    """All screens of this process.

    Args:
        feed: The change feed.
        now_ms: The clock.
        vital_signs: Returns ``stats`` and ``gateways`` as JSON objects.
        index_epoch: Returns the present index epoch.
        build: Build id of the pages.
        on_access: Called when access events arrived.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        now_ms: Callable[[], int],
        vital_signs: Callable[[], dict[str, Any]],
        index_epoch: Callable[[], int],
        build: Callable[[], str],
        on_access: Callable[[], None],
    ) -> None:
        self._feed, self._now_ms, self._vital_signs = feed, now_ms, vital_signs
        self._index_epoch, self._build, self._on_access = index_epoch, build, on_access
        self._screens: set[Screen] = set()
        self._wake = asyncio.Event()
        self._vitals, self._vitals_at = "", 0.0
        self._started = False
        self.seq = 0
        self.sent = 0
        self.dropped = 0

    @property
    def screens(self) -> int:
        """How many screens are connected."""
        return len(self._screens)

    def consoles(self) -> tuple[int, int]:
        """Return (screens at which somebody may acknowledge, those whose sound is on)."""
        watching = [screen for screen in self._screens if may(screen.person.role, "alarm.ack")]
        return len(watching), sum(screen.is_sounding for screen in watching)

    def wake(self) -> None:
        """Look for changes at once."""
        self._wake.set()

    async def run(self) -> None:
        """Send changes until cancelled; while the database is away try again, screens still get their ticks."""
        is_away = False
        while True:
            try:
                await self._pump()
            except StoreError as exc:
                if not is_away:
                    log.warning("database is away", problem=str(exc))
                is_away = True
            else:
                if is_away:
                    log.info("database restored")
                is_away = False
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    def add(self, screen: Screen) -> None:
        """Send every further change to a screen."""
        self._screens.add(screen)

    def remove(self, screen: Screen) -> None:
        """Stop sending to a screen."""
        self._screens.discard(screen)
        self.dropped += screen.is_dropped

    async def snapshot_text(self, person: Person) -> tuple[int, str]:
        """Return (sequence, message) with everything a screen shows.

        Raises:
            StoreError: If the database is away.
        """
        content = await self._feed.snapshot()
        extra = f',"index_epoch":{self._index_epoch()},{self._vital_text()[1:-1]}'
        return content.seq, content.text("snapshot", person, server_ms=self._now_ms(), extra=extra)

    async def resume_text(self, person: Person, seq: int) -> tuple[int, str]:
        """Return (sequence, message) that brings a screen up to date: changes if we know them, else a snapshot.

        Raises:
            StoreError: If the database is away.
        """
        newest = await self._feed.newest()
        if seq <= newest:
            content = await self._feed.since(seq)
            if content is None:
                content = Parcel(seq, seq, "[]", [], "[]")
            # more than a batch behind: the whole picture is cheaper than all steps to it
            if content.prev == seq and content.seq >= newest:
                return content.seq, content.text("change", person, server_ms=self._now_ms())
        return await self.snapshot_text(person)

    def tick_text(self) -> str:
        """Return the sign of life that a screen gets each second."""
        return (
            f'{{"type":"tick","server_ms":{self._now_ms()},"seq":{self.seq},'
            f'"build":{dumps(self._build())},"index_epoch":{self._index_epoch()},{self._vital_text()[1:-1]}}}'
        )

    def reset_signals(self) -> None:
        """Tell all screens that the indices of signals mean something new."""
        text = self.reset_text()
        for screen in self._screens:
            screen.offer(text)

    def reset_text(self) -> str:
        """Return the message that makes a page fetch the signal index again."""
        return dumps({"type": "signals_reset", "index_epoch": self._index_epoch()})

    async def _pump(self) -> None:
        if not self._started:
            self.seq, self._started = await self._feed.newest(), True
        while (content := await self._feed.since(self.seq)) is not None:
            self.seq = content.seq
            self._spread(content)
            if content.has_access:
                self._on_access()

    def _spread(self, content: Parcel) -> None:
        now_ms = self._now_ms()
        texts: dict[Person, str] = {}
        for screen in list(self._screens):
            text = texts.get(screen.person)
            if text is None:
                text = texts[screen.person] = content.text("change", screen.person, server_ms=now_ms)
            screen.change(content.seq, text)
            self.sent += 1

    def _vital_text(self) -> str:
        """Stats and gateways, computed twice a second at most however many screens there are."""
        now = time.monotonic()
        if not self._vitals or now - self._vitals_at > TICK_SHARED_S:
            self._vitals, self._vitals_at = dumps(self._vital_signs()), now
        return self._vitals
