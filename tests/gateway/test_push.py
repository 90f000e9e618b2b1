"""Readers that push over HTTP: answered 200 when the event is on the disk, 503 while there is no room."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import isapi, zkteco
from gateway.config import GatewayConfig, load_gateway
from gateway.field import FieldSide
from gateway.model import ModelLibrary
from simulators.push_readers import IsapiReader, Shape, ZktecoReader
from tests.gateway.recorder import Recorder, recorder_for, until
from watchroom.errors import ConfigError, ContractError

SHANGHAI = ZoneInfo("Asia/Shanghai")
GATEWAY = """\
gateway: {{id: gate, site: here}}
links:
  push: {{listen: '127.0.0.1:{port}', speaks: http}}
devices:
  faces:
    link: push
    http:
      protocol: isapi
      readers: {{"66666": {{equipment: DR-S1, direction: in}}, "77777": DR-S2}}
      signals: true
      timeout: 400ms
  cards:
    link: push
    http: {{protocol: zkteco, readers: {{CQUG01: DR-E1}}}}
"""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def configured(folder: Path, text: str = GATEWAY, *, port: int = 0) -> GatewayConfig:
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    path = folder / "gate.yaml"
    path.write_text(text.format(port=port))
    return load_gateway(path, models=ModelLibrary())


@asynccontextmanager
async def running(config: GatewayConfig, folder: Path) -> AsyncIterator[tuple[Recorder, FieldSide]]:
    seen = recorder_for(config)
    side = FieldSide(config, seen, now_ms=now_ms, key=b"0" * 16, folder=folder / "data")
    task = asyncio.create_task(side.run())
    try:
        await until(lambda: side.links_down == 0, "the port is open")
        yield seen, side
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@asynccontextmanager
async def pushing(*readers: IsapiReader | ZktecoReader) -> AsyncIterator[None]:
    """Readers that send what they keep."""
    tasks = [asyncio.create_task(reader.run()) for reader in readers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)


def face(config: GatewayConfig, **more: Any) -> IsapiReader:
    return IsapiReader("127.0.0.1", config.links["push"].port, zone=SHANGHAI, now_ms=now_ms, **more)


def card(config: GatewayConfig, **more: Any) -> ZktecoReader:
    return ZktecoReader("127.0.0.1", config.links["push"].port, zone=SHANGHAI, now_ms=now_ms, **more)


@pytest.mark.parametrize("shape", ["json", "xml", "multipart"])
async def test_a_face_is_an_access_event(tmp_path: Path, shape: Shape) -> None:
    """JSON, XML and multipart give the same event, with hashes in place of persons and no picture anywhere."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, _):
        reader = face(config)
        reader.shape = shape
        reader.read()
        reader.read(sub_type=76, status="checkOut")
        async with pushing(reader):
            await until(lambda: len(reader.answered) == 2, "answered")
    granted, denied = seen.events
    assert (granted.kind, granted.equipment) == ("access", "DR-S1")
    fields = granted.fields
    assert (fields["method"], fields["result"], fields["direction"], fields["serial"]) == (
        "face",
        "granted",
        "in",
        1001,
    )
    assert fields["person"].startswith("k:")
    assert fields["card"].startswith("k:")
    assert "1234567" not in str(seen.events)
    assert "Resident" not in str(seen.events)
    assert abs(granted.time_ms - granted.seen_ms) < 60_000
    assert denied.fields["result"] == "denied"
    assert not (tmp_path / "data" / "unmatched").exists()


async def test_200_means_on_the_disk(tmp_path: Path) -> None:
    """While the disk is busy there is no answer; when it is done there is, and the event is there once."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, _):
        seen.gate.clear()
        reader = face(config)
        reader.read()
        async with pushing(reader):
            await until(lambda: seen.asked == 1, "the event on its way to the disk")
            assert not reader.answers
            seen.gate.set()
            await until(lambda: reader.answered, "answered after the commit")
    assert len(seen.events) == 1


@pytest.mark.parametrize("make", [face, card])
async def test_503_while_the_reserve_is_full(tmp_path: Path, make: Any) -> None:
    """With no room on the disk both kinds of readers are told to come again, and lose nothing."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, _):
        seen.is_full = True
        reader = make(config)
        reader.read()
        async with pushing(reader):
            await until(lambda: reader.answers, "an answer")
            assert set(reader.answers) == {503}
            assert reader.waiting == 1
            assert not seen.events
            seen.is_full = False
            await until(lambda: reader.answered, "answered when there is room")
    assert len(seen.events) == 1


async def test_door_contacts_come_from_the_terminal(tmp_path: Path) -> None:
    """Door opened, closed, forced: the door's contact follows, and no access event is invented."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, _):
        reader = face(config)
        for sub_type in (21, 25, 26, 22, 27):
            reader.read(sub_type=sub_type)
        async with pushing(reader):
            await until(lambda: len(reader.answered) == 5, "answered")
        assert [sample.value for sample in seen.of("DR-S1/contact")] == [1, 0, 1]
        assert [sample.value for sample in seen.of("DR-S1/lock")] == [1, 0]
    assert not seen.events


async def test_zkteco_records_of_both_kinds(tmp_path: Path) -> None:
    """Real-time lines and attendance lines are access events with the reader's local time in its zone."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, side):
        reader = card(config)
        reader.read(person="123456")
        reader.read(person="7", card="8165538", event=27, verify=4, way=1)
        reader.attend(stamp=82)
        async with pushing(reader):
            await until(lambda: len(reader.answered) == 3, "answered")
            status, options = await reader.ask("/iclock/cdata?SN=CQUG01&options=all&pushver=2.4.1")
            assert status == 200
            assert b"ATTLOGStamp=82" in options
            assert b"TimeZone=8\r\n" in options
            assert (await reader.ask("/iclock/getrequest?SN=CQUG01"))[1] == b"OK"
            assert (await reader.ask("/iclock/registry?SN=CQUG01"))[1].startswith(b"RegistryCode=")
            assert (await reader.ask("/iclock/cdata?SN=OTHER&options=all"))[0] == 403
            assert (await reader.ask("/iclock/cdata"))[0] == 400
            assert (await reader.ask("/else"))[0] == 404
        assert side.status()["push"]["requests"]["stranger"] == 1
    first, unknown, attended = seen.events
    assert (first.fields["method"], first.fields["result"], first.fields["direction"]) == ("face", "granted", "in")
    assert (unknown.fields["method"], unknown.fields["result"], unknown.fields["direction"]) == (
        "card",
        "unknown",
        "out",
    )
    assert "card" not in first.fields
    assert unknown.fields["card"].startswith("k:")
    assert (attended.fields["result"], attended.fields["method"]) == ("granted", "face")
    assert {event.equipment for event in seen.events} == {"DR-E1"}
    assert all(abs(event.time_ms - event.seen_ms) < 60_000 for event in seen.events)
    # the stamp outlives a restart: the reader does not send its whole memory again
    async with running(config, tmp_path):
        assert b"ATTLOGStamp=82" in (await card(config).ask("/iclock/cdata?SN=CQUG01&options=all"))[1]


@pytest.mark.parametrize("mode", ["failing", "lying"])
async def test_a_bad_line_loses_and_doubles_nothing(tmp_path: Path, mode: str) -> None:
    """Cut requests, lost answers, nonsense and a wrong clock: every record is there, under one id."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, side):
        readers: list[IsapiReader | ZktecoReader] = [face(config, mode=mode, seed=3), card(config, mode=mode, seed=4)]
        for number in range(30):
            for reader in readers:
                reader.read(person=str(number))
        async with pushing(*readers):
            await until(lambda: not any(reader.waiting for reader in readers), "everything answered", within_s=90)
        counts = side.status()["push"]
    by_id = {event.id: event for event in seen.events}
    assert sum(event.equipment == "DR-S1" for event in by_id.values()) == 30
    assert sum(event.equipment == "DR-E1" for event in by_id.values()) == 30
    if mode == "lying":
        assert counts["unmatched"]
        assert all(event.time_ms - event.seen_ms > 4 * 3_600_000 for event in by_id.values())
    else:
        assert len(seen.events) >= 60


async def test_what_no_mapping_is_for_is_kept(tmp_path: Path) -> None:
    """An unknown sub type, broken JSON and a bomb of entities are answered, counted and kept without persons."""
    config = configured(tmp_path)
    bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    async with running(config, tmp_path) as (seen, side), httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{config.links['push'].port}/isapi"
        inner = {"majorEventType": 5, "subEventType": 153, "cardNo": "42424242", "name": "Resident A"}
        event = {"deviceID": "66666", "AccessControllerEvent": inner}
        for body in (json.dumps(event).encode(), b"{", bomb, b"", b"[]"):
            assert (await client.post(url, content=body)).status_code == 200
        assert side.status()["push"]["unmatched"] == {"kind": 1, "json": 3, "xml": 1}
        assert (await client.get(url)).status_code == 405
        assert (await client.post(url, json=event | {"deviceID": "other"})).status_code == 403
    assert not seen.events
    kept = (tmp_path / "data" / "unmatched" / "push" / "unmatched.jsonl").read_text()
    assert "42424242" not in kept
    assert "Resident" not in kept


async def test_a_heartbeat_keeps_a_reader_online(tmp_path: Path) -> None:
    """A terminal that only says that it is there is online; a silent one goes offline."""
    config = configured(tmp_path)
    async with running(config, tmp_path) as (seen, _):
        reader = face(config)
        reader.beat()
        async with pushing(reader):
            await until(lambda: seen.value("DR-S1/online") == 1, "online")
            await until(lambda: seen.value("DR-S1/online") == 0, "offline after the silence")
            assert seen.value("DR-S2/online") == 0


async def test_accounts_and_networks_keep_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port with accounts answers 401 to whoever has none, before anything of the body is looked at."""
    monkeypatch.setenv("PUSH_PASSWORD", "secret of the test")
    text = GATEWAY.replace("speaks: http", "speaks: http, accounts: {{face: {{password_env: PUSH_PASSWORD}}}}")
    config = configured(tmp_path, text)
    async with running(config, tmp_path) as (seen, side):
        wrong = face(config, account=("face", "guess"))
        wrong.read()
        right = face(config, account=("face", "secret of the test"))
        right.read()
        async with pushing(wrong, right):
            await until(lambda: right.answered and wrong.answers, "both answered")
        assert wrong.answers[0] == 401
        assert not wrong.answered
        assert side.status()["push"]["turned_away"]["account"] >= 1
    assert len(seen.events) == 1
    config = configured(tmp_path, GATEWAY.replace("speaks: http", "speaks: http, from: [192.0.2.0/24]"))
    async with running(config, tmp_path) as (seen, _):
        outside = face(config)
        outside.read()
        async with pushing(outside):
            await until(lambda: outside.answers, "turned away")
        assert outside.answers[0] == 0
    place = "{{equipment: DR-S1, direction: in, from: [192.0.2.1]}}"
    config = configured(tmp_path, GATEWAY.replace("{{equipment: DR-S1, direction: in}}", place))
    async with running(config, tmp_path):
        elsewhere = face(config)
        elsewhere.read()
        async with pushing(elsewhere):
            await until(lambda: elsewhere.answers, "turned away")
        assert elsewhere.answers[0] == 403


async def test_what_is_too_large_or_no_http_is_turned_away(tmp_path: Path) -> None:
    """A body beyond 8 MiB, and something that is no HTTP, cost their own connection only."""
    config = configured(tmp_path)
    port = config.links["push"].port
    async with running(config, tmp_path) as (seen, side), httpx.AsyncClient(trust_env=False) as client:
        with suppress(httpx.TransportError):
            answer = await client.post(f"http://127.0.0.1:{port}/isapi", content=bytes(9 * 1024 * 1024))
            assert answer.status_code == 413
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01 this is TLS\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        await until(lambda: len(side.status()["push"]["turned_away"]) == 2, "both counted")
        good = face(config)
        good.read()
        async with pushing(good):
            await until(lambda: good.answered, "a good reader goes on")
        assert side.status()["push"]["turned_away"] == {"length": 1, "malformed": 1}
    assert len(seen.events) == 1


@given(
    st.binary(max_size=400), st.sampled_from(["", "application/json", "text/xml", "multipart/form-data; boundary=x"])
)
def test_any_body_is_notifications_or_a_counted_refusal(body: bytes, kind: str) -> None:
    """Whatever a device posts: notifications, or a refusal with a reason."""
    reason = ""
    try:
        found = isapi.notifications(kind, body)
    except ContractError as exc:
        reason = exc.reason
    assert reason in {"", "json", "xml", "multipart", "text", "empty"}
    assert reason or found


@given(
    st.text(alphabet="ab=\t\n\r<>?x0123", max_size=200) | st.binary(max_size=200), st.sampled_from(["rtlog", "attlog"])
)
def test_any_lines_are_records_or_a_counted_refusal(body: str | bytes, table: str) -> None:
    """Whatever lines come: records, or a refusal with a reason."""
    raw = body.encode() if isinstance(body, str) else body
    reason = ""
    try:
        found = zkteco.parse_records(table, raw)
    except ContractError as exc:
        reason = exc.reason
    assert reason in {"", "line", "lines", "text"}
    assert reason or all(isinstance(record, dict) and record for record in found)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("protocol: isapi", "protocol: other", "protocol"),
        ("DR-S2", "door two", "not an equipment id"),
        ('"77777"', '"66666 "', ""),
        ("timeout: 400ms", "tz: Mars", "IANA"),
        ("timeout: 400ms", "fields: {{person: {{pii: hash, type: int}}}}", "a hashed field is text"),
        ("direction: in", "direction: in, from: [x]", "not an address or network"),
        ("  faces:\n    link: push", "  faces:\n    link: push\n    equipment: DR-S1", "stands inside http"),
        ("listen: '127.0.0.1:{port}'", "listen: '0.0.0.0:{port}'", "open to everybody"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """What an integrator gets wrong is told with file and line."""
    text = GATEWAY.replace(old, new)
    assert text != GATEWAY
    if not problem:
        assert configured(tmp_path, text, port=8090).sources
        return
    with pytest.raises(ConfigError, match=problem) as caught:
        configured(tmp_path, text, port=8090)
    assert caught.value.line >= 3
