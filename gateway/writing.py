"""One value into one device, and what the device holds then."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from gateway.addresses import Table
from gateway.config import ModbusDevice
from gateway.devicemodel import ModelSignal
from gateway.modbus import ModbusLink, RefusedError
from gateway.registers import decode, encode
from watchroom.errors import LinkError


async def put_value(line: ModbusLink, device: ModbusDevice, signal: ModelSignal, value: float) -> float:
    """Write a value once and read it back.

    A bit inside a register is written together with the bits beside it as they are now.

    Returns:
        What reads back, in the signal's unit; the value itself where the device does not let it be read.

    Raises:
        LinkError: If no answer came to the write and it does not read back as written either.
        RefusedError: If the device refuses the write.
    """
    assert signal.table in {Table.COIL, Table.HOLDING}
    encoding, is_coil = signal.encoding, signal.table is Table.COIL
    words = [1 if value else 0] if is_coil else list(encode(value, encoding))
    if encoding.is_narrow and not is_coil:
        (now,) = await line.read(signal.table, unit=device.unit, start=signal.offset, count=1)
        mask = ((1 << encoding.bits) - 1) << encoding.bit
        words = [(int(now) & ~mask & 0xFFFF) | words[0]]
    lost: LinkError | None = None
    try:
        await line.write(
            signal.table, words, unit=device.unit, start=signal.offset, is_multiple=device.model.write_multiple
        )
    except LinkError as exc:
        # never sent twice: reading tells whether it has arrived
        lost = exc
        if not line.is_open:
            with suppress(LinkError):
                await line.open()
    try:
        back = await line.read(signal.table, unit=device.unit, start=signal.offset, count=len(words))
    except RefusedError:
        if lost is not None:
            raise lost from None
        return value
    except LinkError:
        if lost is None:
            return value
        raise lost from None
    if lost is not None and back.tolist() != words:
        raise lost
    return float(back[0]) if is_coil else decode(np.asarray(back), encoding)
