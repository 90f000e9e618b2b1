"""From a step in a Modbus register, or a published frame, to a message at a WebSocket client; and short MQTT pulses.

Everything is real and on this machine: mosquitto, gateway, engine and dashboard as processes of their own, a Modbus TCP
server, 1,000 other signals polled at 1 s. One step ends when the client has received the alarm with its ticket, both
committed. Steps come at random phase to the 100 ms polling, so half a period of the time is waiting for the poll.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import numpy as np
import websockets

from benchmarks.bench_site import FLOAT, write_site
from benchmarks.figures import Figure, report, spread
from gateway.check import library_for
from gateway.config import load_gateway
from simulators.devices import Endpoint, RegisterImage
from simulators.modbus_server import FieldServer
from tests.system.room import PASSWORD, Process, Room, free_port, mosquitto
from watchroom.births import Birth
from watchroom.frames import Header, encode_birth, encode_samples
from watchroom.signals import Kind, Lane, SignalSpec

PULSES_MS = (50, 100, 300, 1000)
EPOCH = random.getrandbits(63) | 1


class Screen:
    """A WebSocket client that keeps the newest state of each alarm row."""

    def __init__(self) -> None:
        self.alarms: dict[str, dict[str, Any]] = {}
        self.raised: dict[str, set[str]] = {}
        self._changed = asyncio.Condition()

    async def run(self, url: str, token: str, ready: asyncio.Event) -> None:
        """Receive until cancelled."""
        async with websockets.connect(url, max_size=None) as socket:
            await socket.send(json.dumps({"op": "auth", "token": token}))
            async for message in socket:
                if isinstance(message, bytes):
                    continue
                content = json.loads(message)
                if content["type"] == "snapshot":
                    ready.set()
                if content["type"] in {"snapshot", "change"} and content.get("alarms"):
                    await self._take(content["alarms"])

    async def _take(self, alarms: list[dict[str, Any]]) -> None:
        async with self._changed:
            for alarm in alarms:
                known = self.alarms.get(alarm["row"])
                # an occurrence that a newer one has superseded may come after it
                if known is None or alarm["raised_ms"] >= known["raised_ms"]:
                    self.alarms[alarm["row"]] = alarm
                self.raised.setdefault(alarm["row"], set()).add(alarm["id"])
            self._changed.notify_all()

    async def until(self, row: str, *, active: bool, not_id: str = "", timeout_s: float = 20) -> dict[str, Any]:
        """Wait for a row to be (in)active with a ticket; return the alarm."""

        def reached() -> bool:
            alarm = self.alarms.get(row)
            return bool(
                alarm and alarm["is_active"] == active and alarm["id"] != not_id and (alarm["tickets"] or not active)
            )

        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(reached)
        return self.alarms[row]


@asynccontextmanager
async def field(path: Path, values: dict[str, float]) -> AsyncIterator[None]:
    """Serve the registers of a gateway file from values, which random-walk once a second."""
    config = load_gateway(path, models=library_for(path.parent.parent))
    link = config.links["plc"]
    for device in config.devices.values():
        values |= {device.key(name): 0.0 for name in device.model.signals}
    units = {device.unit: RegisterImage(device, values) for device in config.devices.values()}
    server = FieldServer(Endpoint(gateway=config.id, host=link.host, port=link.port, units=units))
    await server.start()
    walk = asyncio.create_task(_walk(values))
    try:
        yield
    finally:
        walk.cancel()
        await server.stop()


async def _walk(values: dict[str, float]) -> None:
    source = random.Random(1)
    while True:
        for key in values:
            if key != FLOAT:
                values[key] += source.gauss(0, 0.1)
        await asyncio.sleep(1)


async def register_steps(screen: Screen, values: dict[str, float], room: Room, steps: int) -> list[float]:
    """Return the time from each step of the register to the alarm with its ticket at the client, in ms."""
    source, times, previous, row = random.Random(2), [], "", "float.high|SP-01|"
    for _ in range(steps):
        await asyncio.sleep(0.02 + source.random() * 0.1)
        start = time.perf_counter()
        values[FLOAT] = 1
        alarm = await screen.until(row, active=True, not_id=previous)
        times.append((time.perf_counter() - start) * 1000)
        values[FLOAT] = 0
        await screen.until(row, active=False)
        previous = alarm["id"]
        await asyncio.to_thread(_cancel, room, alarm)
    return times


def _cancel(room: Room, alarm: dict[str, Any]) -> None:
    """Cancel the tickets, so that the next step opens new ones."""
    for ticket in alarm["tickets"]:
        room.post(f"/tickets/{ticket['id']}/cancel", {"reason": "false_alarm"})


async def frame_steps(screen: Screen, mqtt_port: int, steps: int) -> list[float]:
    """Publish urgent frames as a gateway of our own; return the time to the client, in ms."""
    birth = Birth(
        gateway="bench-frames",
        epoch=EPOCH,
        schema=1,
        time_ms=_now_ms(),
        heartbeat_s=1,
        version="bench",
        signals=(SignalSpec(alias=0, key="DR-01/tamper", kind=Kind.STATE, lane=Lane.URGENT),),
    )
    times, previous, row, base = [], "", "door.tamper|DR-01|", f"wr1/bench/{birth.gateway}"
    async with aiomqtt.Client("127.0.0.1", mqtt_port, identifier="bench-frames") as client:
        head = _header(1, 0)
        await client.publish(f"{base}/birth", json.dumps(birth.to_json()), qos=1, retain=True)
        await client.publish(f"{base}/u", encode_birth(_as_birth(head), birth.to_json()), qos=1)
        await asyncio.sleep(1)
        seq = 1
        for _ in range(steps):
            for value in (1.0, 0.0):
                seq += 1
                payload = _sample(seq, value)
                start = time.perf_counter()
                await client.publish(f"{base}/u", payload, qos=1)
                if value:
                    alarm = await screen.until(row, active=True, not_id=previous)
                    times.append((time.perf_counter() - start) * 1000)
                    previous = alarm["id"]
                else:
                    await screen.until(row, active=False)
                await asyncio.sleep(0.005)
    return times


def _header(seq: int, n: int) -> Header:
    now = _now_ms()
    return Header(
        kind="D",
        lane=0,
        flags=2,
        epoch=EPOCH,
        seq=seq,
        prev=seq - 1,
        base_ms=now,
        complete_ms=now,
        schema=1,
        n=n,
        clock_gen=1,
    )


def _as_birth(header: Header) -> Header:
    return Header(
        kind="B", lane=0, flags=2, epoch=EPOCH, seq=header.seq, prev=0, base_ms=header.base_ms,
        complete_ms=header.complete_ms, schema=1, n=1, clock_gen=1,
    )  # fmt: skip


def _sample(seq: int, value: float) -> bytes:
    head = _header(seq, 1)
    return encode_samples(
        head,
        alias=np.zeros(1, np.uint32),
        time_ms=np.array([head.base_ms], np.int64),
        value=np.array([value]),
        quality=np.zeros(1, np.uint8),
    )


async def pulses(screen: Screen, mqtt_port: int, each: int) -> list[Figure]:
    """Send pulses of several lengths as a door controller; return the share that raised an alarm."""
    row, figures = "door.tamper|DR-01|", []
    async with aiomqtt.Client("127.0.0.1", mqtt_port, identifier="bench-door") as client:
        for length_ms in PULSES_MS:
            before = len(screen.raised.get(row, ()))
            for _ in range(each):
                await client.publish("door/DR-01/io", json.dumps({"tamper": 1}), qos=1)
                await asyncio.sleep(length_ms / 1000)
                await client.publish("door/DR-01/io", json.dumps({"tamper": 0}), qos=1)
                await asyncio.sleep(0.15)
            await asyncio.sleep(1)
            share = 100 * (len(screen.raised.get(row, ())) - before) / each
            figures.append(
                Figure(name=f"pulses of {length_ms} ms that raised an alarm", value=share, unit="%", goal=">= 100")
            )
    return figures


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def _processes(stack: ExitStack, folder: Path, mqtt_port: int) -> Any:
    """Run the centre and one gateway."""
    port = free_port()
    environment = {
        "WATCHROOM_MQTT__PORT": str(mqtt_port),
        "WATCHROOM_ADMIN_PASSWORD": PASSWORD,
        "WATCHROOM_LOG": "warning",
    }
    site, room = folder / "site", Room(folder / "data", port)
    for name, arguments in {
        "serve": ["serve", str(site), "--data", str(folder / "data"), "--port", str(port)],
        "gateway": ["gateway", str(site / "gateways" / "bench.yaml"), "--data", str(folder / "edge")],
    }.items():
        process = Process(arguments, environment=environment, output=folder / f"{name}.log")
        stack.callback(process.close)
    yield room


async def measure(
    folder: Path, room: Room, values: dict[str, float], mqtt_port: int, options: argparse.Namespace
) -> list[Figure]:
    """Return all figures."""
    screen, ready = Screen(), asyncio.Event()
    gateway_file = folder / "site" / "gateways" / "bench.yaml"
    async with field(gateway_file, values):
        await asyncio.to_thread(room.wait_ready)
        token = room.http.headers["Authorization"].split()[1]
        running = asyncio.create_task(screen.run(f"ws://127.0.0.1:{room.port}/api/v1/live", token, ready))
        await asyncio.wait_for(ready.wait(), 20)
        await asyncio.to_thread(_wait_for_signals, room)
        figures = await pulses(screen, mqtt_port, options.pulses)
        figures += spread(
            "register step to alarm and ticket at the client",
            await register_steps(screen, values, room, options.steps),
            goal_p99="<= 150",
        )
        figures += spread(
            "frame published to alarm at the client",
            await frame_steps(screen, mqtt_port, options.steps),
            goal_p99="<= 25",
        )
        running.cancel()
    return figures


def _wait_for_signals(room: Room) -> None:
    from tests.system.room import until

    def all_good() -> bool:
        values = room.values()
        return sum(not item["is_stale"] for item in values.values()) > 1000

    until("1,000 signals are live", all_good, within_s=60, every_s=0.5)


def main() -> None:
    """Measure; ``--steps`` and ``--pulses`` shorten a trial."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--pulses", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        mqtt_port, _ = stack.enter_context(mosquitto(folder / "broker"))
        write_site(folder / "site", modbus_port=free_port(), mqtt_port=mqtt_port)
        room = stack.enter_context(_processes(stack, folder, mqtt_port))
        values: dict[str, float] = {}
        report("first_light", asyncio.run(measure(folder, room, values, mqtt_port, options)))


if __name__ == "__main__":
    main()
