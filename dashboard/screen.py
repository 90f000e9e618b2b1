"""One live connection: what it was told, what it asked for, and what happens when it does not read."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dashboard.accounts import Person
from watchroom.errors import StoreError

if TYPE_CHECKING:
    from dashboard.live import Hub
    from dashboard.projection import Indices, Projection

TICK_S = 1.0
SESSION_S = 10.0
FIRST_WORD_S = 0.25
"""A page that reconnects says so at once; one that says nothing gets a snapshot."""
BEHIND_BYTES = 4 << 20
"""A screen that lets more than this wait is dropped; it comes back and takes a snapshot."""
VIEW_MAX = 10_000
RECOVERY = 20
SOUNDING = frozenset({"on", "elsewhere"})
"""Another window of the same browser sounds for this one."""
SIGNED_OUT, TOO_SLOW, RESTART = 4401, 4408, 1012


class Socket(Protocol):
    """What a screen needs of a WebSocket."""

    async def receive_text(self) -> str | None:
        """Return the next message, None for one that is no text.

        Raises:
            EOFError: When the other side is gone.
        """
        ...

    async def send(self, data: str | bytes) -> None:
        """Send a message; waits while the other side does not read.

        Raises:
            EOFError: When the other side is gone.
        """
        ...


class Ended(Exception):  # noqa: N818 - not an error
    """The connection is over.

    Args:
        code: WebSocket close code to tell.
    """

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


class Screen:
    """One signed-in connection.

    Args:
        socket: The WebSocket.
        person: Who is signed in.
        hub: Where messages come from.
        projection: Newest values.
        is_signed_in: Asked every ten seconds.
        now_ms: The clock.
    """

    def __init__(
        self,
        socket: Socket,
        person: Person,
        *,
        hub: Hub,
        projection: Projection,
        is_signed_in: Callable[[], Awaitable[bool]],
        now_ms: Callable[[], int],
    ) -> None:
        self._socket, self.person, self._hub = socket, person, hub
        self._projection, self._is_signed_in, self._now_ms = projection, is_signed_in, now_ms
        self._queue: deque[str] = deque()
        self._early: list[tuple[int, str]] | None = []
        self._waiting = 0
        self._due = asyncio.Event()
        self._tick_due = self._signals_due = False
        self._view: Indices | None = None
        self._asked_hz = self._hz = 0.0
        self._told_version = 0
        self._smooth = 0
        self.is_sounding = False
        self.seq = 0
        self.is_dropped = False

    def offer(self, text: str) -> None:
        """Queue a message; a screen too far behind is dropped instead."""
        if self._queue and self._waiting + len(text) > BEHIND_BYTES:
            self.is_dropped = True
        else:
            self._queue.append(text)
            self._waiting += len(text)
        self._due.set()

    def change(self, seq: int, text: str) -> None:
        """Queue a change; what comes before the screen has its first picture is kept until then."""
        if self._early is not None:
            self._early.append((seq, text))
        elif seq > self.seq:
            self.seq = seq
            self.offer(text)

    async def run(self) -> int:
        """Serve until the connection ends; return the close code to tell, 0 if nobody is there."""
        code = 0
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send(), name="screen-send")
                group.create_task(self._tick(), name="screen-tick")
                group.create_task(self._pace_signals(), name="screen-signals")
                group.create_task(self._watch_session(), name="screen-session")
                await self._listen()
        except* (Ended, EOFError) as ended:
            code = max(exc.code if isinstance(exc, Ended) else 0 for exc in ended.exceptions)
        finally:
            self._hub.remove(self)
        return TOO_SLOW if self.is_dropped else code

    async def _listen(self) -> None:
        first = await self._first_word()
        seq = _sequence(first)
        self._hub.add(self)
        if seq is None:
            self.seq, text = await self._snapshot()
        else:
            self.seq, text = await self._resume(seq)
            # the index may have changed while the page was away
            self.offer(self._hub.reset_text())
        self.offer(text)
        early, self._early = self._early or [], None
        for early_seq, early_text in early:
            self.change(early_seq, early_text)
        if first is not None and seq is None:
            await self._take(first)
        while True:
            await self._take(await self._read())

    async def _first_word(self) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(FIRST_WORD_S):
                return await self._read()
        except TimeoutError:
            return None

    async def _read(self) -> dict[str, Any]:
        while True:
            try:
                text = await self._socket.receive_text()
                message = json.loads(text) if text is not None else None
            except (ValueError, RecursionError):
                continue
            if isinstance(message, dict):
                return message

    async def _take(self, message: dict[str, Any]) -> None:
        seq = _sequence(message)
        if seq is not None:
            reached, text = await self._resume(seq)
            self.seq = max(self.seq, reached)
            self.offer(text)
        elif message.get("op") == "sound":
            self.is_sounding = message.get("state") in SOUNDING
        elif message.get("op") == "sub" and message.get("topic") == "signals":
            self._subscribe(message)

    def _subscribe(self, message: dict[str, Any]) -> None:
        view, hz = message.get("view"), message.get("hz", 1)
        known = len(self._projection.keys)
        if view is None:
            self._view = None
        elif isinstance(view, list):
            places = [at for at in view[:VIEW_MAX] if type(at) is int and 0 <= at < known]
            self._view = np.array(sorted(set(places)), dtype=np.int64)
        self._asked_hz = self._hz = float(min(10, max(1, hz))) if isinstance(hz, int | float) else 1.0
        self._told_version = 0
        self._signals_due = True
        self._due.set()

    async def _send(self) -> None:
        """Send what waits: messages first, then the tick, then the newest values."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self.is_dropped:
                raise Ended(TOO_SLOW)
            while self._queue:
                text = self._queue.popleft()
                await self._socket.send(text)
                self._waiting -= len(text)
            if self._tick_due:
                self._tick_due = False
                await self._socket.send(self._hub.tick_text())
            if self._signals_due:
                await self._send_signals()

    async def _send_signals(self) -> None:
        at = self._projection.changed(self._view, self._told_version)
        self._told_version = self._projection.version
        if len(at):
            await self._socket.send(self._projection.frame(at, server_ms=self._now_ms()))
        self._signals_due = False

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        while True:
            start += TICK_S
            await asyncio.sleep(max(0.0, start - loop.time()))
            self._tick_due = True
            self._due.set()
            if self.is_dropped:
                raise Ended(TOO_SLOW)

    async def _pace_signals(self) -> None:
        while True:
            await asyncio.sleep(1 / (self._hz or 1.0))
            if self._hz:
                self._adapt(is_behind=self._signals_due)
                self._signals_due = True
                self._due.set()

    def _adapt(self, *, is_behind: bool) -> None:
        """Halve the rate of a screen that has not taken the last values yet; give it back after a while."""
        hz = self._hz
        self._smooth = 0 if is_behind else self._smooth + 1
        if is_behind:
            self._hz = max(0.5, hz / 2)
        elif self._smooth >= RECOVERY and hz < self._asked_hz:
            self._hz, self._smooth = min(self._asked_hz, hz * 2), 0
        if self._hz != hz:
            self.offer(json.dumps({"type": "rate", "hz": self._hz}))

    async def _watch_session(self) -> None:
        while True:
            await asyncio.sleep(SESSION_S)
            try:
                if not await self._is_signed_in():
                    raise Ended(SIGNED_OUT)
            except StoreError:
                continue

    async def _snapshot(self) -> tuple[int, str]:
        try:
            return await self._hub.snapshot_text(self.person)
        except StoreError as exc:
            raise Ended(RESTART) from exc

    async def _resume(self, seq: int) -> tuple[int, str]:
        try:
            return await self._hub.resume_text(self.person, seq)
        except StoreError as exc:
            raise Ended(RESTART) from exc


def _sequence(message: dict[str, Any] | None) -> int | None:
    """Return the sequence number of a resume message."""
    if message is None or message.get("op") != "resume":
        return None
    seq = message.get("seq")
    return seq if type(seq) is int and seq >= 0 else None
