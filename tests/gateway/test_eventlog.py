"""Event logs of devices: every record once, whatever crashes; and texts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import Table
from gateway.config import GatewayConfig, load_gateway
from gateway.eventlog import LogField, LogSource, new_records, reads
from gateway.field import FieldSide
from gateway.logreader import ShortMemory
from gateway.model import ModelLibrary
from tests.gateway.devices import Registers, ScriptedDevice
from tests.gateway.recorder import Recorder, recorder_for, until
from watchroom.errors import ConfigError

DEPTH = 8
RECORD = "record: {regs: 4, depth: 8, fields: {time: dt48, loop: u8, code: {type: u8, enum: {1: fire}}}}"
MODEL = f"""\
model: panel
base: 0
groups: {{log: 50ms}}
signals:
  level:  {{at: "input:0"}}
  ring:   {{at: "input:100", type: log, count_at: "input:99", {RECORD}}}
  queue:  {{at: "input:200", type: log, count_at: "input:199", ack: "holding:199", {RECORD}}}
  serial: {{at: "holding:300", type: str4}}
"""


class Panel(Registers):
    """A device that writes records into a ring, and into a queue that is emptied by an acknowledgement."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[list[int]] = []
        self.inputs[99] = 0

    def happens(self, loop: int) -> None:
        """Write a record to both."""
        record = [0x1A0B, 0x160F, 0x1E00 + loop % 60, loop % 256 << 8 | 1]
        count = self.inputs[99]
        self.inputs.update(enumerate(record, 100 + count % DEPTH * 4))
        self.inputs[99] = (count + 1) % 65536
        self.waiting.append(record)
        self.show()

    def acknowledged(self, count: int) -> None:
        """Remove records from the queue."""
        del self.waiting[:count]
        self.show()

    def show(self) -> None:
        self.inputs[199] = min(len(self.waiting), DEPTH)
        for i, record in enumerate(self.waiting[:DEPTH]):
            self.inputs.update(enumerate(record, 200 + i * 4))


def configured(folder: Path, port: int, model: str = MODEL) -> GatewayConfig:
    (folder / "panel.yaml").write_text(model)
    path = folder / "gateway.yaml"
    path.write_text(
        f"gateway: {{id: test, site: here}}\nlinks:\n  plc: {{tcp: '127.0.0.1:{port}', timeout: 500ms}}\n"
        "devices:\n  panel: {model: panel, link: plc, unit: 1, equipment: FP-01}\n"
    )
    return load_gateway(path, models=ModelLibrary(folder))


@asynccontextmanager
async def watched(folder: Path, panel: Panel, memory: ShortMemory) -> AsyncIterator[tuple[Recorder, ScriptedDevice]]:
    def written(request: object) -> list[int]:
        panel.acknowledged(plc.writes[-1].words[0])
        return plc.writes[-1].words

    plc = ScriptedDevice(panel.answer, on_write=written)
    await plc.start()
    config = configured(folder, plc.port)
    seen = recorder_for(config)
    side = FieldSide(
        config, seen, now_ms=lambda: time.time_ns() // 1_000_000, key=b"0" * 16, folder=folder / "d", memory=memory
    )
    task = asyncio.create_task(side.run())
    try:
        yield seen, plc
    finally:
        task.cancel()
        await asyncio.wait([task])
        await plc.stop()


def loops(seen: Recorder, log: str) -> list[int]:
    return [int(str(event.fields["loop"])) for event in seen.events if event.fields.get("log") == log]


async def test_every_record_is_read_once(tmp_path: Path) -> None:
    """Also more than one read holds, over the end of the ring, and with the time of the device."""
    panel = Panel()
    for loop in range(5):
        panel.happens(loop)
    async with watched(tmp_path, panel, ShortMemory()) as (seen, _):
        await until(lambda: len(loops(seen, "ring")) == len(loops(seen, "queue")) == 5, "what had happened before")
        for loop in range(5, 30):
            panel.happens(loop)
            if loop % 6 == 0:
                await until(lambda: len(loops(seen, "ring")) == panel.inputs[99], "the ring is read")
        await until(lambda: len(loops(seen, "ring")) == len(loops(seen, "queue")) == 30, "all records")
    assert loops(seen, "ring") == loops(seen, "queue") == list(range(30))
    assert len({event.id for event in seen.events}) == len(seen.events)
    first = next(event for event in seen.events if event.fields.get("log") == "ring")
    assert first.kind == "device_log"
    assert first.equipment == "FP-01"
    assert first.fields == {"log": "ring", "loop": 0, "code": "fire"}
    assert first.time_ms == 1795332600000  # 2026-11-22 15:30:00 in Shanghai


async def test_after_a_restart_nothing_is_read_again(tmp_path: Path) -> None:
    """The position survives; what happened meanwhile is read."""
    panel, memory = Panel(), ShortMemory()
    panel.happens(1)
    async with watched(tmp_path, panel, memory) as (seen, _):
        await until(lambda: memory.numbers.get("panel.ring") == 1, "the position kept")
    panel.happens(2)
    async with watched(tmp_path, panel, memory) as (seen, _):
        await until(lambda: loops(seen, "ring"), "the new record")
        assert loops(seen, "ring") == [2]


async def test_a_record_read_twice_has_one_id(tmp_path: Path) -> None:
    """A crash between the commit and the position: the centre sees the same id and keeps one."""
    panel = Panel()
    for loop in range(3):
        panel.happens(loop)
    ids = []
    for _ in range(2):
        async with watched(tmp_path, panel, ShortMemory()) as (seen, _):
            await until(lambda: len(loops(seen, "ring")) == 3, "all records")
            ids.append([event.id for event in seen.events if event.fields.get("log") == "ring"])
    assert ids[0] == ids[1]


async def test_the_device_keeps_what_is_not_durable(tmp_path: Path) -> None:
    """A record is acknowledged to the device only when it is on our disk."""
    panel = Panel()
    async with watched(tmp_path, panel, ShortMemory()) as (seen, plc):
        await until(lambda: seen.value("FP-01/level") is not None, "polling")
        seen.gate.clear()
        asked = seen.asked
        panel.happens(7)
        await until(lambda: seen.asked > asked, "the commit was asked for")
        assert not plc.writes
        assert len(panel.waiting) == 1
        seen.gate.set()
        await until(lambda: not panel.waiting, "the device may forget it")


async def test_overwritten_records_are_told(tmp_path: Path) -> None:
    """What the ring lost while the line was down is counted as loss."""
    panel, memory = Panel(), ShortMemory()
    panel.happens(0)
    async with watched(tmp_path, panel, memory) as (seen, _):
        await until(lambda: memory.numbers.get("panel.ring") == 1, "the position kept")
    for loop in range(1, 12):
        panel.happens(loop)
    async with watched(tmp_path, panel, memory) as (seen, _):
        await until(lambda: any(event.kind == "loss" for event in seen.events), "the loss")
        assert loops(seen, "ring") == list(range(4, 12))
        (loss,) = [event for event in seen.events if event.kind == "loss"]
        assert loss.fields["count"] == 3


async def test_a_text_is_told_when_it_changes(tmp_path: Path) -> None:
    """A serial number travels as an event, once."""
    panel = Panel()
    panel.holding.update(enumerate([0x5A47, 0x2D31, 0x3200], 300))
    async with watched(tmp_path, panel, ShortMemory()) as (seen, plc):
        await until(lambda: sum(r.start == 300 for r in plc.requests) >= 4, "four reads")
        panel.holding[302] = 0x3300
        await until(lambda: len([e for e in seen.events if e.kind == "device_text"]) == 2, "the new text")
    texts = [event.fields["text"] for event in seen.events if event.kind == "device_text"]
    assert texts == ["ZG-12", "ZG-13"]


SOURCE = LogSource(
    name="log", table=Table.INPUT, offset=100, group="g", counter=(Table.INPUT, 99), ack=None, registers=3,
    depth=DEPTH, zone="UTC", fields=(LogField(name="a", type="u16"),),
)  # fmt: skip


@given(start=st.integers(0, 65535), steps=st.lists(st.integers(0, DEPTH), max_size=30))
def test_no_record_is_left_out_or_read_twice(start: int, steps: list[int]) -> None:
    """Whatever the counter does, over its roll-over too, as long as the ring is read before it is full."""
    position, count, got = start, start, 0
    for step in steps:
        count = (count + step) % 65536
        new = new_records(SOURCE, count, position)
        assert not new.lost
        assert new.numbers == [(position + i) % 65536 for i in range(step)]
        position, got = new.position, got + len(new.numbers)
    assert got == sum(steps)


def test_a_device_that_counts_from_nought_again() -> None:
    """After a device lost its memory its records are read from the beginning."""
    assert new_records(SOURCE, 3, 40_000).numbers == [0, 1, 2]


@given(numbers=st.integers(0, 65535), n=st.integers(1, DEPTH), max_regs=st.integers(3, 30))
def test_reads_stay_inside_the_ring(numbers: int, n: int, max_regs: int) -> None:
    """No read is longer than allowed or runs over the end of the ring, and all records are fetched in order."""
    wanted = [(numbers + i) % 65536 for i in range(n)]
    fetched = []
    for start, run in reads(SOURCE, wanted, max_regs):
        assert len(run) * 3 <= max(max_regs, 3)
        assert start >= 100
        assert start + len(run) * 3 <= 100 + DEPTH * 3
        assert [(start - 100) // 3 + i for i in range(len(run))] == [number % DEPTH for number in run]
        fetched += run
    assert fetched == wanted


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("regs: 4", "regs: 3"), "the fields take 8 bytes, the record has 6"),
        (("time: dt48", "time: dt49"), "there is no type 'dt49'"),
        (('count_at: "input:99", ', ""), "a log needs count_at: and record:"),
        (('ack: "holding:199"', 'ack: "input:199"'), "ack: is a holding register"),
    ],
)
def test_mistakes_in_a_log_are_told(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    """File, line and what is wrong."""
    with pytest.raises(ConfigError, match=problem):
        configured(tmp_path, 502, MODEL.replace(*change))


def test_a_time_that_cannot_be() -> None:
    """A device with an empty battery: the record keeps its fields and has no time of its own."""
    from gateway.eventlog import decode_record

    source = LogSource(
        name="log", table=Table.INPUT, offset=0, group="g", counter=(Table.INPUT, 99), ack=None, registers=4, depth=1,
        zone="UTC", fields=(LogField(name="time", type="dt48"), LogField(name="code", type="u16")),
    )  # fmt: skip
    assert decode_record(source, np.array([0, 0, 0, 9], dtype=np.uint16)) == ({"code": 9}, None)
