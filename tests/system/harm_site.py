"""A small compound for tests that do harm: counters that never repeat, floats that bob, a reader that wants answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from gateway.addresses import Table
from tests.gateway.devices import Request, ScriptedDevice
from tests.system.room import Room
from watchroom.errors import LinkError
from watchroom.mqtt import Message, MqttLink
from watchroom.settings import MqttSettings

SITE, GATEWAY, DOOR = "harm", "yard", "DR-01"
SUMPS = {"SP-01": 0.31, "SP-02": 0.47, "SP-03": 0.83}
"""Half a period of each float, in seconds."""
MACHINES = ("M-01", "M-02", "M-03", "M-04")
COUNTERS = 5
RESEND_S = 3.0
AT_ONCE = 2
"""Records a reader sends in one go: it repeats, and it is no flood."""

_SITE = """\
site: {id: harm, name: {zh: 测试, en: Harm}}
places:
  YARD: {kind: area, name: {zh: 场地, en: Yard}, outline: [[0, 0], [50, 0], [50, 50], [0, 50]]}
"""
_FLOAT = """\
model: harm_float
name: {zh: 浮球, en: Float}
source: made for tests
trust: simulated only
base: 0
groups: {fast: 100ms}
signals:
  float_high: {at: "discrete:0", type: bit, class: alarm, group: fast}
"""
_COUNTERS = """\
model: harm_counters
name: {zh: 计数器, en: Counters}
source: made for tests
trust: simulated only
base: 0
order: ABCD
groups: {fast: 100ms}
signals:
  "v{n}": {repeat: {n: 1..5}, at: "holding:{(n-1)*2}", type: u32, group: fast}
"""
_READER = """\
  cards:
    link: readers
    mqtt:
      topic: "door/{door}/card"
      format: json
      equipment: "{door}"
      only: [DR-01]
      event: access
      id: "$.id"
      fields:
        method: {const: card}
        card: {path: "$.card", pii: hash}
        result: {path: "$.result", enum: {OK: granted, NG: denied}}
      reply: {topic: "door/DR-01/answer", body: {id: "{id}"}, after: durable}
  csv-cards:
    link: readers
    mqtt:
      topic: "gate/{door}/card"
      format: csv
      columns: [card, dir, result, serial]
      equipment: "{door}"
      only: [DR-01]
      event: access
      id: "{door}:{serial}"
      fields: {method: {const: card}, card: {path: card, pii: hash}, direction: {path: dir, enum: {IN: in, OUT: out}}}
  door-io:
    link: readers
    mqtt:
      topic: "door/{door}/io"
      format: json
      equipment: "{door}"
      only: [DR-01]
      signals: {tamper: {path: "$.tamper", kind: state, class: alarm}}
"""


def write_site(folder: Path, *, modbus_port: int, mqtt_port: int, dead_port: int | None = None) -> Path:
    """Write the site and return its gateway file; with ``dead_port`` one machine is at a host that is not there."""
    equipment = [
        f"{name}: {{type: sump, place: YARD, name: {{zh: 井, en: Sump}}, rated: {{pumps: 0}}}}" for name in SUMPS
    ]
    equipment += [f"{name}: {{type: machine, place: YARD, name: {{zh: 机器, en: Machine}}}}" for name in MACHINES]
    equipment += [
        "DR-01: {type: door, place: YARD, name: {zh: 门, en: Door}}",
        "GW-01: {type: gateway, place: YARD, name: {zh: 网关, en: Gateway}, gateway: yard}",
    ]
    devices = [
        f"  {name.lower()}: {{model: harm_float, link: plc, unit: {unit}, equipment: {name}}}"
        for unit, name in enumerate(SUMPS, start=1)
    ]
    devices += [
        f"  {name.lower()}: {{model: harm_counters, link: plc, unit: {unit}, equipment: {name}}}"
        for unit, name in enumerate(MACHINES, start=11)
    ]
    links = [f"  plc: {{tcp: 127.0.0.1:{modbus_port}, timeout: 1s}}"]
    if dead_port is not None:
        links.append(f"  dead: {{tcp: 127.0.0.1:{dead_port}, timeout: 300ms}}")
        devices[-1] = devices[-1].replace("link: plc", "link: dead")
    gateway = [
        "gateway: {id: yard, site: harm, self: GW-01, simulated: true}",
        "links:",
        *links,
        f"  readers: {{mqtt: mqtt://127.0.0.1:{mqtt_port}}}",
        "devices:",
        *devices,
    ]
    overrides = "".join(f"  {name}: {{float.high: {{on_delay: 0s, off_delay: 0s}}}}\n" for name in SUMPS)
    files = {
        "site.yaml": _SITE,
        "equipment.yaml": "\n".join(equipment) + "\n",
        "rules.yaml": f"overrides:\n{overrides}  GW-01: {{links.down: {{on_delay: 1s}}}}\n",
        "models/harm_float.yaml": _FLOAT,
        "models/harm_counters.yaml": _COUNTERS,
        "gateways/yard.yaml": "\n".join(gateway) + "\n" + _READER,
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "gateways" / "yard.yaml"


class Field:
    """The Modbus devices of the compound, in a thread of their own.

    Counters grow with every read, so no two samples of a signal are alike; floats bob by the clock until `calm`.
    """

    def __init__(self) -> None:
        self._reads = itertools.count(1)
        self._device = ScriptedDevice(self._answer)
        self._is_calm = self._is_frozen = False
        self._ready, self._thread = threading.Event(), threading.Thread(target=self._run, name="field")
        self._ending: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def port(self) -> int:
        """Where the devices listen."""
        return self._device.port

    def calm(self, *, freeze: bool = False) -> None:
        """Let every float rest in the dry; with ``freeze`` the counters stop too."""
        self._is_calm, self._is_frozen = True, freeze

    def start(self) -> None:
        """Return when the devices listen."""
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        """End the thread."""
        if self._ending is not None:
            loop, ending = self._ending
            loop.call_soon_threadsafe(ending.set)
            self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._ending = asyncio.get_running_loop(), asyncio.Event()
        await self._device.start()
        self._ready.set()
        await self._ending[1].wait()
        await self._device.stop()

    def _answer(self, request: Request) -> list[int]:
        if request.table is Table.DISCRETE:
            half_s = list(SUMPS.values())[request.unit - 1]
            return [0 if self._is_calm else int(time.monotonic() / half_s) % 2] * request.count
        number = 0 if self._is_frozen else next(self._reads)
        words: list[int] = []
        for n in range(1, COUNTERS + 1):
            words += divmod(number * 10 + n, 1 << 16)
        return words[request.start : request.start + request.count]


@contextmanager
def field() -> Iterator[Field]:
    """Run the Modbus devices."""
    devices = Field()
    devices.start()
    try:
        yield devices
    finally:
        devices.stop()


class Reader:
    """A card reader that keeps each record until it is answered, and sends it again until then.

    Args:
        port: Of the broker.
        pause_s: Between two swipes.
    """

    def __init__(self, port: int, *, pause_s: float = 0.05) -> None:
        self.swiped = 0
        self.answered: set[str] = set()
        self._waiting: dict[str, float] = {}
        self._lock, self._stop, self._pause_s = threading.Lock(), threading.Event(), pause_s
        self._link = MqttLink(
            MqttSettings(port=port),
            "card-reader",
            clean=True,
            on_message=self._heard,
            on_up=lambda: self._link.subscribe(f"door/{DOOR}/answer"),
        )
        self._thread = threading.Thread(target=self._run, name="reader")

    @property
    def waiting(self) -> int:
        """Records not answered yet."""
        return len(self._waiting)

    @property
    def is_up(self) -> bool:
        """Whether the broker can be reached."""
        return self._link.is_up

    def start(self) -> None:
        """Begin to swipe."""
        self._link.start()
        self._thread.start()

    def rest(self) -> None:
        """Swipe no more; what is not answered is still sent again."""
        self._stop.set()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._pause_s = -1.0
        self._thread.join(10)
        self._link.stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send something of one's own."""
        self._link.publish(topic, payload, retain=retain)

    def _run(self) -> None:
        pause = threading.Event()
        while self._pause_s >= 0:
            now_s = time.monotonic()
            with self._lock:
                if not self._stop.is_set():
                    self.swiped += 1
                    self._waiting[str(self.swiped)] = 0.0
                due = [name for name, sent_s in self._waiting.items() if now_s - sent_s > RESEND_S][:AT_ONCE]
                self._waiting.update(dict.fromkeys(due, now_s))
            for name in due:
                self._send(name)
            pause.wait(self._pause_s)

    def _send(self, name: str) -> None:
        record = {"id": name, "card": f"{int(name) % 97:08X}", "result": "OK" if int(name) % 3 else "NG"}
        with contextlib.suppress(LinkError):  # it is sent again
            self._link.publish(f"door/{DOOR}/card", json.dumps(record).encode())

    def _heard(self, message: Message) -> None:
        name = json.loads(message.payload)["id"]
        with self._lock:
            self._waiting.pop(name, None)
            self.answered.add(name)


@contextmanager
def reading(port: int, *, pause_s: float = 0.05) -> Iterator[Reader]:
    """Run a card reader."""
    reader = Reader(port, pause_s=pause_s)
    reader.start()
    try:
        yield reader
    finally:
        reader.stop()


class Operator:
    """A person at the page who acknowledges alarms and cancels tickets; repeats with the same key when cut off.

    Attributes:
        acked: Ids of alarms whose acknowledgement was answered with 200.
        cancelled: (ticket id, idempotency key) answered with 200.
        lost: Answers that never came.
    """

    def __init__(self, room: Room, *, pause_s: float = 0.15) -> None:
        self.acked: list[str] = []
        self.cancelled: list[tuple[str, str]] = []
        self.lost = 0
        self.room, self._pause_s, self._stop = room, pause_s, threading.Event()
        self._tried: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="operator")

    def start(self) -> None:
        """Sign in and begin."""
        self.room.sign_in()
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(30)
        self.room.close()

    def _run(self) -> None:
        turns = itertools.count()
        while not self._stop.wait(self._pause_s):
            try:
                self._ack() if next(turns) % 3 else self._cancel()
            except httpx.HTTPError:
                self.lost += 1

    def _ack(self) -> None:
        for alarm in self.room.items("/alarms"):
            if alarm["state"] in {"UNACK", "RTNUN"} and alarm["id"] not in self._tried:
                self._tried.add(alarm["id"])
                if self._insist(f"/alarms/{alarm['id']}/ack", {}, str(uuid.uuid4())):
                    self.acked.append(alarm["id"])
                return

    def _cancel(self) -> None:
        for ticket in self.room.items("/tickets", view="open"):
            key = str(uuid.uuid4())
            if self._insist(f"/tickets/{ticket['id']}/cancel", {"reason": "false_alarm"}, key):
                self.cancelled.append((ticket["id"], key))
            return

    def _insist(self, path: str, body: dict[str, Any], key: str) -> bool:
        """Send until an answer comes; return whether it was yes."""
        while not self._stop.is_set():
            try:
                answer = self.room.http.post(f"/api/v1{path}", json=body, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                self.lost += 1
                self._stop.wait(0.2)
                continue
            if answer.status_code not in {202, 500, 502, 503, 504}:
                return answer.status_code == 200
        return False
