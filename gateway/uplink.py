"""The uplink: sends what the outbox holds to the centre until the centre says that it has it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.clock import Clock, monotonic_ms
from gateway.outbox import Committed, Loss, Outbox
from gateway.window import LEAF, Window, WindowLimits
from watchroom.births import format_epoch
from watchroom.errors import ContractError, LinkError, StoreError
from watchroom.intervals import IntervalSet
from watchroom.mqtt import Message, MqttLink, Will
from watchroom.settings import MqttSettings
from watchroom.signals import Lane
from watchroom.topics import Topic

log = structlog.get_logger(__name__)

ACK_WAIT_S = 0.3
FRESH_LIMIT = 256
WANT_LIMIT = 256
IDLE_S = 1.0
GONE_MS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who is speaking, and what its aliases mean."""

    site: str
    gateway: str
    birth: dict[str, Any]
    has_targets: bool = False

    def topic(self, leaf: str) -> str:
        """Return one of this gateway's topics."""
        return str(Topic(self.site, self.gateway, leaf))


class Uplink:
    """One gateway's connection to the backbone.

    Lives in the event loop; the link's thread only hands messages over.

    Args:
        identity: Names and birth.
        settings: The broker.
        outbox: What is to be delivered; its newest record is the birth.
        clock: The gateway's clock, for the status message.
        on_cut: Begins new chains with a snapshot; returns the first live seq.
        quiet_ms: Age of the newest frame that the outbox held when it was opened.
        limits: Of the window.
    """

    def __init__(
        self,
        identity: Identity,
        settings: MqttSettings,
        *,
        outbox: Outbox,
        clock: Clock,
        on_cut: Callable[[], int],
        quiet_ms: int = 0,
        limits: WindowLimits | None = None,
    ) -> None:
        self._identity, self._outbox, self._clock, self._on_cut = identity, outbox, clock, on_cut
        self._birth_seq = outbox.next_seq - 1
        now_ms = monotonic_ms()
        self._window = Window(outbox, now_ms=now_ms, limits=limits, ok_ms=now_ms - quiet_ms)
        self._loop = asyncio.get_running_loop()
        self._fresh: dict[int, bytes] = {}
        self._is_ready = False
        self._ready_timer: asyncio.TimerHandle | None = None
        self._acked = IntervalSet()
        self._gone_ms: dict[tuple[int, int], int] = {}
        self._wake = asyncio.Event()
        self.sent = 0
        self.on_command: Callable[[dict[str, Any]], None] = _no_commands
        self._link = MqttLink(
            settings,
            f"wr1-{identity.site}-{identity.gateway}",
            will=Will(identity.topic("status"), self._status(is_online=False)),
            on_message=lambda message: self._call(self._message, message),
            on_up=lambda: self._call(self._up),
            on_down=lambda _reason: self._call(self._down),
        )

    @property
    def is_up(self) -> bool:
        """Whether the broker can be reached."""
        return self._window.is_up

    @property
    def outstanding(self) -> int:
        """Frames sent and not acknowledged."""
        return self._window.outstanding

    def committed(self, frames: list[Committed]) -> None:
        """Frames are durable now: send what the window allows."""
        if self._link.is_up and any(frame.seq == self._birth_seq for frame in frames):
            self._publish_birth()
        for frame in frames:
            if len(self._fresh) >= FRESH_LIMIT:
                self._fresh.pop(next(iter(self._fresh)))
            self._fresh[frame.seq] = frame.payload
        self._pump()

    def heartbeat(self, lane: Lane, payload: bytes) -> None:
        """Send a lane's heartbeat, or forget it when nobody can hear it."""
        if self._is_ready and self._link.is_up:
            self._publish(LEAF[lane], payload, qos=0)

    def pull(self, is_out: bool) -> None:
        """Pull the uplink's cable, or put it in again; what is read meanwhile waits in the outbox."""
        self._link.pull(is_out)

    async def run(self) -> None:
        """Stay connected and send, until cancelled."""
        self._link.start()
        try:
            while True:
                self._pump()
                self._wake.clear()
                # a back-off, a rate limit or a retry may end although nothing else happens
                wait_s = min(IDLE_S, self._window.wake_ms(monotonic_ms()) / 1000)
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            if self._ready_timer is not None:
                self._ready_timer.cancel()
            self._is_ready = False
            if self._link.is_up:
                self._publish("status", self._status(is_online=False), retain=True)
            await asyncio.shield(asyncio.to_thread(self._link.stop))

    # from the link's thread

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            log.debug("the event loop has ended")

    def _up(self) -> None:
        topic = self._identity.topic
        leaves = ["ack", "want", *(["cmd"] if self._identity.has_targets else [])]
        try:
            self._link.subscribe(*map(topic, leaves))
        except LinkError as exc:
            log.debug("link lost again", error=str(exc))
            return
        if self._outbox.committed_seq >= self._birth_seq:
            self._publish_birth()
        self._publish("status", self._status(is_online=True), retain=True)
        # the retained acknowledgement comes first: it may spare us to send the whole outbox again
        self._ready_timer = self._loop.call_later(ACK_WAIT_S, self._ready)
        if not self._outbox.frames:
            self._ready()

    def _publish_birth(self) -> None:
        """Show the birth to all; only once it is durable, so that its schema number can never mean something else."""
        self._publish("birth", json.dumps(self._identity.birth, ensure_ascii=False).encode(), retain=True)

    def _ready(self) -> None:
        if self._ready_timer is not None:
            self._ready_timer.cancel()
            self._ready_timer = None
        if self._is_ready or not self._link.is_up:
            return
        self._is_ready = True
        if self._window.up(monotonic_ms()):
            self._cut()
        self._pump()

    def _down(self) -> None:
        self._is_ready = False
        if self._ready_timer is not None:
            self._ready_timer.cancel()
            self._ready_timer = None
        self._window.down(monotonic_ms())

    def _message(self, message: Message) -> None:
        leaf = message.topic.rpartition("/")[2]
        try:
            content = json.loads(message.payload)
            if leaf == "cmd":
                # never retained: a command from the past must not fire when we connect
                if message.retain or not isinstance(content, dict):
                    log.warning("command ignored", is_retained=message.retain)
                else:
                    self.on_command(content)
            elif content["epoch"] != format_epoch(self._outbox.epoch):
                log.debug("message for another epoch", leaf=leaf)
            elif leaf == "ack":
                self._acknowledged(IntervalSet.from_json(content))
            elif leaf == "want":
                self._wanted(IntervalSet((a, b) for a, b in content["ranges"]))
        except (ContractError, ValueError, KeyError, TypeError) as exc:
            log.warning("message not understood", leaf=leaf, error=str(exc))
        if leaf == "ack":
            self._ready()

    # the protocol

    def _acknowledged(self, acked: IntervalSet) -> None:
        self._acked = acked
        if not self._outbox.acknowledge(acked):
            return
        for seq in [seq for seq in self._fresh if seq in acked]:
            del self._fresh[seq]
        if self._window.acknowledge(monotonic_ms()):
            self._cut()
        self._pump()

    def _wanted(self, ranges: IntervalSet) -> None:
        now_ms = monotonic_ms()
        for a, b in ranges:
            last = min(b, self._outbox.committed_seq)
            if a > last:
                continue
            held = self._outbox.held(a, last, limit=WANT_LIMIT)
            self._window.want(held, now_ms=now_ms)
            # beyond the limit nothing is known yet: the centre asks again
            known = held[-1] if len(held) == WANT_LIMIT else last
            self._tell_gone(a, known, set(held), now_ms)
        self._pump()

    def _tell_gone(self, a: int, b: int, held: set[int], now_ms: int) -> None:
        # what the newest acknowledgement holds arrived after the question was asked
        here = [(seq, seq) for seq in held] + [(max(a, row[0]), min(b, row[1])) for row in self._acked]
        for first, last in _gaps(a, b, sorted(row for row in here if row[0] <= row[1])):
            if now_ms - self._gone_ms.get((first, last), -GONE_MS) >= GONE_MS:
                self._gone_ms[first, last] = now_ms
                self._outbox.lose(Loss(ranges=[[first, last]], count=0, reason="gone"))
        if len(self._gone_ms) > WANT_LIMIT:
            self._gone_ms = {key: at for key, at in self._gone_ms.items() if now_ms - at < GONE_MS}

    def _cut(self) -> None:
        boundary = self._on_cut()
        log.info("new chain after an interruption", backlog=self._outbox.frames, live_from=boundary)
        self._window.cut(boundary, now_ms=monotonic_ms())

    def _pump(self) -> None:
        while self._is_ready:
            ready = self._window.take(monotonic_ms())
            if ready is None:
                break
            payload = self._payload(ready.seq)
            if payload is not None and not self._publish(ready.leaf, payload):
                break
            self.sent += 1
        self._wake.set()

    def _payload(self, seq: int) -> bytes | None:
        payload = self._fresh.pop(seq, None)
        if payload is not None:
            return payload
        try:
            return self._outbox.read(seq)
        except StoreError as exc:
            log.warning("outbox cannot be read", seq=seq, error=str(exc))
            return None

    def _publish(self, leaf: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        try:
            self._link.publish(self._identity.topic(leaf), payload, qos=qos, retain=retain)
        except LinkError as exc:
            # the link tells of its end by itself; what was under way is sent again
            log.debug("not sent", leaf=leaf, error=str(exc))
            return False
        return True

    def _status(self, *, is_online: bool) -> bytes:
        return json.dumps(
            {"online": is_online, "epoch": format_epoch(self._outbox.epoch), "time_ms": self._clock.now_ms()}
        ).encode()


def _no_commands(content: dict[str, Any]) -> None:
    log.warning("command ignored: this gateway does not write", id=str(content.get("id"))[:64])


def _gaps(a: int, b: int, here: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges within a .. b that the rising ranges ``here`` leave out."""
    gaps: list[tuple[int, int]] = []
    for first, last in here:
        if first > a:
            gaps.append((a, first - 1))
        a = max(a, last + 1)
    if a <= b:
        gaps.append((a, b))
    return gaps
