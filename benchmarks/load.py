"""Load for benchmarks: gateways that publish frames of random walks as fast as they are acknowledged, or at a rate.

Honest load: every frame is distinct, walks are drawn while sending, 1 % of the samples have bad quality, 0.25 % of the
signals stand out of their band at any time and take turns. As the uplink of a real gateway does, each keeps a window of
64 frames outstanding and goes on when the centre has acknowledged. Prints one JSON line with what was sent.
"""

from __future__ import annotations

import argparse
import json
import time
from threading import Event
from typing import Any

import numpy as np

from watchroom.births import format_epoch
from watchroom.errors import LinkError
from watchroom.frames import FLAG_HEARTBEAT, FLAG_SNAPSHOT, Header, encode_birth, encode_samples
from watchroom.mqtt import Message, MqttLink
from watchroom.settings import MqttSettings

SITE = "bench"
EPOCH = 0xBE7C4
WINDOW = 64
PER_MACHINE = 50
OUT_SHARE, BAD_SHARE = 0.0025, 0.01
OUT = 100.0
TURN_S = 10.0
HEARTBEAT_S = 1.0
START_S = 60.0


def key_of(number: int) -> str:
    """Return the key of a signal, counted from 0."""
    return f"M-{number // PER_MACHINE:03d}/v{number % PER_MACHINE + 1}"


def checksum(values: np.ndarray[Any, Any]) -> int:
    """Return a sum over the bits of values that no order and no split changes, modulo 2**64."""
    with np.errstate(over="ignore"):
        return int(np.ascontiguousarray(values).view(np.uint64).sum(dtype=np.uint64))


class Gateway:
    """One gateway's walks and window.

    Args:
        number: From 0.
        first: Its first signal.
        signals: How many it has.
        frame: Samples of a frame.
    """

    def __init__(self, number: int, first: int, *, signals: int, frame: int) -> None:
        self.id, self._first, self._signals = f"load-{number}", first, signals
        self._frame = min(frame, signals)
        self._blocks = [
            np.arange(at, at + self._frame, dtype=np.uint32) % signals for at in range(0, signals, self._frame)
        ]
        self._random = np.random.default_rng(number)
        self._walk = self._random.normal(0, 1, signals)
        self._shift = np.zeros(signals)
        self._time_ms = np.zeros(len(self._blocks), np.int64)
        self._turn_s = 0.0
        self._block = 0
        self.seq, self.acked, self.samples, self.sum, self.checksum = 0, 0, 0, 0.0, 0

    @property
    def has_room(self) -> bool:
        """Whether the window takes another frame."""
        return self.seq - self.acked < WINDOW

    def birth(self) -> tuple[bytes, bytes]:
        """Return the birth as JSON and as the outbox's first frame."""
        content = {
            "format": "WR1",
            "epoch": format_epoch(EPOCH),
            "schema": 1,
            "time_ms": _now_ms(),
            "gateway": {"id": self.id, "version": "load", "heartbeat_s": 1},
            "signals": [
                {"alias": n, "key": key_of(self._first + n), "kind": "measure", "lane": 1, "max_silence_s": 60}
                for n in range(self._signals)
            ],
        }
        self.seq = 1
        return json.dumps(content).encode(), encode_birth(self._header("B", 0, _now_ms()), content)

    def heartbeat(self) -> bytes:
        """Return a heartbeat of the telemetry lane."""
        header = Header(
            kind="D", lane=1, flags=FLAG_HEARTBEAT, epoch=EPOCH, seq=0, prev=self.seq, base_ms=_now_ms(),
            complete_ms=_now_ms(), schema=1, clock_gen=1,
        )  # fmt: skip
        return encode_samples(header, alias=[], time_ms=[], value=[], quality=[])

    def next_frame(self, now_s: float) -> bytes:
        """Return the next frame; counts it as sent."""
        if now_s >= self._turn_s:
            self._turn_s = now_s + TURN_S
            self._shift[:] = np.where(self._random.random(self._signals) < OUT_SHARE, OUT, 0.0)
        alias = self._blocks[self._block]
        time_ms = self._time_ms[self._block] = max(_now_ms(), int(self._time_ms[self._block]) + 1)
        self._walk[alias] = self._walk[alias] * 0.99 + self._random.standard_normal(len(alias), np.float32) * 0.1
        value = self._walk[alias] + self._shift[alias]
        quality = np.where(self._random.random(len(alias), np.float32) < BAD_SHARE, 3, 0).astype(np.uint8)
        self._block = (self._block + 1) % len(self._blocks)
        self.seq += 1
        self.samples += len(alias)
        self.sum += float(value.sum())
        self.checksum = (self.checksum + checksum(value)) % (1 << 64)
        header = self._header("D", self.seq - 1 if self.seq > 2 else 0, int(time_ms))
        return encode_samples(header, alias=alias, time_ms=np.full(len(alias), time_ms), value=value, quality=quality)

    def _header(self, kind: Any, prev: int, time_ms: int) -> Header:
        return Header(
            kind=kind, lane=0 if kind == "B" else 1, flags=0 if prev else FLAG_SNAPSHOT, epoch=EPOCH, seq=self.seq,
            prev=prev, base_ms=time_ms, complete_ms=time_ms, schema=1, clock_gen=1,
        )  # fmt: skip


class Load:
    """All gateways over one connection.

    Args:
        port: Of the broker.
        gateways: How many.
        signals: Of all of them together.
        frame: Samples of a frame.
    """

    def __init__(self, port: int, *, gateways: int, signals: int, frame: int) -> None:
        each = signals // gateways
        self.gateways = [Gateway(n, n * each, signals=each, frame=frame) for n in range(gateways)]
        self._by_id = {gateway.id: gateway for gateway in self.gateways}
        self._wake, self._up = Event(), Event()
        self._link = MqttLink(
            MqttSettings(port=port), "load", on_message=self._heard, on_up=self._on_up, receive_maximum=1000
        )

    def start(self) -> None:
        """Connect, announce, and wait until the births are acknowledged."""
        self._link.start()
        if not self._up.wait(20):
            raise LinkError("the broker does not answer")
        births = [(gateway, *gateway.birth()) for gateway in self.gateways]
        deadline = time.monotonic() + START_S
        while waiting := [item for item in births if not item[0].acked]:
            if time.monotonic() > deadline:
                raise LinkError("the centre does not acknowledge")
            for gateway, content, frame in waiting:
                self._send(gateway, "birth", content, retain=True)
                self._send(gateway, "u", frame)
            time.sleep(1)  # the centre may not have subscribed yet

    def run(self, seconds: float, rate: float) -> dict[str, Any]:
        """Send for a while and wait for the last acknowledgement; return what was sent and how long it took.

        Args:
            seconds: How long.
            rate: Samples a second, 0 for as many as are acknowledged.
        """
        begun = time.monotonic()
        sent, beat_s, turn = 0, begun, 0
        while (now_s := time.monotonic()) < begun + seconds:
            if now_s >= beat_s:
                beat_s += HEARTBEAT_S
                for gateway in self.gateways:
                    self._send(gateway, "d", gateway.heartbeat(), qos=0)
            if rate and sent >= (now_s - begun) * rate:
                time.sleep(0.0005)
                continue
            turn = self._turn(turn, now_s)
            if turn < 0:
                self._wake.wait(0.02)
                self._wake.clear()
                turn = 0
            sent = sum(gateway.samples for gateway in self.gateways)
        sending_s = time.monotonic() - begun
        self._until_acked(120)
        acked_s = time.monotonic() - begun
        self._link.stop()
        return {
            "samples": sum(gateway.samples for gateway in self.gateways),
            "frames": sum(gateway.seq - 1 for gateway in self.gateways),
            "sum": sum(gateway.sum for gateway in self.gateways),
            "checksum": sum(gateway.checksum for gateway in self.gateways) % (1 << 64),
            "sending_s": sending_s,
            "acked_s": acked_s,
        }

    def _turn(self, at: int, now_s: float) -> int:
        """Send one frame of the next gateway that has room; return the one after it, -1 when none has."""
        for step in range(len(self.gateways)):
            gateway = self.gateways[(at + step) % len(self.gateways)]
            if gateway.has_room:
                self._send(gateway, "d", gateway.next_frame(now_s))
                return at + step + 1
        return -1

    def _send(self, gateway: Gateway, leaf: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        self._link.publish(f"wr1/{SITE}/{gateway.id}/{leaf}", payload, qos=qos, retain=retain)

    def _until_acked(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while any(gateway.acked < gateway.seq for gateway in self.gateways):
            if time.monotonic() > deadline:
                raise LinkError("the centre does not acknowledge")
            self._wake.wait(0.05)
            self._wake.clear()

    def _on_up(self) -> None:
        self._link.subscribe(f"wr1/{SITE}/+/ack")
        self._up.set()

    def _heard(self, message: Message) -> None:
        gateway = self._by_id.get(message.topic.split("/")[2])
        content = json.loads(message.payload)
        if gateway is not None and content["epoch"] == format_epoch(EPOCH):
            gateway.acked = max(gateway.acked, content["upto"])
            self._wake.set()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def main() -> None:
    """Send, and print what was sent."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--gateways", type=int, default=8)
    parser.add_argument("--signals", type=int, default=10_000)
    parser.add_argument("--frame", type=int, default=250)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    load = Load(options.port, gateways=options.gateways, signals=options.signals, frame=options.frame)
    load.start()
    print("started", flush=True)
    print(json.dumps(load.run(options.seconds, options.rate)), flush=True)


if __name__ == "__main__":
    main()
