"""A gateway as ingest meets it: frames of one outbox, sent until they are acknowledged."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any

from watchroom.births import format_epoch
from watchroom.errors import LinkError
from watchroom.frames import (
    FLAG_HEARTBEAT,
    Event,
    Header,
    encode_birth,
    encode_events,
    encode_samples,
)
from watchroom.intervals import IntervalSet
from watchroom.mqtt import Message, MqttLink
from watchroom.settings import MqttSettings

SITE = "spruce-court"
EPOCH = 0x0123456789ABCDEF
BASE = 1_763_800_000_000


def header(seq: int, *, kind: Any = "D", epoch: int = EPOCH, schema: int = 1, lane: int = 1, flags: int = 0) -> Header:
    return Header(
        kind=kind, lane=lane, flags=flags, epoch=epoch, seq=seq, base_ms=BASE, complete_ms=BASE + seq, schema=schema
    )


def birth(gateway: str, *, epoch: int = EPOCH, schema: int = 1, signals: int = 4) -> dict[str, Any]:
    return {
        "format": "WR1",
        "epoch": format_epoch(epoch),
        "schema": schema,
        "time_ms": BASE,
        "gateway": {"id": gateway, "version": "test", "heartbeat_s": 1},
        "signals": [
            {"alias": alias, "key": f"WP-01/s{alias}", "kind": "measure", "lane": 1, "max_silence_s": 60}
            for alias in range(signals)
        ],
    }


def birth_frame(seq: int, gateway: str, **changes: Any) -> bytes:
    content = birth(gateway, **changes)
    changes.pop("signals", None)
    return encode_birth(header(seq, kind="B", lane=0, **changes), content)


def samples(seq: int, *, alias: int = 0, quality: int = 0, **changes: Any) -> bytes:
    """Return a frame with one sample whose value is its own number."""
    return encode_samples(header(seq, **changes), alias=[alias], time_ms=[BASE], value=[float(seq)], quality=[quality])


def heartbeat(**changes: Any) -> bytes:
    return encode_samples(header(0, flags=FLAG_HEARTBEAT, **changes), alias=[], time_ms=[], value=[], quality=[])


def events(seq: int, *, kind: str = "access", fields: dict[str, Any] | None = None, **changes: Any) -> bytes:
    event = Event(id=f"e{seq}", kind=kind, equipment=None, time_ms=BASE, seen_ms=BASE, fields=fields or {})
    return encode_events(header(seq, lane=0, kind="E", **changes), [event])


def loss(seq: int, ranges: list[list[int]]) -> bytes:
    count = sum(b - a + 1 for a, b in ranges)
    return events(seq, kind="loss", fields={"ranges": ranges, "count": count, "reason": "full"})


class Sender:
    """Publish frames, and again whatever was not acknowledged, as the gateway's uplink does.

    Args:
        gateway: Its id.
        port: Of the broker.
        protocol: As in the settings.
    """

    def __init__(self, gateway: str, port: int, *, protocol: Any = "auto") -> None:
        self.gateway = gateway
        self.outbox: dict[int, bytes] = {}
        self.acked = IntervalSet()
        self.acks: list[dict[str, Any]] = []
        self.wants: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.link = MqttLink(
            MqttSettings(port=port, protocol=protocol), gateway, on_message=self._heard, on_up=self._on_up
        )

    def send(self, leaf: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        self.link.publish(f"wr1/{SITE}/{self.gateway}/{leaf}", payload, qos=qos, retain=retain)

    def put(self, seq: int, payload: bytes) -> None:
        """Keep a frame until it is acknowledged, and send it."""
        with self.lock:
            self.outbox[seq] = payload
        with contextlib.suppress(LinkError):  # resend brings it
            self.send("d", payload)

    def resend(self) -> int:
        """Send everything that was not acknowledged, at most a window; return how much that is."""
        with self.lock:
            waiting = [frame for seq, frame in sorted(self.outbox.items()) if seq not in self.acked]
        for frame in waiting[:64]:
            try:
                self.send("d", frame)
            except LinkError:
                break
        return len(waiting)

    def _on_up(self) -> None:
        self.link.subscribe(*(f"wr1/{SITE}/{self.gateway}/{leaf}" for leaf in ("ack", "want")))

    def _heard(self, message: Message) -> None:
        content = json.loads(message.payload)
        if message.topic.endswith("/want"):
            self.wants.append(content)
            return
        self.acks.append(content)
        if content["epoch"] == format_epoch(EPOCH):
            with self.lock:
                for a, b in IntervalSet.from_json(content):
                    self.acked.add(a, b)
