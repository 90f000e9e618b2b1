"""A small centre for tests: records frames, acknowledges selectively, asks for gaps, and may be forgetful."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from watchroom.births import format_epoch
from watchroom.errors import LinkError
from watchroom.frames import Event, EventFrame, Frame, decode
from watchroom.intervals import IntervalSet
from watchroom.mqtt import Message, MqttLink
from watchroom.settings import MqttSettings
from watchroom.topics import FROM_GATEWAY, parse_topic, subscription

SITE = "court"


class Centre:
    """Receives the frames of one gateway.

    Args:
        port: Of the broker.
        ack_share: Share of frames after which an acknowledgement is really published.
        is_acking: False never acknowledges.
        seed: Of the forgetfulness.
    """

    def __init__(self, port: int, *, ack_share: float = 1.0, is_acking: bool = True, seed: int = 1) -> None:
        self.frames: list[tuple[str, Frame]] = []
        self.contents: dict[tuple[int, int], bytes] = {}
        self.conflicts: list[tuple[int, int]] = []
        self.status: list[dict[str, Any]] = []
        self.births: list[dict[str, Any]] = []
        self.duplicates = 0
        self.seen: dict[int, IntervalSet] = {}
        self.ack_share, self.is_acking = ack_share, is_acking
        self._gateway = ""
        self._rng = random.Random(seed)
        self._changed = threading.Condition()
        self._link = MqttLink(
            MqttSettings(port=port), f"centre-{seed}", on_message=self._message, on_up=self._up, clean=True
        )

    def __enter__(self) -> Centre:
        self._link.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def wait(self, condition: Callable[[], bool], *, timeout_s: float = 20.0, what: str = "") -> None:
        """Block until a claim about the received is true."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, f"not within {timeout_s:g} s: {what}; have {self.seen}"
                self._changed.wait(min(left, 0.2))

    def publish(self, gateway: str, leaf: str, content: dict[str, Any], *, retain: bool = False) -> None:
        self._link.publish(f"wr1/{SITE}/{gateway}/{leaf}", json.dumps(content).encode(), retain=retain)

    def publish_bytes(self, gateway: str, leaf: str, payload: bytes) -> None:
        self._link.publish(f"wr1/{SITE}/{gateway}/{leaf}", payload)

    def acknowledge(self, epoch: int) -> None:
        """Publish what was received of an epoch."""
        content = {"epoch": format_epoch(epoch), **self.seen[epoch].to_json()}
        self.publish(self._gateway, "ack", content, retain=True)

    def ask_for_gaps(self) -> None:
        """Ask for everything below the newest frame that has not arrived."""
        for epoch, seen in self.seen.items():
            if missing := seen.missing():
                self.publish(self._gateway, "want", {"epoch": format_epoch(epoch), "ranges": missing})

    def samples(self) -> list[tuple[str, Frame]]:
        return [(leaf, frame) for leaf, frame in self.frames if frame.header.kind == "D" and frame.header.seq]

    def heartbeats(self, lane: int) -> list[Frame]:
        return [frame for _, frame in self.frames if frame.header.is_heartbeat and frame.header.lane == lane]

    def events(self, kind: str) -> list[Event]:
        frames = [frame for _, frame in self.frames if isinstance(frame, EventFrame)]
        return [event for frame in frames for event in frame.events if event.kind == kind]

    def _up(self) -> None:
        self._link.subscribe(*(subscription(SITE, leaf) for leaf in FROM_GATEWAY))

    def _message(self, message: Message) -> None:
        topic = parse_topic(message.topic)
        self._gateway = topic.gateway
        with self._changed:
            if topic.leaf == "status":
                self.status.append(json.loads(message.payload))
            elif topic.leaf == "birth":
                self.births.append(json.loads(message.payload))
            else:
                self._frame(topic.leaf, message.payload)
            self._changed.notify_all()

    def _frame(self, leaf: str, payload: bytes) -> None:
        frame = decode(payload)
        header = frame.header
        if header.seq == 0:
            self.frames.append((leaf, frame))
            return
        key = header.epoch, header.seq
        if self.contents.setdefault(key, payload) != payload:
            self.conflicts.append(key)
        seen = self.seen.setdefault(header.epoch, IntervalSet())
        if seen.add(header.seq):
            self.frames.append((leaf, frame))
        else:
            self.duplicates += 1
        if isinstance(frame, EventFrame):
            for event in frame.events:
                for a, b in event.fields["ranges"] if event.kind == "loss" else ():
                    seen.add(a, b)
        if self.is_acking and self._rng.random() < self.ack_share:
            try:
                self.acknowledge(header.epoch)
            except LinkError:
                return  # the next acknowledgement says it again
