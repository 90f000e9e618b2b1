"""Readers that connect to the gateway itself: a PUBACK means that the event is on the disk."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from gateway.config import GatewayConfig, load_gateway
from gateway.field import FieldSide
from gateway.model import ModelLibrary
from tests.gateway.recorder import Recorder, recorder_for, until
from watchroom.errors import ConfigError

GATEWAY = """\
gateway: {{id: gate, site: here}}
links:
  door: {{listen: '127.0.0.1:{port}', speaks: mqtt, accounts: {{reader: {{password_env: READER_PASSWORD}}}}}}
devices:
  door-io:
    link: door
    mqtt:
      topic: "door/{{door}}/io"
      equipment: "{{door}}"
      only: [DR-S1]
      signals: {{contact: {{kind: state}}}}
      online: {{topic: "door/{{door}}/alive", when: "$.up == true", timeout: 300s}}
  cards:
    link: door
    mqtt:
      topic: "door/{{door}}/card"
      equipment: "{{door}}"
      only: [DR-S1]
      event: access
      id: $.n
      fields: {{card: {{pii: hash}}}}
      reply: {{topic: "door/{{door}}/card/ack", body: {{n: "{{id}}"}}}}
"""
VERSIONS = [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5]


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READER_PASSWORD", "secret of the test")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def configured(folder: Path, text: str = GATEWAY) -> GatewayConfig:
    path = folder / "gate.yaml"
    path.write_text(text.format(port=free_port()))
    return load_gateway(path, models=ModelLibrary())


@asynccontextmanager
async def running(config: GatewayConfig, folder: Path) -> AsyncIterator[tuple[Recorder, FieldSide]]:
    seen = recorder_for(config)
    side = FieldSide(config, seen, now_ms=lambda: time.time_ns() // 1_000_000, key=b"0" * 16, folder=folder / "data")
    task = asyncio.create_task(side.run())
    try:
        await until(lambda: side.links_down == 0, "the port is open")
        yield seen, side
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def client(config: GatewayConfig, **more: Any) -> aiomqtt.Client:
    """A reader of another maker: paho's client."""
    account = {"username": "reader", "password": "secret of the test"} | more
    return aiomqtt.Client("127.0.0.1", config.links["door"].port, **account)


@pytest.mark.parametrize("protocol", VERSIONS)
async def test_a_puback_means_on_the_disk(tmp_path: Path, protocol: Any) -> None:
    """The reader gets its PUBACK and its reply only after the commit, in both versions of MQTT."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, _), client(config, protocol=protocol) as reader:
        await reader.subscribe("door/+/card/ack", qos=1)
        seen.gate.clear()
        body = json.dumps({"n": 7, "card": "0A1B2C3D"})
        sending = asyncio.create_task(reader.publish("door/DR-S1/card", body, qos=1))
        await until(lambda: seen.asked == 1, "the event on its way to the disk")
        done, _ = await asyncio.wait([sending], timeout=0.2)
        assert not done
        seen.gate.set()
        await asyncio.wait_for(sending, 10)
        answer = await asyncio.wait_for(anext(aiter(reader.messages)), 10)
    (event,) = seen.events
    assert (event.id, event.equipment) == ("cards:7", "DR-S1")
    assert "0A1B2C3D" not in str(event.fields)
    assert json.loads(bytes(answer.payload)) == {"n": "7"}


async def test_no_puback_while_the_reserve_is_full(tmp_path: Path) -> None:
    """With no room on the disk the reader keeps its record, and is answered when there is room again."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, _), client(config) as reader:
        seen.is_full = True
        sending = asyncio.create_task(reader.publish("door/DR-S1/card", '{"n": 1, "card": "A"}', qos=1))
        done, _ = await asyncio.wait([sending], timeout=0.7)
        assert not done
        assert not seen.events
        seen.is_full = False
        await asyncio.wait_for(sending, 10)
    assert [event.id for event in seen.events] == ["cards:1"]


async def test_many_readers_at_once(tmp_path: Path) -> None:
    """Twenty readers with fifty records each: every one once, in each reader's order."""
    config = configured(tmp_path)

    async def read(number: int) -> None:
        async with client(config, identifier=f"reader-{number}") as reader:
            for i in range(50):
                await reader.publish("door/DR-S1/card", json.dumps({"n": number * 100 + i, "card": "A"}), qos=1)

    async with running(config, tmp_path) as (seen, _):
        await asyncio.wait_for(asyncio.gather(*(read(number) for number in range(20))), 60)
    ids = [int(event.id.partition(":")[2]) for event in seen.events]
    assert sorted(ids) == sorted(number * 100 + i for number in range(20) for i in range(50))
    for number in range(20):
        own = [i for i in ids if i // 100 == number]
        assert own == sorted(own)


async def test_a_wrong_password_and_no_account_are_turned_away(tmp_path: Path) -> None:
    """Nobody publishes without an account, and the page counts who tried."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, side):
        for account in ({"password": "guess"}, {"username": "other"}, {"username": None, "password": None}):
            with pytest.raises(aiomqtt.MqttError):
                async with client(config, **account):
                    pass
        assert side.status()["door"]["turned_away"] == {"account": 3}
    assert not seen.events


async def test_readers_do_not_see_each_other(tmp_path: Path) -> None:
    """A reader that subscribes to everything gets no card of another reader."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (_, side), client(config, identifier="ears") as ears:
        await ears.subscribe("#", qos=1)
        async with client(config, identifier="reader") as reader:
            await reader.publish("door/DR-S1/card", '{"n": 1, "card": "A"}', qos=1)
        message = await asyncio.wait_for(anext(aiter(ears.messages)), 10)
        assert message.topic.value == "door/DR-S1/card/ack"
        assert side.status()["door"]["readers"] == ["ears"]


async def test_a_reader_that_dies_leaves_its_will(tmp_path: Path) -> None:
    """A cut cable publishes the will; a reader that says goodbye leaves none."""
    config = configured(tmp_path)
    will = aiomqtt.Will("door/DR-S1/io", b'{"contact": 5}')
    async with running(config, tmp_path) as (seen, _):
        async with client(config, will=will) as reader:
            await reader.publish("door/DR-S1/io", '{"contact": 1}', qos=1)
        await until(lambda: seen.value("DR-S1/contact") == 1, "said goodbye")
        async with client(config, will=will) as reader:
            await reader.publish("door/DR-S1/io", '{"contact": 0}', qos=1)
            reader._client.socket().shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
            await until(lambda: seen.value("DR-S1/contact") == 5, "the will")
            with pytest.raises(aiomqtt.MqttError):
                await anext(aiter(reader.messages))
            with pytest.raises(aiomqtt.MqttError):
                await reader.publish("x", qos=1)
        assert [s.value for s in seen.of("DR-S1/contact") if s.value == s.value] == [1, 0, 5]


async def test_a_second_reader_with_one_name_takes_over(tmp_path: Path) -> None:
    """A reader that has lost its line and comes again is not kept out by its own dead connection."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, _):
        first = socket.create_connection(("127.0.0.1", config.links["door"].port))
        hello = b"\0\x04MQTT\x04\xc2\0\0\0\x02r1\0\x06reader\0\x12secret of the test"
        await asyncio.to_thread(first.sendall, bytes([0x10, len(hello)]) + hello)
        assert await asyncio.to_thread(first.recv, 4) == bytes.fromhex("20020000")
        async with client(config, identifier="r1") as reader:
            assert await asyncio.to_thread(first.recv, 4) == b""
            await reader.publish("door/DR-S1/io", '{"contact": 1}', qos=1)
        first.close()
        assert seen.value("DR-S1/contact") == 1


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "malformed"),
        (b"\x30\x03\0\x01x", "malformed"),
        (b"\x10\xff\xff\xff\xff\xff", "length"),
        (b"\x10\x0c\0\x06MQIsdp\x03\x02\0\0", "version"),
    ],
)
async def test_a_stranger_costs_only_its_own_connection(tmp_path: Path, sent: bytes, reason: str) -> None:
    """Something that is no MQTT is closed and counted; the readers go on."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, side), client(config) as reader:
        stranger = socket.create_connection(("127.0.0.1", config.links["door"].port))
        await asyncio.to_thread(stranger.sendall, sent)
        stranger.settimeout(20)
        while await asyncio.to_thread(stranger.recv, 100):
            pass
        stranger.close()
        await reader.publish("door/DR-S1/io", '{"contact": 1}', qos=1)
        assert seen.value("DR-S1/contact") == 1
        assert side.status()["door"]["turned_away"] == {reason: 1}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("'127.0.0.1:{port}'", "'0.0.0.0:{port}'", ""),
        ("'127.0.0.1:{port}', speaks: mqtt, accounts: {{reader: {{password_env: READER_PASSWORD}}}}",
         "'0.0.0.0:{port}', speaks: mqtt", "open to everybody"),
        ("{{password_env: READER_PASSWORD}}", "{{}}", "password_env: or password_file:"),
        ("speaks: mqtt", "speaks: mqtt, from: [10.0.3]", "not an address or network"),
        ("listen: '127.0.0.1:{port}', speaks: mqtt", "mqtt: 'mqtt://127.0.0.1'", "ports that readers connect to"),
        ("listen: '127.0.0.1:{port}'", "tcp: '127.0.0.1:{port}'", "does not go over tcp"),
    ],
)  # fmt: skip
def test_a_port_says_who_may_come_in(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """A port for readers that is open to everybody is refused before the start, with file and line."""
    text = GATEWAY.replace(old, new)
    assert text != GATEWAY
    if not problem:
        assert configured(tmp_path, text).links["door"].host == "0.0.0.0"
        return
    with pytest.raises(ConfigError, match=problem) as caught:
        configured(tmp_path, text)
    assert caught.value.line == 3
