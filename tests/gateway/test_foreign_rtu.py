"""RTU on a serial line with programs that are not ours on the other end."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest

from gateway.addresses import Table
from gateway.config import LinkConfig
from gateway.modbus import ModbusLink, RefusedError
from gateway.registers import Encoding, decode, orders_of
from tests.gateway.devices import ScriptedDevice, counting, null_modem, pty_pair
from tests.gateway.recorder import until
from tests.system.foreign_servers import libmodbus_rtu
from watchroom.errors import LinkError


def line_on(name: str) -> LinkConfig:
    return LinkConfig(name="rs485", kind="serial", host=name, framing="rtu", baud=19200, timeout_s=1.0, settle_s=0.05)


async def test_libmodbus_answers_us_in_all_orders(tmp_path: Path) -> None:
    """A 32 and a 64-bit value in every order, held by libmodbus, are read to the last digit."""
    registers: list[int] = []
    expected: list[tuple[int, Encoding, float]] = []
    for type_, code, value in (
        ("f32", ">f", 231.5),
        ("i32", ">i", -123456),
        ("f64", ">d", 1e9 / 7),
        ("i64", ">q", -(2**50)),
    ):
        octets = struct.pack(code, value)
        for order in orders_of(len(octets) // 2):
            wire = bytes(octets["ABCDEFGH".index(letter)] for letter in order)
            expected.append((len(registers), Encoding(type=type_, order=order), value))
            registers += struct.unpack(f">{len(octets) // 2}H", wire)
    async with null_modem() as (ours, theirs):
        with libmodbus_rtu(registers, tmp_path, theirs):
            line = ModbusLink(line_on(ours))
            await line.open()
            words = None
            for _ in range(20):  # until libmodbus has opened its end
                try:
                    words = await line.read(Table.HOLDING, unit=1, start=0, count=len(registers))
                    break
                except LinkError:
                    continue
            with pytest.raises(RefusedError) as refused:
                await line.read(Table.HOLDING, unit=1, start=1000, count=2)
            line.close()
    assert words is not None
    assert words.tolist() == registers
    assert refused.value.code == 2
    for at, encoding, value in expected:
        assert decode(words, encoding, at) == value, f"{encoding.type} {encoding.order}"


async def test_mbpoll_reads_our_line() -> None:
    """The program mbpoll finds the test's own serial device as we do: the far end is not made to please us."""
    scripted = ScriptedDevice(counting)
    with pty_pair() as (far, name):
        serving = asyncio.create_task(scripted.serve_line(far))
        arguments = [
            "-m",
            "rtu",
            "-b",
            "19200",
            "-P",
            "none",
            "-a",
            "7",
            "-0",
            "-r",
            "40",
            "-c",
            "5",
            "-t",
            "4",
            "-1",
            name,
        ]
        tool = await asyncio.create_subprocess_exec("mbpoll", *arguments, stdout=asyncio.subprocess.PIPE)
        text = (await tool.communicate())[0].decode()
        assert [int(row.split("]:")[1].split()[0]) for row in text.splitlines() if row.startswith("[")] == [
            40,
            41,
            42,
            43,
            44,
        ]
        line = ModbusLink(line_on(name))
        await line.open()
        assert (await line.read(Table.HOLDING, unit=7, start=40, count=5)).tolist() == [40, 41, 42, 43, 44]
        line.close()
        serving.cancel()
        await asyncio.wait([serving])


async def test_an_adapter_that_is_pulled_out_and_put_in_again(tmp_path: Path) -> None:
    """The link is closed at once, says why it does not open, and works again when the device file is back."""
    place = tmp_path / "by-id"
    scripted = ScriptedDevice(counting)
    line = ModbusLink(line_on(str(place)))
    with pytest.raises(LinkError, match="No such file"):
        await line.open()
    with pty_pair() as (far, name):
        place.symlink_to(name)
        serving = asyncio.create_task(scripted.serve_line(far))
        await line.open()
        await line.read(Table.HOLDING, unit=1, start=1, count=1)
        serving.cancel()
        await asyncio.wait([serving])
    await until(lambda: not line.is_open, "the end of the line noticed")
    place.unlink()
    with pty_pair() as (far, name):
        place.symlink_to(name)
        serving = asyncio.create_task(scripted.serve_line(far))
        await line.open()
        assert (await line.read(Table.HOLDING, unit=1, start=3, count=1)).tolist() == [3]
        line.close()
        serving.cancel()
        await asyncio.wait([serving])
