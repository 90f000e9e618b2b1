"""Devices that dial in: 4G data units that register and send heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config import GatewayConfig, load_gateway
from gateway.dialin import MAX_WAITING
from gateway.field import FieldSide
from gateway.model import ModelLibrary
from tests.gateway.devices import ScriptedDevice, counting
from tests.gateway.recorder import Recorder, recorder_for, until
from watchroom.errors import ConfigError
from watchroom.signals import Quality

MODEL = """\
model: lift
base: 0
groups: {fast: 100ms}
signals:
  floor: {at: "holding:7"}
"""


def configured(folder: Path, links: str, devices: str) -> GatewayConfig:
    (folder / "lift.yaml").write_text(MODEL)
    path = folder / "gateway.yaml"
    path.write_text(f"gateway: {{id: test, site: here}}\nlinks:\n{links}devices:\n{devices}")
    return load_gateway(path, models=ModelLibrary(folder))


def two_lifts(folder: Path) -> GatewayConfig:
    """Two data units on one port, told apart by what they say first."""
    listen = f"listen: '127.0.0.1:{_free_port()}', timeout: 150ms, settle: 20ms, back_off: 1s"
    links = f"  a: {{{listen}, hello: lift-a, heartbeat: beat}}\n  b: {{{listen}, hello: 'hex:0102FF'}}\n"
    devices = [f"  l{x}: {{model: lift, link: {x}, unit: 1, equipment: EL-{x}}}\n" for x in "ab"]
    return configured(folder, links, "".join(devices))


@asynccontextmanager
async def listening(config: GatewayConfig, folder: Path) -> AsyncIterator[tuple[Recorder, FieldSide, int]]:
    recorder = recorder_for(config)
    side = FieldSide(
        config, recorder, now_ms=lambda: time.time_ns() // 1_000_000, key=b"0" * 16, folder=folder / "data"
    )
    task = asyncio.create_task(side.run())
    port = config.links["a"].port
    try:
        yield recorder, side, port
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection, as soon as somebody listens."""
    deadline = asyncio.get_running_loop().time() + 10
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)


async def test_each_caller_is_known_by_its_registration(tmp_path: Path) -> None:
    """Two units on one port: each one's values go to its own lift, heartbeats are no telegrams."""
    first = ScriptedDevice(lambda request: [11] * request.count)
    second = ScriptedDevice(lambda request: [22] * request.count)
    async with listening(two_lifts(tmp_path), tmp_path) as (seen, side, port):
        await until(lambda: seen.quality("EL-a/floor") == Quality.NO_COMMUNICATION, "nobody has dialled in yet")
        (await connected(port))[1].close()
        calls = [
            asyncio.create_task(first.dial(port, b"lift-a", heartbeat=b"beat")),
            asyncio.create_task(second.dial(port, b"\x01\x02\xff")),
        ]
        await until(lambda: seen.value("EL-a/floor") == 11 and seen.value("EL-b/floor") == 22, "both lifts")
        assert side.links_down == 0
        assert {sample.value for sample in seen.of("EL-a/floor") if sample.quality == Quality.GOOD} == {11}
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_a_caller_that_calls_again_replaces_the_old_connection(tmp_path: Path) -> None:
    """After a dead mobile network the old connection is half open: the new one counts."""
    lost, back = ScriptedDevice(lambda _: None), ScriptedDevice(counting)
    async with listening(two_lifts(tmp_path), tmp_path) as (seen, _, port):
        (await connected(port))[1].close()
        calls = [asyncio.create_task(lost.dial(port, b"lift-a"))]
        await until(lambda: lost.requests, "the first connection is used")
        calls.append(asyncio.create_task(back.dial(port, b"lift-a")))
        await until(lambda: seen.value("EL-a/floor") == 7, "a value over the second connection", within_s=20)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_a_registration_in_pieces(tmp_path: Path) -> None:
    """Mobile networks split packets as they like."""
    async with listening(two_lifts(tmp_path), tmp_path) as (_, side, port):
        reader, writer = await connected(port)
        for octet in b"lift-a":
            writer.write(bytes([octet]))
            await writer.drain()
        question = await reader.readexactly(8)
        assert question[:6] == bytes([1, 3, 0, 7, 0, 1])
        writer.close()
        assert side.status()["a"]["devices"]["la"]["requests"] >= 1


async def test_strangers_are_turned_away(tmp_path: Path) -> None:
    """Who does not register as one of ours is disconnected and asked nothing; many at once cost nothing."""
    async with listening(two_lifts(tmp_path), tmp_path) as (_, _, port):
        reader, writer = await connected(port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        many = [await connected(port) for _ in range(MAX_WAITING + 8)]
        ends = [asyncio.create_task(reader.read(1)) for reader, _ in many]
        done, _ = await asyncio.wait(ends, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert done
        await until(lambda: sum(end.done() for end in ends) >= 8, "those beyond the limit are turned away")
        for _, writer in many:
            writer.close()
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


@pytest.mark.parametrize(
    ("links", "problem"),
    [
        ("  a: {tcp: 10.0.0.1, hello: x}\n", "only a device that dials in sends this"),
        ("  a: {listen: 0.0.0.0:5020, hello: 'hex:0g'}\n", "is not hex:0102FF"),
        ("  a: {listen: 0.0.0.0:5020}\n  b: {listen: 0.0.0.0:5020}\n", "is already the link 'a'"),
        ("  a: {listen: 0.0.0.0:5020, hello: li}\n  b: {listen: 0.0.0.0:5020, hello: lift}\n", "begins with the hello"),
        ("  a: {listen: 0.0.0.0:5020, tcp: 10.0.0.1}\n", "a link is one of"),
        ("  a: {serial: /dev/ttyS0, framing: tcp}\n", "a serial line carries rtu or ascii"),
    ],
)
def test_mistakes_in_a_link_are_told(links: str, problem: str, tmp_path: Path) -> None:
    """What cannot work is said with file and key before anything starts."""
    with pytest.raises(ConfigError, match=problem):
        configured(tmp_path, links, "  d: {model: lift, link: a, unit: 1, equipment: EL-1}\n")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
