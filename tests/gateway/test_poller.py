"""The field side against real Modbus servers on loopback: what a device does, and what comes of it."""

from __future__ import annotations

import asyncio
import itertools
import math
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.addresses import Table
from gateway.config import GatewayConfig, load_gateway
from gateway.field import FieldSide
from gateway.model import ModelLibrary
from gateway.probe import probe
from tests.gateway.devices import SILENT, Answer, Request, ScriptedDevice, counting, device
from tests.gateway.recorder import Recorder, recorder_for, until
from watchroom.signals import Quality

MODEL = """\
model: tester
base: 0
groups: {fast: 100ms, slow: 300ms}
params: {rated: 50}
signals:
  level:    {at: "holding:10", scale: 0.1, unit: "%"}
  pressure: {at: "holding:11", unit: kPa}
  flow:     {at: "holding:14"}
  total:    {at: "input:20", type: u32, group: slow}
  pump_on:  {at: "coil:3", class: state}
  load:     {expr: "pressure / rated * 100", unit: "%"}
"""


def configured(
    folder: Path, port: int, *, units: tuple[int, ...] = (1,), link: str = "timeout: 200ms"
) -> GatewayConfig:
    """A gateway with one link and a device a unit."""
    (folder / "tester.yaml").write_text(MODEL)
    devices = "".join(f"  d{u}: {{model: tester, link: plc, unit: {u}, equipment: TK-{u:02}}}\n" for u in units)
    path = folder / "gateway.yaml"
    path.write_text(
        f"gateway: {{id: test, site: here}}\nlinks:\n  plc: {{tcp: '127.0.0.1:{port}', {link}}}\ndevices:\n{devices}"
    )
    return load_gateway(path, models=ModelLibrary(folder))


@asynccontextmanager
async def running(config: GatewayConfig, folder: Path) -> AsyncIterator[tuple[Recorder, FieldSide]]:
    """The field side of a gateway, stopped in order at the end."""
    recorder = recorder_for(config)
    side = FieldSide(
        config, recorder, now_ms=lambda: time.time_ns() // 1_000_000, key=b"0" * 16, folder=folder / "data"
    )
    task = asyncio.create_task(side.run())
    try:
        yield recorder, side
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_all_tables_are_read_and_decoded(tmp_path: Path) -> None:
    """Holding and input registers, coils and calculated signals arrive in their units."""
    async with device(counting) as plc, running(configured(tmp_path, plc.port), tmp_path) as (seen, side):
        await until(lambda: seen.value("TK-01/total") and seen.value("TK-01/pump_on") is not None, "all blocks")
        await until(lambda: seen.value("TK-01/load") is not None, "the calculated signal")
        values = {key: seen.value(f"TK-01/{key}") for key in ("level", "pressure", "flow", "total", "pump_on", "load")}
        status = side.status()
    assert values == {"level": 1.0, "pressure": 11, "flow": 14, "total": 20 * 65536 + 21, "pump_on": 1, "load": 22}
    assert all(sample.quality == Quality.GOOD for sample in seen.samples)
    assert side.links_down == 0
    assert not status["plc"]["devices"]["d1"]["is_silent"]


async def test_one_request_reads_a_block_and_one_report_carries_it(tmp_path: Path) -> None:
    """Not a request a signal: three registers and the calculated signal travel together."""
    async with device(counting) as plc, running(configured(tmp_path, plc.port), tmp_path) as (seen, _):
        await until(lambda: len(seen.of("TK-01/level")) >= 3, "three polls")
    holding = {(r.start, r.count) for r in plc.requests if r.table is Table.HOLDING}
    assert holding == {(10, 5)}
    assert 4 in seen.blocks


async def test_a_sample_is_stamped_between_request_and_answer(tmp_path: Path) -> None:
    """An answer that takes 100 ms is stamped in the middle, not when it is decoded."""
    async with device(counting) as plc:
        asked_ms: list[float] = []

        def note(request: Request) -> float:
            asked_ms.append(time.time() * 1000)
            return 0.1

        plc.delay_s = note
        async with running(configured(tmp_path, plc.port), tmp_path) as (seen, _):
            await until(lambda: len(seen.blocks) >= 3, "three blocks")
    stamps = [sample.time_ms for sample in seen.of("TK-01/level")]
    assert stamps
    for stamp in stamps:
        assert any(20 < stamp - asked < 90 for asked in asked_ms)


async def test_fast_groups_are_fast(tmp_path: Path) -> None:
    """A 100 ms group comes ten times a second."""
    async with device(counting) as plc, running(configured(tmp_path, plc.port), tmp_path) as (seen, _):
        await until(lambda: len(seen.of("TK-01/level")) >= 15, "fifteen polls")
    stamps = [sample.time_ms for sample in seen.of("TK-01/level")][:15]
    assert 1000 <= stamps[-1] - stamps[0] <= 2500


async def test_a_dead_unit_does_not_hold_up_its_neighbour(tmp_path: Path) -> None:
    """A silent unit behind a converter: the neighbour is read on, the unit's signals are NaN, never 0."""

    def answer(request: Request) -> Answer:
        return SILENT if request.unit == 1 else counting(request)

    async with (
        device(answer) as plc,
        running(configured(tmp_path, plc.port, units=(1, 2)), tmp_path) as (seen, side),
    ):
        await until(lambda: len(seen.of("TK-02/level")) >= 25, "the neighbour's polls")
        assert side.status()["plc"]["devices"]["d1"]["is_silent"]
        assert side.links_down == 0
    stamps = [sample.time_ms for sample in seen.of("TK-02/level")]
    assert max(b - a for a, b in itertools.pairwise(stamps)) < 100 + 200 + 150
    dead = [sample for sample in seen.samples if sample.key.startswith("TK-01/")]
    assert {sample.key for sample in dead} == {
        f"TK-01/{n}" for n in ("level", "pressure", "flow", "total", "pump_on", "load")
    }
    assert all(math.isnan(sample.value) and sample.quality == Quality.NO_COMMUNICATION for sample in dead)
    assert len(dead) == 6, "an outage is reported once, not at every probe"
    probes = [request for request in plc.requests if request.unit == 1][1:]
    assert all(request.count == 1 for request in probes), "a probe asks for one register"


async def test_values_come_back_with_the_device(tmp_path: Path) -> None:
    """After an outage of one unit everything is read again at once."""
    is_dead = True

    def answer(request: Request) -> Answer:
        return SILENT if request.unit == 1 and is_dead else counting(request)

    async with (
        device(answer) as plc,
        running(configured(tmp_path, plc.port, units=(1, 2)), tmp_path) as (seen, _),
    ):
        await until(lambda: seen.quality("TK-01/level") == Quality.NO_COMMUNICATION, "the outage")
        is_dead = False
        await until(lambda: seen.quality("TK-01/total") == Quality.GOOD, "all values again")
        assert seen.value("TK-01/pressure") == 11


async def test_one_lost_answer_is_no_outage(tmp_path: Path) -> None:
    """A single lost packet costs one poll and no alarm."""
    lost = 0

    def answer(request: Request) -> Answer:
        nonlocal lost
        if request.table is Table.INPUT and not lost:
            lost += 1
            return SILENT
        return counting(request)

    async with device(answer) as plc, running(configured(tmp_path, plc.port), tmp_path) as (seen, _):
        await until(lambda: seen.quality("TK-01/total") == Quality.GOOD, "the block that was lost once")
    assert lost == 1
    assert {sample.quality for sample in seen.samples} == {Quality.GOOD}


async def test_a_restarted_device_is_found_again(tmp_path: Path) -> None:
    """A PLC that reboots: one outage, then values, without anybody's help."""
    async with device(counting) as plc, running(configured(tmp_path, plc.port), tmp_path) as (seen, side):
        await until(lambda: seen.value("TK-01/level") is not None, "the first value")
        await plc.stop()
        await until(lambda: seen.quality("TK-01/level") == Quality.NO_COMMUNICATION, "the outage")
        await until(lambda: side.links_down == 1, "the link counted as down")
        n = len(seen.samples)
        await plc.start()
        await until(lambda: seen.quality("TK-01/total") == Quality.GOOD, "values after the restart")
        await until(lambda: seen.quality("TK-01/level") == Quality.GOOD, "values after the restart")
        assert side.links_down == 0
    outage = [s for s in seen.samples[:n] if s.quality == Quality.NO_COMMUNICATION and s.key == "TK-01/level"]
    assert len(outage) == 1


async def test_a_half_open_connection_is_made_anew(tmp_path: Path) -> None:
    """A connection on which nothing answers any more is replaced, because a new one may work."""
    plc = ScriptedDevice(lambda request: counting(request) if plc.connections > 1 else SILENT)
    await plc.start()
    try:
        async with running(configured(tmp_path, plc.port), tmp_path) as (seen, _):
            await until(lambda: seen.quality("TK-01/level") == Quality.GOOD, "a value over the second connection")
    finally:
        await plc.stop()
    assert plc.connections >= 2


@pytest.mark.parametrize("bad", [10, 11, 14, 12])
async def test_a_missing_register_costs_only_its_own_signal(tmp_path: Path, bad: int) -> None:
    """Exception 2 on a merged read: the bad register is found and remembered, all others are read on."""

    def answer(request: Request) -> Answer:
        touches = request.table is Table.HOLDING and request.start <= bad < request.start + request.count
        return 2 if touches else counting(request)

    names = {10: "level", 11: "pressure", 14: "flow"}
    good = [f"TK-01/{name}" for register, name in names.items() if register != bad]
    async with device(answer) as plc, running(configured(tmp_path, plc.port), tmp_path) as (seen, side):
        await until(lambda: all(len(seen.of(key)) >= 3 for key in good), "the good registers")
        if bad in names:
            key = f"TK-01/{names[bad]}"
            await until(lambda: seen.quality(key) == Quality.INVALID, "the bad one marked")
            assert math.isnan(seen.value(key) or 0.0)
            assert side.status()["plc"]["devices"]["d1"]["missing_registers"] == [names[bad]]
            asked = sum(1 for r in plc.requests if r.table is Table.HOLDING and r.start <= bad < r.start + r.count)
            await until(lambda: all(len(seen.of(key)) >= 8 for key in good), "more polls")
            again = sum(1 for r in plc.requests if r.table is Table.HOLDING and r.start <= bad < r.start + r.count)
            assert again == asked, "a register the device does not have is no load on the link"
    assert plc.connections == 1, "an exception is an answer: it must not reset the connection"
    assert all(seen.quality(key) == Quality.GOOD for key in good)


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(b"\x02\x00\x07", id="one register instead of five"),
        pytest.param(b"\x0c" + bytes(12), id="six registers instead of five"),
    ],
)
async def test_an_answer_of_the_wrong_length_is_no_value(tmp_path: Path, lie: bytes) -> None:
    """What does not fit the question is never taken for values."""

    def answer(request: Request) -> Answer:
        return lie if request.table is Table.HOLDING and request.count == 5 else counting(request)

    async with device(answer) as plc, running(configured(tmp_path, plc.port), tmp_path) as (seen, side):
        await until(lambda: side.status()["plc"]["devices"]["d1"]["timeouts"] >= 2, "two rejected answers")
    assert all(math.isnan(sample.value) for sample in seen.of("TK-01/level"))


@pytest.mark.parametrize("code", [4, 6])
async def test_a_busy_device_gives_no_zeros(tmp_path: Path, code: int) -> None:
    """Device failure and busy are passing states: no value meanwhile, and the values afterwards."""
    is_busy = True

    def answer(request: Request) -> Answer:
        return code if is_busy and request.table is Table.HOLDING else counting(request)

    async with device(answer) as plc, running(configured(tmp_path, plc.port), tmp_path) as (seen, _):
        await until(lambda: seen.quality("TK-01/level") == Quality.INVALID, "the refusal")
        assert all(math.isnan(sample.value) for sample in seen.of("TK-01/level"))
        is_busy = False
        await until(lambda: seen.value("TK-01/level") == 1.0, "the value afterwards")


async def test_a_converter_that_reports_a_silent_target(tmp_path: Path) -> None:
    """Exception 11 of a converter means the unit behind it does not answer."""

    def answer(request: Request) -> Answer:
        return 11 if request.unit == 1 else counting(request)

    async with (
        device(answer) as plc,
        running(configured(tmp_path, plc.port, units=(1, 2)), tmp_path) as (seen, _),
    ):
        await until(lambda: seen.quality("TK-01/level") == Quality.NO_COMMUNICATION, "the outage")
        await until(lambda: seen.value("TK-02/level") == 1.0, "the neighbour")


async def test_a_late_rtu_answer_is_never_taken_for_the_next(tmp_path: Path) -> None:
    """RTU telegrams carry no number: after a late answer the line is cleared, and no register shows another's value."""
    slow = 0

    def delay(request: Request) -> float:
        nonlocal slow
        slow += 1
        return 0.3 if slow % 7 == 3 else 0.0

    def answer(request: Request) -> Answer:
        base = 1000 if request.table is Table.INPUT else 0
        return [base + request.start + i for i in range(request.count)] if not request.table.is_bits else [1]

    async with device(answer, is_rtu=True) as converter:
        converter.delay_s = delay
        config = configured(tmp_path, converter.port, link="framing: rtu, timeout: 150ms, settle: 250ms")
        async with running(config, tmp_path) as (seen, _):
            await until(lambda: len(seen.of("TK-01/level")) >= 12, "polls between late answers", within_s=30)
            await until(lambda: len(seen.of("TK-01/total")) >= 4, "the other table", within_s=30)
    assert converter.connections == 1, "the neighbours on the line must not lose their connection for it"
    expected = {
        "level": 1.0,
        "pressure": 11.0,
        "flow": 14.0,
        "total": 1020.0 * 65536 + 1021,
        "pump_on": 1.0,
        "load": 22.0,
    }
    for sample in seen.samples:
        if sample.quality == Quality.GOOD:
            assert sample.value == pytest.approx(expected[sample.key.partition("/")[2]])


async def test_nobody_listens(tmp_path: Path) -> None:
    """A wrong port: every signal says no communication, and the link counts as down."""
    async with device(counting) as plc:
        port = plc.port
    async with running(configured(tmp_path, port), tmp_path) as (seen, side):
        await until(lambda: seen.quality("TK-01/level") == Quality.NO_COMMUNICATION, "no communication")
        assert side.links_down == 1
        assert seen.blocks == [6]


@asynccontextmanager
async def pymodbus_server() -> AsyncIterator[int]:
    """A server that is not ours: holding 10.. = 402, 11, ..., input 20 = 1.5 as a float in the order CDAB."""
    blocks = (
        [SimData(0, count=16, values=[True] * 16, datatype=DataType.BITS)],
        [SimData(0, count=16, values=[False] * 16, datatype=DataType.BITS)],
        [SimData(0, count=40, values=[402 if i == 10 else i for i in range(40)], datatype=DataType.REGISTERS)],
        [SimData(0, count=40, values=[0] * 20 + [0, 0x3FC0] + [0] * 18, datatype=DataType.REGISTERS)],
    )
    server = ModbusTcpServer([SimDevice(id=1, simdata=blocks)], address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    assert isinstance(server.transport, asyncio.Server)
    try:
        yield server.transport.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def test_against_the_server_of_pymodbus(tmp_path: Path) -> None:
    """A server that others wrote gives the values it holds."""
    async with pymodbus_server() as port, running(configured(tmp_path, port), tmp_path) as (seen, _):
        await until(lambda: seen.value("TK-01/pump_on") is not None, "coils")
        await until(lambda: seen.value("TK-01/level") is not None, "registers")
        assert seen.value("TK-01/level") == 40.2
        assert seen.value("TK-01/flow") == 14


@pytest.mark.skipif(shutil.which("mbpoll") is None, reason="needs the mbpoll program")
async def test_mbpoll_and_the_gateway_read_the_same(tmp_path: Path) -> None:
    """A tool that others wrote reads the same registers from the same server."""
    async with pymodbus_server() as port, running(configured(tmp_path, port), tmp_path) as (seen, _):
        await until(lambda: seen.value("TK-01/level") is not None, "registers")
        arguments = ["-m", "tcp", "-p", str(port), "-a", "1", "-0", "-r", "10", "-c", "5", "-t", "4", "-1", "127.0.0.1"]
        tool = await asyncio.create_subprocess_exec("mbpoll", *arguments, stdout=asyncio.subprocess.PIPE)
        text = (await tool.communicate())[0].decode()
    words = [int(line.split("]:")[1].split()[0]) for line in text.splitlines() if line.startswith("[")]
    assert words == [402, 11, 12, 13, 14]
    assert seen.value("TK-01/level") == words[0] / 10


async def test_probe_shows_every_byte_order(tmp_path: Path) -> None:
    """The order is chosen by looking: raw words, the value, and the value in all other orders."""
    async with pymodbus_server() as port:
        config = configured(tmp_path, port)
        table = await probe(config, "d1")
        assert table.splitlines()[0] == (f"d1: unit 1 on plc (127.0.0.1:{port}), model tester, equipment TK-01")
        rows = {line.split()[0]: line.split() for line in table.splitlines()[1:]}
        assert rows["level"][1:5] == ["holding:10", "0192", "40.2", "%"]
        assert rows["total"][1:4] == ["input:20", "0000", "3FC0"]
        assert "ABCD*" in rows["total"]
        assert "CDAB" in rows["total"]
        assert await probe(config, "TK-01") == table


async def test_probe_says_what_does_not_answer(tmp_path: Path) -> None:
    """A wrong unit id or a refused range is a sentence, not a stack trace."""

    def answer(request: Request) -> Answer:
        return 2 if request.table is Table.HOLDING else SILENT

    async with device(answer) as plc:
        text = await probe(configured(tmp_path, plc.port), "d1")
    assert "FC3 10..14, 5 regs, 2 unused: exception 2: illegal data address" in text
    assert "no answer within 0.2 s (is unit 1 right?" in text
