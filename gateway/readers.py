"""Readers over MQTT, behind a broker or at our own door: every message once, in order, acknowledged after the disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import structlog
from pydantic import SecretStr

from gateway.config import LinkConfig
from gateway.desk import MAX_PAYLOAD, Desk
from gateway.mapping import Mapping as ReaderMapping
from gateway.mapping import Reply
from gateway.mqttserver import MqttServer
from gateway.sink import Sink, keep
from watchroom.errors import LinkError
from watchroom.frames import Event
from watchroom.mqtt import Message, MqttLink
from watchroom.settings import MqttSettings

__all__ = ["MAX_PAYLOAD", "MAX_WAITING", "WINDOW", "ReaderLink"]

WINDOW = 256
"""Messages that may be under way between the broker and the disk."""
MAX_WAITING = 10_000

log = structlog.get_logger()

Work = tuple[Message, Sequence["asyncio.Task[None]"], Sequence[Reply]]


class Transport(Protocol):
    """Where the messages come from: a client of a broker, or our own server."""

    def start(self) -> None:
        """Begin; returns at once."""

    def stop(self) -> None:
        """End; may block."""

    def ack(self, message: Message) -> bool:
        """Acknowledge a QoS 1 message; False if its connection is gone."""

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Send a message to who listens; LinkError if it cannot be sent."""


class ReaderLink:
    """Keeps one subscription to a broker of readers, or a server that readers connect to.

    Args:
        link: The broker, or the port to listen on.
        mappings: How its messages are read; every one sees every message.
        client_id: Names the session at the broker; the same after a restart.
        aliases: Signal key -> alias of the birth.
        sink: Where samples and events go.
        now_ms: The gateway's clock, UTC ms.
        key: For hashing personal data.
        folder: Messages that fit no mapping are kept here.
    """

    def __init__(
        self,
        link: LinkConfig,
        mappings: Sequence[ReaderMapping],
        *,
        client_id: str,
        aliases: Mapping[str, int],
        sink: Sink,
        now_ms: Callable[[], int],
        key: bytes,
        folder: Path,
    ) -> None:
        self._link, self._mappings, self._client_id = link, tuple(mappings), client_id
        self._sink, self._now_ms = sink, now_ms
        self._desk = Desk(mappings, aliases=aliases, sink=sink, now_ms=now_ms, key=key, folder=folder)
        self._messages = self._overrun = 0
        self._arrivals: asyncio.Queue[tuple[Message, int]] = asyncio.Queue()
        self._under_way: asyncio.Queue[Work] = asyncio.Queue(WINDOW)
        self._transport: Transport | None = None
        self._server: MqttServer | None = None

    @property
    def is_down(self) -> bool:
        """Whether there is no connection to the broker, or the port is not open."""
        return self._desk.is_down

    def status(self) -> dict[str, Any]:
        """Return what the health page shows."""
        status = self._desk.status() | {
            "messages": self._messages,
            "refused": self._overrun,
            "waiting": self._arrivals.qsize() + self._under_way.qsize(),
        }
        return status if self._server is None else status | self._server.status()

    async def run(self) -> None:
        """Receive until cancelled; may be called again after it ended."""
        # what an earlier run left came by another connection and comes again: it was not acknowledged
        self._arrivals, self._under_way = asyncio.Queue(), asyncio.Queue(WINDOW)
        transport: Transport
        if self._link.kind == "listen":
            transport = self._server = MqttServer(self._link, on_message=self._arrived_now, on_open=self._desk.restored)
        else:
            transport = self._connect(asyncio.get_running_loop())
        self._transport = transport
        transport.start()
        try:
            async with asyncio.TaskGroup() as group:
                if self._server is not None:
                    group.create_task(self._server.run(), name=f"server {self._link.name}")
                group.create_task(self._acknowledge(transport), name=f"acks {self._link.name}")
                group.create_task(self._desk.watch_online(), name=f"online {self._link.name}")
                while True:
                    message, arrived_ms = await self._arrivals.get()
                    events, replies = self._take(message, arrived_ms)
                    commits = [group.create_task(keep(self._sink, [event]), name="event") for event in events]
                    await self._under_way.put((message, commits, replies))
        finally:
            await asyncio.to_thread(transport.stop)

    def _connect(self, loop: asyncio.AbstractEventLoop) -> MqttLink:
        filters = tuple(dict.fromkeys(name for mapping in self._mappings for name in mapping.filters))

        def on_up() -> None:
            if filters:
                mqtt.subscribe(*filters, qos=self._link.qos)
            loop.call_soon_threadsafe(self._desk.restored)

        def on_down(_: str) -> None:
            loop.call_soon_threadsafe(self._desk.lost)

        def on_message(message: Message) -> None:
            loop.call_soon_threadsafe(self._arrived, message, self._now_ms())

        password = os.environ.get(self._link.password_env or "")
        mqtt = MqttLink(
            MqttSettings(
                host=self._link.host,
                port=self._link.port,
                username=self._link.username,
                password=SecretStr(password) if password else None,
                tls=self._link.is_tls,
                protocol=self._link.protocol,
            ),
            self._client_id,
            manual_ack=True,
            clean=not self._link.keep_session,
            receive_maximum=WINDOW,
            on_message=on_message,
            on_up=on_up,
            on_down=on_down,
        )
        return mqtt

    def _arrived_now(self, message: Message) -> None:
        self._arrived(message, self._now_ms())

    def _arrived(self, message: Message, arrived_ms: int) -> None:
        if self._arrivals.qsize() >= MAX_WAITING:
            # QoS 1 comes again after a reconnect, because it is not acknowledged; QoS 0 is lost by its nature
            self._overrun += 1
            return
        self._arrivals.put_nowait((message, arrived_ms))

    def _take(self, message: Message, arrived_ms: int) -> tuple[list[Event], list[Reply]]:
        """Report the samples of a message and return its events and what the reader is told."""
        self._messages += 1
        events: list[Event] = []
        replies: list[Reply] = []
        was_wanted = False
        for mapping in self._mappings:
            alive = mapping.online(message.topic, message.payload)
            if alive is not None:
                was_wanted = True
                self._desk.is_alive(alive, arrived_ms)
            captures = mapping.topic.capture(message.topic)
            if captures is None:
                continue
            was_wanted = True
            found = self._desk.take(
                mapping, captures, topic=message.topic, payload=message.payload, arrived_ms=arrived_ms
            )
            events += found[0]
            replies += found[1]
        self._desk.ignored += not was_wanted
        for reply in replies:
            if not reply.is_after_commit:
                self._send(reply)
        return events, [reply for reply in replies if reply.is_after_commit]

    async def _acknowledge(self, transport: Transport) -> None:
        """Acknowledge in the order of arrival, as MQTT asks."""
        while True:
            message, commits, replies = await self._under_way.get()
            for commit in commits:
                await commit
            # a contact's change counts as taken only when it would survive a power cut
            await self._sink.durable()
            for reply in replies:
                self._send(reply)
            if message.qos:
                transport.ack(message)

    def _send(self, reply: Reply) -> None:
        try:
            if self._transport is not None:
                self._transport.publish(reply.topic, reply.payload, qos=1)
        except LinkError:
            # the reader sends its record again, and gets its answer then
            log.debug("reply not sent", topic=reply.topic)
