"""Modbus TCP servers of the simulated devices: several unit ids behind one port, as behind a converter.

The only module of the simulators that knows pymodbus.
"""

from __future__ import annotations

import asyncio
from functools import partial

from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.addresses import Table
from simulators.devices import Endpoint, RegisterImage
from watchroom.errors import LinkError

_TABLES = {1: Table.COIL, 2: Table.DISCRETE, 3: Table.HOLDING, 4: Table.INPUT}
_BLOCKS = (Table.COIL, Table.DISCRETE, Table.HOLDING, Table.INPUT)
UNUSED = 65_535
UNIT_BYTE = 6


class FieldServer:
    """One listening port.

    Args:
        endpoint: Address and devices.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.is_cut = False
        self._server: ModbusTcpServer | None = None

    @property
    def port(self) -> int:
        """The port it listens on, also when 0 was asked for."""
        assert self._server is not None
        listener = self._server.transport
        assert isinstance(listener, asyncio.Server)
        number: int = listener.sockets[0].getsockname()[1]
        return number

    async def start(self) -> None:
        """Listen.

        Raises:
            LinkError: If the port is taken.
        """
        devices = [_device(unit, image) for unit, image in self.endpoint.units.items()]
        self._server = ModbusTcpServer(
            devices,
            framer=FramerType.RTU if self.endpoint.framing == "rtu" else FramerType.SOCKET,
            address=(self.endpoint.host, self.endpoint.port),
            ignore_missing_devices=True,
            trace_packet=self._packet,
        )
        try:
            await self._server.serve_forever(background=True)
        except RuntimeError as exc:
            raise LinkError(f"cannot listen on {self.endpoint.host}:{self.endpoint.port}") from exc

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]
            self._server = None
            await asyncio.sleep(0)

    def _packet(self, is_sending: bool, data: bytes) -> bytes:
        """A device that is cut off, and a unit that is not there, say nothing: the client runs into its timeout."""
        at = 0 if self.endpoint.framing == "rtu" else UNIT_BYTE
        is_nobody = not is_sending and len(data) > at and data[at] not in self.endpoint.units
        return b"" if self.is_cut or is_nobody else data


def _device(unit: int, image: RegisterImage) -> SimDevice:
    coils, discretes, holdings, inputs = (_block(table, image) for table in _BLOCKS)
    return SimDevice(id=unit, simdata=(coils, discretes, holdings, inputs), action=partial(_answer, image))


def _block(table: Table, image: RegisterImage) -> list[SimData]:
    if table not in image.spans:
        # every table needs an entry; this one answers "illegal address"
        return (
            [SimData(UNUSED - 15, values=[False] * 16, datatype=DataType.BITS)] if table.is_bits else [SimData(UNUSED)]
        )
    if table.is_bits:
        first, last = image.spans[table]
        start = first - first % 16
        length = (last + 16 - start) // 16 * 16
        return [SimData(start, values=[False] * length, datatype=DataType.BITS, readonly=True)]
    return [
        SimData(first, count=last - first + 1, values=0, datatype=DataType.REGISTERS, readonly=True)
        for first, last in image.runs(table)
    ]


async def _answer(
    image: RegisterImage,
    function_code: int,
    start_address: int,
    address: int,
    count: int,
    current: list[int],
    set_values: list[int] | list[bool] | None,
) -> ExcCodes | None:
    """Put the present values where pymodbus reads them from."""
    table = _TABLES.get(function_code)
    if set_values or table not in image.spans:
        return ExcCodes.ILLEGAL_ADDRESS
    if table.is_bits:
        first, last = image.spans[table]
        bits = image.read(table, first, last - first + 1)
        for place, bit in enumerate(bits, first):
            word, mask = place // 16 - start_address, 1 << place % 16
            current[word] = current[word] | mask if bit else current[word] & ~mask
    else:
        offset = address - start_address
        current[offset : offset + count] = image.read(table, address, count)
    return None
