"""A gateway against a real broker and a small centre."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.app import Gateway, run_gateways
from gateway.window import WindowLimits
from tests.disk_shim import CrashDisk
from tests.gateway.centre import Centre
from tests.gateway.loaded import GATEWAY, config
from tests.gateway.mosquitto import Mosquitto
from watchroom.births import Birth, format_epoch
from watchroom.disk import Disk
from watchroom.errors import ConfigError
from watchroom.frames import BirthFrame, Event, SampleFrame
from watchroom.settings import MqttSettings, Settings

QUICK = WindowLimits(retry_ms=300, retry_max_ms=600, stale_ms=60_000)
IMPATIENT = WindowLimits(retry_ms=300, retry_max_ms=600, stale_ms=200)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@contextlib.asynccontextmanager
async def running(
    folder: Path, port: int, *, limits: WindowLimits = QUICK, disk: Disk | None = None
) -> AsyncIterator[Gateway]:
    """Run one gateway without links in this event loop."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = Settings(data=folder, mqtt=MqttSettings(port=port))
    task = asyncio.create_task(
        run_gateways(
            [config()],
            settings,
            stop=stop,
            on_ready=lambda gateways: ready.set_result(gateways[0]),
            limits=limits,
            disk=disk,
        )
    )
    await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield ready.result()
    finally:
        stop.set()
        await task


def change(gateway: Gateway, value: float) -> None:
    """A new value of the gateway's signal loss_count (telemetry)."""
    gateway.collector.report(np.array([3], np.uint32), gateway.clock.now_ms(), np.array([value]), np.zeros(1, np.uint8))


async def access(gateway: Gateway, name: str) -> None:
    now_ms = gateway.clock.now_ms()
    await gateway.collector.event(
        Event(id=name, kind="access", equipment="DR-S1", time_ms=now_ms, seen_ms=now_ms, fields={"card": "k:1"})
    )


async def until(centre: Centre, condition: Any, what: str) -> None:
    await asyncio.to_thread(centre.wait, condition, what=what)


def values(centre: Centre) -> list[float]:
    """Values of loss_count in the order of arrival."""
    rows = []
    for _, frame in centre.samples():
        assert isinstance(frame, SampleFrame)
        rows += frame.value[frame.alias == 3].tolist()
    return rows


async def test_birth_comes_first(tmp_path: Path, broker: Mosquitto) -> None:
    """The centre learns what the aliases mean before, or with, the first frame: as a record and retained."""
    with Centre(broker.port) as centre:
        async with running(tmp_path, broker.port) as gateway:
            await until(centre, lambda: len(centre.samples()) > 0 and centre.births, "birth and samples")
            first = next(frame for _, frame in centre.frames if frame.header.seq == 1)
            assert isinstance(first, BirthFrame)
            assert Birth.from_json(first.birth) == Birth.from_json(centre.births[0])
            assert first.header.schema == first.birth["schema"] == 1
            assert [signal.key for signal in Birth.from_json(first.birth).signals] == [
                "GW-03/outbox_frames",
                "GW-03/outbox_bytes",
                "GW-03/links_down",
                "GW-03/loss_count",
            ]
            assert centre.status[-1]["online"] is True
            assert centre.status[-1]["epoch"] == format_epoch(gateway.outbox.epoch)
            assert all(frame.header.is_simulated for _, frame in centre.frames)
        await until(centre, lambda: centre.status[-1]["online"] is False, "said goodbye")


async def test_a_birth_is_shown_only_when_it_is_durable(tmp_path: Path, broker: Mosquitto) -> None:
    """While the disk refuses, nobody learns a schema number that another birth could get after a power cut."""
    disk = CrashDisk(tmp_path / "morgue")
    disk.refusing = {"sync"}
    with Centre(broker.port) as centre:
        async with running(tmp_path, broker.port, disk=disk) as gateway:
            await until(centre, lambda: any(status["online"] for status in centre.status), "the gateway online")
            assert (gateway.outbox.committed_seq, centre.births) == (0, [])
            disk.refusing = set()
            await until(centre, lambda: centre.births, "the birth")


async def test_restart_keeps_the_schema(tmp_path: Path, broker: Mosquitto) -> None:
    """A restart with the same signals is the same schema and the same birth; the retained ack spares a resend."""
    with Centre(broker.port) as centre:
        async with running(tmp_path, broker.port) as gateway:
            change(gateway, 7)
            await until(centre, lambda: 7 in values(centre) and gateway.outbox.frames == 0, "all acknowledged")
            last_seq = gateway.outbox.committed_seq
        sent = centre.duplicates
        async with running(tmp_path, broker.port) as gateway:
            change(gateway, 8)
            await until(centre, lambda: 8 in values(centre), "after the restart")
            births = [frame for _, frame in centre.frames if isinstance(frame, BirthFrame)]
            assert [frame.birth for frame in births] == [births[0].birth] * 2
            assert births[1].header.seq == last_seq + 1
            assert births[1].header.prev > 0
        assert centre.duplicates == sent
        assert not centre.conflicts


async def test_heartbeats_move_the_claim(tmp_path: Path, broker: Mosquitto) -> None:
    """When nothing happens each lane still says every heartbeat_s that it has measured everything up to now."""
    with Centre(broker.port) as centre:
        async with running(tmp_path, broker.port):
            await until(centre, lambda: min(len(centre.heartbeats(0)), len(centre.heartbeats(1))) > 4, "heartbeats")
        for lane in (0, 1):
            beats = [frame.header for frame in centre.heartbeats(lane)]
            claims = [beat.complete_ms for beat in beats]
            assert all(150 < b - a < 2000 for a, b in itertools.pairwise(claims[1:]))
            assert all(beat.seq == 0 and beat.n == 0 for beat in beats)
            assert beats[-1].prev == max(
                frame.header.seq for _, frame in centre.frames if frame.header.lane == lane and frame.header.seq
            )


async def test_an_event_is_durable_before_its_reader_is_answered(tmp_path: Path) -> None:
    """A card read is on the gateway's disk before the reader's record is acknowledged, also without a broker."""
    async with running(tmp_path, 1) as gateway:
        await access(gateway, "card-1")
        held = [gateway.outbox.read(seq) for seq in gateway.outbox.held(1, 99, limit=99)]
        assert any(b"card-1" in payload for payload in held if payload)


async def test_short_outage(tmp_path: Path, broker: Mosquitto) -> None:
    """After a short outage everything comes on the live topics, oldest first, in one unbroken chain a lane."""
    with Centre(broker.port) as centre:
        async with running(tmp_path, broker.port) as gateway:
            change(gateway, 1)
            await until(centre, lambda: 1 in values(centre), "before the outage")
            broker.kill()
            for value in range(2, 8):
                change(gateway, value)
                await access(gateway, f"card-{value}")
            broker.start()
            await until(centre, lambda: 7 in values(centre) and gateway.outbox.frames == 0, "after the outage")
        assert {leaf for leaf, _ in centre.frames} == {"u", "d"}
        assert [event.id for event in centre.events("access")] == [f"card-{value}" for value in range(2, 8)]
        for lane in (0, 1):
            chain = sorted(
                (frame.header.seq, frame.header.prev)
                for _, frame in centre.frames
                if frame.header.lane == lane and frame.header.seq
            )
            assert [prev for _, prev in chain] == [0, *(seq for seq, _ in chain[:-1])]


async def test_long_outage(tmp_path: Path, broker: Mosquitto) -> None:
    """After a long outage a full snapshot starts a new chain at once; what was missed follows as backlog."""
    with Centre(broker.port) as centre:
        async with running(tmp_path, broker.port, limits=IMPATIENT) as gateway:
            change(gateway, 1)
            await until(centre, lambda: 1 in values(centre) and gateway.outbox.frames == 0, "before the outage")
            broker.kill()
            await until(centre, lambda: not gateway.uplink.is_up, "noticed")
            before = len(centre.frames)
            begun_ms = gateway.clock.now_ms()
            for i in range(30):
                await access(gateway, f"card-{i}")
            change(gateway, 29)
            await until(centre, lambda: gateway.clock.now_ms() - begun_ms > 300, "longer than the stale limit")
            broker.start()
            await until(centre, lambda: gateway.outbox.frames == 0, "all delivered")
        after = [(leaf, frame) for leaf, frame in centre.frames[before:] if frame.header.seq]
        live = [frame for leaf, frame in after if leaf == "d"]
        assert live[0].header.is_snapshot
        assert live[0].header.prev == 0
        assert isinstance(live[0], SampleFrame)
        assert live[0].alias.tolist() == [0, 1, 2, 3]
        assert live[0].value[3] == 29
        backlog = [frame for leaf, frame in after if leaf == "b"]
        assert len(backlog) > 30
        assert all(frame.header.seq < live[0].header.seq for frame in backlog)
        assert [event.id for event in centre.events("access")] == [f"card-{i}" for i in range(30)]


async def test_window(tmp_path: Path, broker: Mosquitto) -> None:
    """Without acknowledgements 64 frames are under way and not one more; with them everything goes out."""
    with Centre(broker.port, is_acking=False) as centre:
        async with running(tmp_path, broker.port) as gateway:
            for i in range(200):
                await access(gateway, f"card-{i}")
            await until(centre, lambda: len(centre.events("access")) > 55, "a window full")
            await until(centre, lambda: centre.duplicates > 64, "resent without an answer")
            assert gateway.uplink.outstanding == 64
            assert sum(map(len, centre.seen.values())) == 64
            centre.is_acking = True
            await until(centre, lambda: gateway.outbox.frames == 0, "everything acknowledged")
        assert [event.id for event in centre.events("access")] == [f"card-{i}" for i in range(200)]


async def test_selective_acknowledgement(tmp_path: Path, broker: Mosquitto) -> None:
    """Frames are forgotten one by one as the centre has them, although an older one is still missing there."""
    with Centre(broker.port, is_acking=False) as centre:
        async with running(tmp_path, broker.port) as gateway:
            for i in range(4):
                await access(gateway, f"card-{i}")
            seqs = gateway.outbox.held(1, 99, limit=99)
            await until(centre, lambda: len(centre.events("access")) == 4, "received")
            epoch = format_epoch(gateway.outbox.epoch)
            centre.publish(GATEWAY, "ack", {"epoch": epoch, "upto": 0, "have": [[seqs[-1], seqs[-1]]]})
            await until(centre, lambda: gateway.outbox.lane_of(seqs[-1]) is None, "the last is acknowledged")
            assert set(seqs[:-1]) <= set(gateway.outbox.held(1, 99, limit=99))


async def test_want(tmp_path: Path, broker: Mosquitto) -> None:
    """A frame the centre asks for is sent again; one that is gone is answered with a loss record."""
    patient = WindowLimits(settle_ms=0)
    with Centre(broker.port, is_acking=False) as centre:
        async with running(tmp_path, broker.port, limits=patient) as gateway:
            await access(gateway, "card-1")
            await access(gateway, "card-2")
            await until(centre, lambda: len(centre.events("access")) == 2, "received")
            first, second = gateway.outbox.held(1, 99, limit=99)[-2:]
            epoch = format_epoch(gateway.outbox.epoch)
            gateway.outbox.acknowledge([(second, second)])
            before = centre.duplicates
            centre.publish(GATEWAY, "want", {"epoch": epoch, "ranges": [[first, second + 1000]]})
            await until(centre, lambda: centre.events("loss"), "loss record")
            assert centre.duplicates > before
            (loss,) = centre.events("loss")
            assert [second, second] in loss.fields["ranges"]
            assert all(a > second or b < first or (a, b) == (second, second) for a, b in loss.fields["ranges"])
            assert loss.fields["reason"] == "gone"


@pytest.mark.parametrize(
    "content",
    [
        b"not json",
        b"[]",
        b'{"epoch": "0000000000000000", "upto": 9999, "have": []}',
        b'{"epoch": "EPOCH", "upto": "all"}',
        b'{"epoch": "EPOCH", "upto": 1, "have": [[5, 2]]}',
        b"\xff\xfe",
        b"",
    ],
)
async def test_nonsense_is_ignored(tmp_path: Path, broker: Mosquitto, content: bytes) -> None:
    """Garbage on the ack topic, or an acknowledgement of another outbox, removes nothing and stops nothing."""
    with Centre(broker.port, is_acking=False) as centre:
        async with running(tmp_path, broker.port) as gateway:
            await access(gateway, "card-1")
            await until(centre, lambda: len(centre.events("access")) == 1, "received")
            frames = gateway.outbox.frames
            payload = content.replace(b"EPOCH", format_epoch(gateway.outbox.epoch).encode())
            for leaf in ("ack", "want"):
                centre.publish_bytes(GATEWAY, leaf, payload)
            await access(gateway, "card-2")
            await until(centre, lambda: len(centre.events("access")) == 2, "goes on")
            assert gateway.outbox.frames >= frames + 1


async def test_broker_that_forgot_everything(tmp_path: Path, broker: Mosquitto) -> None:
    """A broker that lost all its messages and retained topics costs nothing: everything arrives."""
    with Centre(broker.port, ack_share=0.3) as centre:
        async with running(tmp_path, broker.port) as gateway:
            for i in range(60):
                await access(gateway, f"card-{i}")
                change(gateway, i)
                if i % 20 == 19:
                    broker.kill()
                    broker.start()
            await until(centre, lambda: len(centre.events("access")) == 60, "every event")
            centre.ack_share = 1.0
            await until(centre, lambda: gateway.outbox.frames == 0, "all acknowledged")
        assert {event.id for event in centre.events("access")} == {f"card-{i}" for i in range(60)}
        assert not centre.conflicts


async def test_one_process_per_outbox(tmp_path: Path) -> None:
    """Two gateways on one folder would give one number to two frames: the second is refused."""
    async with running(tmp_path, 1):
        with pytest.raises(ConfigError, match="runs already"):
            async with running(tmp_path, 1):
                pytest.fail("the second one must not start")


async def test_health_page(tmp_path: Path) -> None:
    """The health page tells depth of the outbox, state of the uplink and of each link."""
    stop, settings = asyncio.Event(), Settings(data=tmp_path, mqtt=MqttSettings(port=1))
    found: list[int] = []
    listening = asyncio.Event()

    def on_health(port: int) -> None:
        found.append(port)
        listening.set()

    task = asyncio.create_task(run_gateways([config()], settings, health_port=0, stop=stop, on_health=on_health))
    async with asyncio.timeout(10):
        await listening.wait()

    async def page(path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", found[0])
        writer.write(f"GET /{path} HTTP/1.1\r\n\r\n".encode())
        text = (await reader.read()).decode()
        writer.close()
        return text

    async with asyncio.timeout(10):
        facts = json.loads((await page("health")).partition("\r\n\r\n")[2])
        while facts["gateways"][GATEWAY]["outbox_frames"] < 2:
            facts = json.loads((await page("health")).partition("\r\n\r\n")[2])
    assert facts["ok"] is True
    assert facts["gateways"][GATEWAY]["uplink"] == "down"
    assert f'watchroom_gateway_outbox_frames{{gateway="{GATEWAY}"}} 2.0' in await page("metrics")
    stop.set()
    await task


async def test_health_port_taken(tmp_path: Path) -> None:
    """A health port that is in use is refused with a clear sentence, before anything is read."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use"):
            await run_gateways([config()], Settings(data=tmp_path), health_port=port, stop=asyncio.Event())


async def test_two_gateways_of_one_name(tmp_path: Path) -> None:
    """Two files with the same gateway id are a mistake that is told at the start."""
    with pytest.raises(ConfigError, match="pump-house"):
        await run_gateways([config(), config()], Settings(data=tmp_path), stop=asyncio.Event())
