"""The benchmark's devices lie only where they are told to."""

from __future__ import annotations

import asyncio
import json
import sys

from benchmarks.modbus_farm import truth
from gateway.addresses import Table
from gateway.config import LinkConfig
from gateway.modbus import ModbusLink


async def test_good_devices_of_the_farm_tell_the_truth() -> None:
    """Modbus TCP and RTU: every register holds its own number, so that a wrong value can be proved."""
    plan = json.dumps([{}, {"is_rtu": True, "modes": {"2": "dead"}}])
    farm = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.modbus_farm", plan,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert farm.stdout is not None
    ports = json.loads(await farm.stdout.readline())
    try:
        for number, port in enumerate(ports):
            framing = "rtu" if number else "tcp"
            line = ModbusLink(
                LinkConfig(name="l", kind="tcp", host="127.0.0.1", port=port, framing=framing, timeout_s=10.0)  # type: ignore[arg-type]
            )
            await line.open()
            words = await line.read(Table.HOLDING, unit=1, start=40, count=20)
            assert words.tolist() == [truth(number, 1, 3, 40 + i) for i in range(20)]
            line.close()
    finally:
        farm.kill()
        await farm.wait()
