"""The simulated devices answer real Modbus clients that are not ours."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from gateway.registers import decode
from simulators.compound import Compound
from simulators.devices import Endpoint, load_fleet
from simulators.modbus_server import FieldServer
from simulators.replay import replays_of
from tests.simulators.places import free_addresses, free_port, spruce_court
from watchroom.errors import LinkError

SITE = spruce_court()
needs_mbpoll = pytest.mark.skipif(shutil.which("mbpoll") is None, reason="needs the mbpoll program")


def endpoints(compound: Compound) -> dict[str, Endpoint]:
    """Return the site's endpoints on free ports, by the first unit's device name."""
    for replay in replays_of(SITE):
        compound.values.update(replay.values(0.0))
    fleet = load_fleet(SITE, compound.values, free_addresses(SITE))
    return {next(iter(endpoint.units.values())).device.name: endpoint for endpoint in fleet.endpoints}


@pytest.fixture
def compound() -> Compound:
    return Compound(SITE, seed=1, time_of_day_s=43_200.0)


@asynccontextmanager
async def serving(endpoint: Endpoint) -> AsyncIterator[FieldServer]:
    server = FieldServer(endpoint)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def client(port: int, timeout_s: float = 2.0) -> AsyncIterator[AsyncModbusTcpClient]:
    one = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=timeout_s, retries=0)
    assert await one.connect()
    try:
        yield one
    finally:
        one.close()


async def mbpoll(port: int, *options: str) -> dict[int, str]:
    """Return address -> value as the program mbpoll prints them."""
    process = await asyncio.create_subprocess_exec(
        "mbpoll", "-1", "-0", "-p", str(port), *options, "127.0.0.1", stdout=asyncio.subprocess.PIPE, stderr=-2
    )
    output, _ = await process.communicate()
    return {int(address): value for address, value in re.findall(r"\[(\d+)\]:\s+(\S+)", output.decode())}


async def test_converter_answers_for_each_unit(compound: Compound) -> None:
    """Behind one port four lifts answer, each with its own registers."""
    async with serving(endpoints(compound)["lift-1-1"]) as server, client(server.port) as modbus:
        for _ in range(3):
            for unit, lift in enumerate(("EL-1-1", "EL-1-2", "EL-2-1", "EL-2-2"), 1):
                answer = await modbus.read_input_registers(0, count=10, device_id=unit)
                floor = answer.registers[3] - 65_536 * (answer.registers[3] > 32_767)
                assert floor == compound.values[f"{lift}/floor"]
                assert (answer.registers[8] << 16) + answer.registers[9] == compound.values[f"{lift}/runs"]
            compound.step(20.0)


async def test_values_are_those_of_the_moment(compound: Compound) -> None:
    """A register changes with the physics, at the next read."""
    async with serving(endpoints(compound)["booster"]) as server, client(server.port) as modbus:
        before = (await modbus.read_holding_registers(2, count=1, device_id=1)).registers[0]
        assert before == round(1000 * compound.values["WP-01/outlet_pressure"])
        compound.supplies["WP-01"].leak_m3h = 150.0
        compound.step(10.0)
        after = (await modbus.read_holding_registers(2, count=1, device_id=1)).registers[0]
        assert after == round(1000 * compound.values["WP-01/outlet_pressure"]) < before - 100


async def test_discrete_inputs(compound: Compound) -> None:
    """The float of a sump is a discrete input."""
    compound.sumps["SP-02"].level_m = 1.8
    compound.step(0.2)
    async with serving(endpoints(compound)["sump-1"]) as server, client(server.port) as modbus:
        assert (await modbus.read_discrete_inputs(0, count=1, device_id=1)).bits[0] is False
        assert (await modbus.read_discrete_inputs(0, count=1, device_id=2)).bits[0] is True


async def test_nothing_else_can_be_read_or_written(compound: Compound) -> None:
    """Registers that do not exist and every write are answered with exception 2, never with zeros."""
    async with serving(endpoints(compound)["drive-1"]) as server, client(server.port) as modbus:
        assert (await modbus.read_holding_registers(4000, count=2, device_id=1)).exception_code == 2
        assert (await modbus.read_input_registers(3201, count=1, device_id=1)).exception_code == 2
        assert (await modbus.read_coils(0, count=1, device_id=1)).exception_code == 2
        assert (await modbus.write_register(3202, 500, device_id=1)).exception_code == 2
        assert not (await modbus.read_holding_registers(3201, count=4, device_id=1)).isError()


async def test_absent_unit_and_cut_device_say_nothing(compound: Compound) -> None:
    """A unit that is not there, and a device that was cut off, run the client into its timeout; the cut heals."""
    async with serving(endpoints(compound)["booster"]) as server:
        async with client(server.port, 0.2) as modbus:
            with pytest.raises(ModbusException):
                await modbus.read_holding_registers(0, count=1, device_id=77)
        async with client(server.port, 0.2) as modbus:
            assert not (await modbus.read_holding_registers(0, count=1, device_id=1)).isError()
            server.is_cut = True
            with pytest.raises(ModbusException):
                await modbus.read_holding_registers(0, count=1, device_id=1)
            server.is_cut = False
        async with client(server.port) as modbus:
            assert not (await modbus.read_holding_registers(0, count=1, device_id=1)).isError()


async def test_taken_port_is_told(compound: Compound) -> None:
    """A port in use is refused with its number."""
    endpoint = endpoints(compound)["booster"]
    async with serving(endpoint) as server:
        second = FieldServer(Endpoint(gateway="x", host="127.0.0.1", port=server.port, units=endpoint.units))
        with pytest.raises(LinkError, match=f"127.0.0.1:{server.port}"):
            await second.start()
        await second.stop()


@needs_mbpoll
async def test_mbpoll_reads_pressure_and_drive(compound: Compound) -> None:
    """An independent program reads the set point, the outlet pressure and a drive's frequency as we meant them."""
    found = endpoints(compound)
    async with serving(found["booster"]) as server:
        values = await mbpoll(server.port, "-a", "1", "-t", "4", "-r", "1", "-c", "2")
        assert values == {1: "600", 2: str(round(1000 * compound.values["WP-01/outlet_pressure"]))}
    async with serving(found["drive-1"]) as server:
        for unit in (1, 2, 3):
            values = await mbpoll(server.port, "-a", str(unit), "-t", "4", "-r", "3202", "-c", "1")
            assert int(values[3202]) == round(10 * compound.values[f"WP-01/p{unit}_frequency"])


@needs_mbpoll
async def test_mbpoll_reads_the_meter(compound: Compound) -> None:
    """An independent program reads the meter's big-endian floats."""
    async with serving(endpoints(compound)["meter"]) as server:
        values = await mbpoll(server.port, "-B", "-a", "1", "-t", "3:float", "-r", "0", "-c", "6")
    for offset, key in ((0, "voltage_a"), (4, "voltage_c"), (10, "current_c")):
        assert float(values[offset]) == pytest.approx(compound.values[f"PM-01/{key}"], rel=1e-4)


async def test_recording_is_served(compound: Compound) -> None:
    """The first temperature of the recording stands in the machine's registers."""
    async with serving(endpoints(compound)["machine"]) as server, client(server.port) as modbus:
        answer = await modbus.read_holding_registers(0, count=2, device_id=1)
    image = server.endpoint.units[1]
    encoding = image.device.model.signals["temperature"].encoding
    assert decode(list(answer.registers), encoding) == pytest.approx(73.96732207, rel=1e-6)


async def test_port_is_free_after_stop(compound: Compound) -> None:
    """After stopping, another server may listen there at once."""
    port = free_port()
    units = endpoints(compound)["booster"].units
    for _ in range(2):
        async with serving(Endpoint(gateway="x", host="127.0.0.1", port=port, units=units)) as server:
            assert server.port == port
