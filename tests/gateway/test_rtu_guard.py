"""One late answer on a line without telegram numbers: what pymodbus makes of it, and what we make of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus import FramerType, ModbusException
from pymodbus.client import AsyncModbusTcpClient

from gateway.addresses import Table
from gateway.config import LinkConfig
from gateway.ghosts import LIFE_S, Ghosts
from gateway.modbus import ModbusLink, RefusedError
from gateway.telegram import read_question
from tests.gateway.devices import SILENT, Answer, Request, ScriptedDevice, counting, device, pty_pair
from watchroom.errors import LinkError

READS = 2_000
"""The benchmark ``polling`` does the same for 100,000 reads."""
HOLDING, INPUT = Table.HOLDING, Table.INPUT


def truth(unit: int, table: Table, address: int) -> int:
    """What a register holds: no other register of the line holds the same."""
    return zlib.crc32(f"{unit} {table} {address}".encode()) & (1 if table.is_bits else 0xFFFF)


def true_answer(request: Request) -> list[int]:
    return [truth(request.unit, request.table, request.start + i) for i in range(request.count)]


def link_to(port: int, *, timeout_s: float = 0.05, framing: str = "rtu") -> LinkConfig:
    assert framing in {"rtu", "tcp", "ascii"}
    return LinkConfig(
        name="line",
        kind="tcp",
        host="127.0.0.1",
        port=port,
        framing=framing,  # type: ignore[arg-type]
        timeout_s=timeout_s,
        settle_s=0.01,
    )


def late_once(delay_s: float) -> Callable[[Request], float]:
    """The third answer comes late, all others after the 10 ms that devices take."""
    asked = 0

    def delay(_: Request) -> float:
        nonlocal asked
        asked += 1
        return delay_s if asked == 3 else 0.01

    return delay


async def test_pymodbus_returns_other_registers_for_ever() -> None:
    """The fault we guard against: after one late answer every read shows the registers of the one before."""
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
    wrong = []
    async with device(counting, is_rtu=True) as bus:
        bus.delay_s = late_once(0.25)
        client = AsyncModbusTcpClient(
            "127.0.0.1", port=bus.port, framer=FramerType.RTU, timeout=0.2, retries=0, reconnect_delay=0
        )
        assert await client.connect()
        for start in range(0, 400, 20):
            with contextlib.suppress(ModbusException):
                answer = await client.read_holding_registers(start, count=4, device_id=1)
                if answer.registers != [start, start + 1, start + 2, start + 3]:
                    wrong.append(start)
        client.close()
    assert len(wrong) >= 10, "pymodbus has been mended: the guard may be simplified"
    assert wrong[-1] == 380, "it never recovers by itself"


async def test_ours_returns_none_of_them() -> None:
    """The same device, the same late answer: one read is lost, all others are right."""
    lost = 0
    async with device(counting, is_rtu=True) as bus:
        bus.delay_s = late_once(0.25)
        line = ModbusLink(link_to(bus.port, timeout_s=0.2))
        await line.open()
        for start in range(0, 400, 20):
            try:
                words = await line.read(HOLDING, unit=1, start=start, count=4)
            except LinkError:
                lost += 1
            else:
                assert words.tolist() == [start, start + 1, start + 2, start + 3]
        line.close()
    assert lost == 1
    assert line.counts.late == 1, "the late answer was seen and thrown away"
    assert bus.connections == 1


class Liar:
    """A bus of six units: one good, one dead, one late, one rubbish, one that drops the connection, one of each.

    Args:
        seed: Same seed, same lies.
        timeout_s: Of whoever reads it.
    """

    def __init__(self, seed: int, timeout_s: float) -> None:
        self.random, self.timeout_s = random.Random(seed), timeout_s
        self.bus: ScriptedDevice | None = None
        self.asked = 0

    def delay(self, request: Request) -> float:
        if request.unit in {3, 6} and self.random.random() < 0.1:
            return self.timeout_s * self.random.uniform(0.9, 3.5)
        return 0.0

    def answer(self, request: Request) -> Answer:
        self.asked += 1
        if request.unit == 2:
            return SILENT
        if request.unit in {4, 6} and self.random.random() < 0.1:
            lies: list[Answer] = [self.random.randbytes(self.random.randint(0, 60)), true_answer(request)[:-1]]
            return self.random.choice([*lies, [*true_answer(request), 1], 2])
        if request.unit == 5 and self.random.random() < 0.3:
            assert self.bus is not None
            asyncio.get_running_loop().call_later(0.001, self.bus.hang_up)
        if request.unit == 7 and request.table is INPUT:
            return 1
        return true_answer(request)


@pytest.mark.parametrize("framing", ["rtu", "tcp"])
async def test_no_wrong_value_from_a_lying_bus(framing: str) -> None:
    """Dead, late, rubbish, dropping: whatever value comes out is the one the device holds."""
    timeout_s = 0.03
    liar = Liar(7, timeout_s)
    choice = random.Random(3)
    good: dict[int, int] = {}
    async with device(liar.answer, is_rtu=framing == "rtu") as bus:
        bus.delay_s, liar.bus = liar.delay, bus
        line = ModbusLink(link_to(bus.port, timeout_s=timeout_s, framing=framing))
        for _ in range(READS):
            unit = choice.choices([1, 2, 3, 4, 5, 6, 7], [40, 1, 12, 12, 12, 12, 11])[0]
            table, start, count = choice.choice([HOLDING, INPUT]), choice.randrange(500), choice.choice([1, 2, 2, 5])
            try:
                if not line.is_open:
                    await line.open()
                words = await line.read(table, unit=unit, start=start, count=count)
            except (LinkError, RefusedError):
                continue
            assert words.tolist() == [truth(unit, table, start + i) for i in range(count)]
            good[unit] = good.get(unit, 0) + 1
        line.close()
    assert good[1] > READS * 0.3, "the good unit is read on"
    assert min(good[unit] for unit in (3, 4, 5, 6, 7)) > 30, "also the lying ones are read again and again"
    assert 2 not in good


@pytest.mark.parametrize("is_ascii", [False, True], ids=["rtu", "ascii"])
async def test_a_late_answer_on_a_serial_line(is_ascii: bool) -> None:
    """The same on a real serial device file, RTU and ASCII."""
    liar = Liar(5, 0.05)
    choice = random.Random(4)
    scripted = ScriptedDevice(lambda request: true_answer(request) if request.unit != 2 else SILENT, delay_s=liar.delay)
    good = 0
    with pty_pair() as (far, name):
        serving = asyncio.create_task(scripted.serve_line(far, is_ascii=is_ascii))
        line = ModbusLink(
            LinkConfig(
                name="rs485",
                kind="serial",
                host=name,
                framing="ascii" if is_ascii else "rtu",
                baud=115200,
                parity="E",
                timeout_s=0.05,
                settle_s=0.01,
            )
        )
        await line.open()
        for _ in range(250):
            table, start = choice.choice([HOLDING, INPUT, Table.COIL]), choice.randrange(500)
            with contextlib.suppress(LinkError):
                words = await line.read(table, unit=3, start=start, count=3)
                assert words.tolist() == [truth(3, table, start + i) for i in range(3)]
                good += 1
        line.close()
        serving.cancel()
        await asyncio.wait([serving])
    assert good > 150
    assert line.counts.late > 0


async def test_a_device_of_one_register_is_read_again() -> None:
    """A device that has one register and only knows one function comes back too after a late answer."""

    def answer(request: Request) -> Answer:
        return [77] if (request.table, request.start, request.count) == (HOLDING, 5, 1) else 2

    async with device(answer, is_rtu=True) as bus:
        bus.delay_s = late_once(0.3)
        line = ModbusLink(link_to(bus.port, timeout_s=0.2))
        await line.open()
        seen = []
        for _ in range(8):
            with contextlib.suppress(LinkError):
                seen.append(int((await line.read(HOLDING, unit=1, start=5, count=1))[0]))
        line.close()
    assert seen == [77] * 7


async def test_a_late_answer_costs_no_neighbour_anything() -> None:
    """While one unit of a bus owes an answer, the others are read without a pause."""

    def answer(request: Request) -> Answer:
        return SILENT if request.unit == 2 else true_answer(request)

    async with device(answer, is_rtu=True) as bus:
        config = LinkConfig(
            name="line", kind="tcp", host="127.0.0.1", port=bus.port, framing="rtu", timeout_s=0.05, settle_s=60
        )
        line = ModbusLink(config)
        await line.open()
        with pytest.raises(LinkError):
            await line.read(HOLDING, unit=2, start=0, count=1)
        for start in range(20):
            await line.read(HOLDING, unit=1, start=start, count=1)
        line.close()
    assert len(bus.requests) == 21


@settings(max_examples=300, deadline=None)
@given(
    fates=st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, -1]), min_size=1, max_size=40),
    reads=st.lists(
        st.tuples(st.sampled_from([HOLDING, INPUT]), st.integers(0, 3), st.integers(1, 3)), min_size=5, max_size=40
    ),
    refused=st.sets(st.tuples(st.sampled_from([HOLDING, INPUT]), st.integers(1, 3)), max_size=3),
)
def test_no_order_of_late_answers_can_fool_us(
    fates: list[int], reads: list[tuple[Table, int, int]], refused: set[tuple[Table, int]]
) -> None:
    """Whatever is late, lost or refused, as long as a unit answers in order, a value belongs to its question."""
    ghosts = Ghosts(settle_s=0.0)
    pending: list[tuple[bytes, int, tuple[Table, int, int], bool]] = []
    now_s, asked = 0.0, 0

    def ask(table: Table, start: int, count: int) -> tuple[tuple[Table, int, int], bool] | None:
        """One question: the answer that arrives within its time and looks right, as (what it belongs to, refused)."""
        nonlocal now_s, asked
        question = read_question(table, unit=1, start=start, count=count)
        fate = fates[asked % len(fates)]
        asked += 1
        now_s += 1.0
        if fate >= 0:
            pending.append((question.shape, asked + fate, (table, start, count), (table, count) in refused))
        while pending and pending[0][1] <= asked:
            shape, _, origin, is_refusal = pending.pop(0)
            fits = shape[0] == question.function if is_refusal else shape == question.shape
            if fits:
                ghosts.answered(question, now_s, is_refusal=is_refusal)
                return origin, is_refusal
        ghosts.lost(question, now_s)
        return None

    for table, start, count in reads:
        wanted = read_question(table, unit=1, start=start, count=count)
        if not ghosts.is_clear(wanted, now_s):
            for control in ghosts.controls(table, unit=1, start=start, count=count):
                asked_table = {3: HOLDING, 4: INPUT}[control.function]
                ask(asked_table, start, control.head[1] // 2)
                if ghosts.is_clear(wanted, now_s):
                    break
        if not ghosts.is_clear(wanted, now_s) or now_s > LIFE_S - 5:
            continue
        got = ask(table, start, count)
        if got is not None and not got[1]:
            assert got[0] == (table, start, count)


def test_what_is_long_gone_is_forgotten() -> None:
    """A device that was switched off for long is read again without any ceremony."""
    ghosts = Ghosts(settle_s=2.0)
    question = read_question(HOLDING, unit=9, start=1, count=1)
    ghosts.lost(question, 100.0)
    assert ghosts.quiet_until_s(9) == 102.0
    assert not ghosts.is_clear(question, 100.0 + LIFE_S)
    assert ghosts.is_clear(question, 101.0 + LIFE_S)
    assert np.isneginf(ghosts.quiet_until_s(9))
