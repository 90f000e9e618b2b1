"""One Modbus connection. The only module that imports pymodbus (besides the simulator's server).

pymodbus asks once and never reconnects by itself here: the poller decides both. On RTU framing a late answer
cannot be told from the next one (pymodbus PR 2636), so after every timeout the connection is closed, and the
line must be silent for ``settle_s`` before the next request.
"""

from __future__ import annotations

import asyncio
import logging

import numpy as np
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from gateway.addresses import Table
from gateway.config import LinkConfig
from gateway.registers import Words
from watchroom.errors import LinkError, WatchroomError

# the poller tells of an outage once; pymodbus would tell at every request
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not answer",
}
NO_TARGET = frozenset({10, 11})
"""Exception codes by which a converter says that the device behind it is silent."""
BAD_ADDRESS = frozenset({2, 3})
"""Exception codes of a request that this device will never answer: an address or a length it does not have."""


class RefusedError(WatchroomError):
    """The device answers with a Modbus exception: it is alive, and this request is wrong or comes too early.

    Args:
        code: Exception code of the answer.
    """

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exception {code}: {EXCEPTIONS.get(code, 'unknown')}")


class ModbusLink:
    """A connection to one TCP endpoint or serial line; one request at a time.

    Args:
        link: Where and how.
    """

    def __init__(self, link: LinkConfig) -> None:
        self._link = link
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None
        self._is_dirty = False
        self._last_done_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._client is not None and self._client.connected

    async def open(self) -> None:
        """Connect.

        Raises:
            LinkError: If nobody answers there within the timeout.
        """
        self.close()
        self._client = self._make_client()
        try:
            is_connected = await self._client.connect()
        except (OSError, ModbusException) as exc:
            self.close()
            raise LinkError(f"{self._link}: {exc}") from exc
        _obey_cancellation()
        if not is_connected:
            self.close()
            raise LinkError(f"{self._link}: no connection")
        if self._is_dirty:
            # a converter may still deliver the answer nobody waits for; it is thrown away while we are silent
            await asyncio.sleep(self._link.settle_s)
            self._is_dirty = False

    def close(self) -> None:
        """Disconnect; does nothing if there is no connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def read(self, table: Table, *, unit: int, start: int, count: int) -> Words:
        """Return registers, or 0 and 1 for coils and discrete inputs, shape (count,).

        Raises:
            LinkError: If no usable answer comes within the timeout.
            RefusedError: If the device answers with an exception.
        """
        client = self._client
        if client is None or not client.connected:
            raise LinkError(f"{self._link}: not connected")
        await self._keep_gap()
        try:
            answer = await _ask(client, table, unit=unit, start=start, count=count)
        except ModbusException as exc:
            self._missed()
            raise LinkError(f"{self._link}: unit {unit} does not answer") from exc
        finally:
            self._last_done_s = asyncio.get_running_loop().time()
        _obey_cancellation()
        if answer.isError():
            raise RefusedError(getattr(answer, "exception_code", 0))
        numbers = answer.bits if table.is_bits else answer.registers
        length = -(-count // 8) * 8 if table.is_bits else count
        if answer.function_code != table.function or len(numbers) != length:
            self._missed()
            raise LinkError(f"{self._link}: unit {unit} answered {len(numbers)} values to a question for {count}")
        return np.array(numbers[:count], dtype=np.uint16)

    def _make_client(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        link = self._link
        if link.kind == "serial":
            return AsyncModbusSerialClient(
                link.host,
                framer=FramerType.RTU,
                baudrate=link.baud,
                parity=link.parity,
                stopbits=link.stop_bits,
                timeout=link.timeout_s,
                retries=0,
                reconnect_delay=0,
            )
        framer = FramerType.RTU if link.framing == "rtu" else FramerType.SOCKET
        return AsyncModbusTcpClient(
            link.host, port=link.port, framer=framer, timeout=link.timeout_s, retries=0, reconnect_delay=0
        )

    def _missed(self) -> None:
        """No usable answer came: on RTU nothing on this connection can be believed any more."""
        if self._link.framing == "rtu":
            self._is_dirty = True
            self.close()

    async def _keep_gap(self) -> None:
        if self._link.gap_s:
            passed_s = asyncio.get_running_loop().time() - self._last_done_s
            if passed_s < self._link.gap_s:
                await asyncio.sleep(self._link.gap_s - passed_s)


def _obey_cancellation() -> None:
    """End the task if it was cancelled meanwhile.

    pymodbus waits with ``asyncio.wait_for``, which in Python 3.11 swallows a cancellation that comes in the same
    turn of the loop as the answer.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _ask(
    client: AsyncModbusTcpClient | AsyncModbusSerialClient, table: Table, *, unit: int, start: int, count: int
) -> ModbusPDU:
    match table:
        case Table.COIL:
            return await client.read_coils(start, count=count, device_id=unit)
        case Table.DISCRETE:
            return await client.read_discrete_inputs(start, count=count, device_id=unit)
        case Table.INPUT:
            return await client.read_input_registers(start, count=count, device_id=unit)
        case Table.HOLDING:
            return await client.read_holding_registers(start, count=count, device_id=unit)
