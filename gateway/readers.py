"""Readers behind an MQTT broker: every message once, in order, acknowledged after its events are on the disk."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Names
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from pydantic import SecretStr

from gateway.config import LinkConfig
from gateway.mapping import ONLINE, Mapping, Reading, Reply
from gateway.sink import Sink
from gateway.unmatched import Unmatched
from watchroom.errors import ContractError, LinkError, StoreError
from watchroom.frames import Event
from watchroom.mqtt import Message, MqttLink
from watchroom.settings import MqttSettings
from watchroom.signals import Quality

WINDOW = 256
"""Messages that may be under way between the broker and the disk."""
MAX_WAITING = 10_000
MAX_PAYLOAD = 4 * 1024 * 1024
_TRY_AGAIN_S = 0.5

log = structlog.get_logger()

Work = tuple[Message, Sequence["asyncio.Task[None]"], Sequence[Reply]]


class ReaderLink:
    """Keeps one subscription to a broker of readers.

    Args:
        link: The broker.
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
        mappings: Sequence[Mapping],
        *,
        client_id: str,
        aliases: Names[str, int],
        sink: Sink,
        now_ms: Callable[[], int],
        key: bytes,
        folder: Path,
    ) -> None:
        self._link, self._mappings, self._client_id = link, tuple(mappings), client_id
        self._sink, self._now_ms, self._key = sink, now_ms, key
        self._aliases = {
            key: alias
            for key, alias in aliases.items()
            if any(key == spec.key for mapping in mappings for spec in mapping.specs())
        }
        self._unmatched = Unmatched(folder)
        self._last: dict[str, Reading] = {}
        self._seen_ms: dict[str, int] = {}
        self._is_down = True
        self._messages = self._ignored = self._overrun = 0
        self._arrivals: asyncio.Queue[tuple[Message, int]] = asyncio.Queue()
        self._under_way: asyncio.Queue[Work] = asyncio.Queue(WINDOW)
        self._mqtt: MqttLink | None = None

    @property
    def is_down(self) -> bool:
        """Whether there is no connection to the broker."""
        return self._is_down

    def status(self) -> dict[str, Any]:
        """Return what the health page shows."""
        return {
            "is_down": self._is_down,
            "messages": self._messages,
            "ignored": self._ignored,
            "unmatched": dict(self._unmatched.counts),
            "refused": self._overrun,
            "waiting": self._arrivals.qsize() + self._under_way.qsize(),
        }

    async def run(self) -> None:
        """Receive until cancelled; may be called again after it ended."""
        # what an earlier run left came by another connection and comes again: it was not acknowledged
        self._arrivals, self._under_way = asyncio.Queue(), asyncio.Queue(WINDOW)
        mqtt = self._mqtt = self._connect(asyncio.get_running_loop())
        mqtt.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._acknowledge(mqtt), name=f"acks {self._link.name}")
                group.create_task(self._watch_online(), name=f"online {self._link.name}")
                while True:
                    message, arrived_ms = await self._arrivals.get()
                    events, replies = self._take(message, arrived_ms)
                    commits = [group.create_task(self._commit(event), name="event") for event in events]
                    await self._under_way.put((message, commits, replies))
        finally:
            await asyncio.to_thread(mqtt.stop)

    def _connect(self, loop: asyncio.AbstractEventLoop) -> MqttLink:
        filters = tuple(dict.fromkeys(name for mapping in self._mappings for name in mapping.filters))

        def on_up() -> None:
            if filters:
                mqtt.subscribe(*filters, qos=self._link.qos)
            loop.call_soon_threadsafe(self._restored)

        def on_down(_: str) -> None:
            loop.call_soon_threadsafe(self._lost)

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
                self._is_alive(alive, arrived_ms)
            captures = mapping.topic.capture(message.topic)
            if captures is None:
                continue
            was_wanted = True
            self._convert(mapping, captures, message, arrived_ms, events, replies)
        self._ignored += not was_wanted
        for reply in replies:
            if not reply.is_after_commit:
                self._send(reply)
        return events, [reply for reply in replies if reply.is_after_commit]

    def _convert(
        self,
        mapping: Mapping,
        captures: Names[str, str],
        message: Message,
        arrived_ms: int,
        events: list[Event],
        replies: list[Reply],
    ) -> None:
        try:
            if len(message.payload) > MAX_PAYLOAD:
                raise ContractError("length", f"{len(message.payload)} bytes")
            mapped = mapping.convert(captures, message.payload, arrived_ms=arrived_ms, key=self._key)
        except ContractError as exc:
            self._set_aside(mapping, message, exc.reason, exc.detail, arrived_ms)
            return
        except Exception as exc:  # the boundary of one reader: its strange message must not stop the others
            log.exception("mapping failed", device=mapping.name, topic=message.topic)
            self._set_aside(mapping, message, "bug", repr(exc), arrived_ms)
            return
        for refusal in mapped.refused:
            self._set_aside(mapping, message, refusal.reason, refusal.detail, arrived_ms)
        self._report(mapped.readings)
        for equipment in {reading.key.partition("/")[0] for reading in mapped.readings}:
            self._is_alive(equipment, arrived_ms)
        events += mapped.events
        replies += mapped.replies

    def _report(self, readings: Sequence[Reading]) -> None:
        for time_ms, group in itertools.groupby(readings, key=lambda reading: reading.time_ms):
            same = list(group)
            for reading in same:
                self._last[reading.key] = reading
            self._sink.report(
                np.array([self._aliases[reading.key] for reading in same], dtype=np.uint32),
                time_ms,
                np.array([reading.value for reading in same]),
                np.array([reading.quality for reading in same], dtype=np.uint8),
            )

    def _set_aside(self, mapping: Mapping, message: Message, reason: str, detail: str, arrived_ms: int) -> None:
        if mapping.entry.on_unmatched == "ignore":
            self._ignored += 1
            return
        if not self._unmatched.counts[reason]:
            log.warning(
                "message fits no mapping", device=mapping.name, topic=message.topic, reason=reason, detail=detail
            )
        try:
            self._unmatched.keep(
                message.topic,
                mapping.without_dropped(message.payload),
                device=mapping.name,
                reason=reason,
                detail=detail,
                time_ms=arrived_ms,
            )
        except OSError as exc:
            log.error("cannot keep an unmatched message", reason=exc.strerror)

    async def _commit(self, event: Event) -> None:
        """Return when the event is on the disk; while there is no room the reader is not acknowledged."""
        while True:
            try:
                if not self._sink.is_full:
                    await self._sink.event(event)
                    return
            except StoreError as exc:
                log.error("event not stored, trying again", reason=str(exc))
            await asyncio.sleep(_TRY_AGAIN_S)

    async def _acknowledge(self, mqtt: MqttLink) -> None:
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
                mqtt.ack(message)

    def _send(self, reply: Reply) -> None:
        try:
            if self._mqtt is not None:
                self._mqtt.publish(reply.topic, reply.payload, qos=1)
        except LinkError:
            # the reader sends its record again, and gets its answer then
            log.debug("reply not sent", topic=reply.topic)

    def _lost(self) -> None:
        self._is_down = True
        aliases = np.array(sorted(self._aliases.values()), dtype=np.uint32)
        if len(aliases):
            n = len(aliases)
            bad = np.full(n, Quality.NO_COMMUNICATION, dtype=np.uint8)
            self._sink.report(aliases, self._now_ms(), np.full(n, np.nan), bad)

    def _restored(self) -> None:
        """Report the last values as uncertain: what changed meanwhile follows from the broker's session."""
        self._is_down = False
        known = [reading for reading in self._last.values() if reading.value == reading.value]
        if known:
            self._sink.report(
                np.array([self._aliases[reading.key] for reading in known], dtype=np.uint32),
                self._now_ms(),
                np.array([reading.value for reading in known]),
                np.full(len(known), Quality.UNCERTAIN, dtype=np.uint8),
            )
        now_ms = self._now_ms()
        self._seen_ms = dict.fromkeys(self._seen_ms, now_ms)

    def _is_alive(self, equipment: str, now_ms: int) -> None:
        key = f"{equipment}/{ONLINE}"
        if key in self._aliases:
            self._seen_ms[equipment] = now_ms
            self._report([Reading(key, now_ms, 1.0, Quality.GOOD)])

    async def _watch_online(self) -> None:
        """Report readers that have been silent for too long."""
        watched = {
            equipment: mapping.entry.online.timeout * 1000
            for mapping in self._mappings
            if mapping.entry.online is not None
            for equipment in mapping.equipment
        }
        if not watched:
            return
        started_ms = self._now_ms()
        while True:
            await asyncio.sleep(min(watched.values()) / 4000)
            now_ms = self._now_ms()
            for equipment, timeout_ms in watched.items():
                key = f"{equipment}/{ONLINE}"
                last = self._last.get(key)
                is_told = last is not None and last.value == 0.0
                if not self._is_down and not is_told and now_ms - self._seen_ms.get(equipment, started_ms) > timeout_ms:
                    self._report([Reading(key, now_ms, 0.0, Quality.GOOD)])
