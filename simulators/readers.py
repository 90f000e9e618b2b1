"""The readers and door controllers of a site on the broker: one MQTT client for all of them.

A reader that cannot send keeps its records, as real ones do, and sends them later with their own time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import aiomqtt
import structlog

from simulators.door import Access, DoorState, Happening
from simulators.payloads import message
from watchroom.settings import MqttSettings

KEEP_RECORDS = 5_000
HEARTBEAT_S = 20.0
RETRY_S = 2.0
log = structlog.get_logger("simulators")


@dataclass(frozen=True, slots=True)
class _Record:
    door: str
    topic: str
    payload: bytes


class Readers:
    """Publishes what happens at the doors.

    Args:
        settings: The broker.
        zone: Zone of the readers' clocks.
        states: Gives the present state of every door, for the heartbeat.
        is_cut: Whether a door's network is cut off.
        now_ms: Wall clock, UTC.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        zone: ZoneInfo,
        states: Callable[[], Iterable[DoorState]],
        is_cut: Callable[[str], bool],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings, self._zone = settings, zone
        self._states, self._is_cut, self._now_ms = states, is_cut, now_ms
        self._records: deque[_Record] = deque(maxlen=KEEP_RECORDS)
        self._news = asyncio.Event()
        self.published = 0

    def happened(self, happening: Happening) -> None:
        """Take what happened at a door; never blocks. The oldest records are lost when the memory is full."""
        if isinstance(happening, DoorState) and self._is_cut(happening.door):
            return  # a controller keeps records of people, not every flick of a contact
        topic, payload = message(happening, time_ms=self._now_ms(), zone=self._zone)
        self._records.append(_Record(happening.door, topic, payload))
        self._news.set()

    async def run(self) -> None:
        """Keep publishing until cancelled."""
        is_down = False
        while True:
            try:
                async with self._connected() as client:
                    if is_down:
                        log.info("readers restored")
                    is_down = False
                    await self._publish(client)
            except aiomqtt.MqttError as exc:
                if not is_down:
                    log.warning("readers cannot reach the broker", detail=str(exc))
                is_down = True
                await asyncio.sleep(RETRY_S)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiomqtt.Client]:
        client = self._client()
        entering = asyncio.create_task(client.__aenter__(), name="readers-connect")
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            # aiomqtt leaves a half-made connection and its task behind when it is cancelled here
            with suppress(aiomqtt.MqttError):
                await entering
                await client.__aexit__(None, None, None)
            raise
        try:
            yield client
        finally:
            await client.__aexit__(None, None, None)

    def _client(self) -> aiomqtt.Client:
        password = self._settings.password
        client = aiomqtt.Client(
            self._settings.host,
            self._settings.port,
            username=self._settings.username,
            password=password.get_secret_value() if password else None,
            tls_params=aiomqtt.TLSParameters(ca_certs=str(self._settings.ca_file) if self._settings.ca_file else None)
            if self._settings.tls
            else None,
            logger=logging.getLogger("simulators.mqtt"),
        )
        client.pending_calls_threshold = KEEP_RECORDS
        return client

    async def _publish(self, client: aiomqtt.Client) -> None:
        while True:
            await self._heartbeat(client)
            until = asyncio.get_running_loop().time() + HEARTBEAT_S
            while True:
                await self._drain(client)
                try:
                    async with asyncio.timeout_at(until):
                        await self._news.wait()
                except TimeoutError:
                    break

    async def _heartbeat(self, client: aiomqtt.Client) -> None:
        for state in self._states():
            if not self._is_cut(state.door):
                topic, payload = message(state, time_ms=self._now_ms(), zone=self._zone)
                await self._send(client, topic, payload, is_retained=True)

    async def _drain(self, client: aiomqtt.Client) -> None:
        self._news.clear()
        held: list[_Record] = []
        while self._records:
            record = self._records[0]
            if self._is_cut(record.door):
                held.append(self._records.popleft())
                continue
            await self._send(client, record.topic, record.payload, is_retained=record.topic.endswith("/io"))
            self._records.popleft()
            self.published += 1
        self._records.extend(held)

    async def _send(self, client: aiomqtt.Client, topic: str, payload: bytes, *, is_retained: bool) -> None:
        await client.publish(topic, payload, qos=1, retain=is_retained)
        # aiomqtt waits with asyncio.wait_for, which before Python 3.12 loses a cancellation that meets the answer
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError


def renumbered(happening: Happening, base: int) -> Happening:
    """Return an access record whose serial goes on from a base, so that a restart does not repeat numbers."""
    if isinstance(happening, DoorState):
        return happening
    return Access(
        door=happening.door,
        method=happening.method,
        token=happening.token,
        direction=happening.direction,
        result=happening.result,
        serial=base + happening.serial,
        score=happening.score,
    )
