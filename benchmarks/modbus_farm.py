"""Many Modbus devices in one process, good, slow and lying ones: python -m benchmarks.modbus_farm JSON.

Every register holds a number that no other register of its link holds, so that a reader can prove each value.
Prints the ports as a JSON line, then serves until its standard input ends. Written without the gateway's code.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
import sys
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

CHARACTER_BITS = 11


def truth(link: int, unit: int, function: int, address: int) -> int:
    """Return what a register holds."""
    return zlib.crc32(f"{link} {unit} {function} {address}".encode()) & 0xFFFF


def crc16(data: bytes) -> bytes:
    """Return the checksum of an RTU telegram, bit by bit as the standard draws it."""
    crc = 0xFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


@dataclass
class Link:
    """One port with its units.

    Attributes:
        modes: Unit -> ``dead``, ``late``, ``rubbish`` or ``drop``; others are good.
        late_s: How late a late answer is, in one of ten requests.
        baud: Timing of a serial line behind it; 0 for none.
        dead_until_s: Units in ``cycled`` are dead until then, on the clock of ``time.monotonic``.
    """

    number: int
    is_rtu: bool = False
    baud: int = 0
    modes: dict[int, str] = field(default_factory=dict)
    late_s: float = 0.0
    share: float = 0.1
    cycled: list[int] = field(default_factory=list)
    dead_from_s: float = 0.0
    dead_until_s: float = 0.0
    random: random.Random = field(default_factory=lambda: random.Random(1))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, one request at a time."""
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = b"" if self.is_rtu else (await reader.readexactly(6))[:4]
        unit, function, start, count = struct.unpack(">BBHH", (await reader.readexactly(8 if self.is_rtu else 6))[:6])
        words = [truth(self.number, unit, function, start + i) for i in range(count)]
        pdu = bytes([function, 2 * count]) + struct.pack(f">{count}H", *words)
        mode = self.modes.get(unit, "")
        is_hit = bool(mode) and (mode == "dead" or self.random.random() < self.share)
        if is_hit and mode == "rubbish":
            pdu = self.random.choice([self.random.randbytes(len(pdu)), pdu[:-2], pdu + b"\0\0"])
        if self.baud:
            await asyncio.sleep((8 + len(pdu) + 3) * CHARACTER_BITS / self.baud + 0.005)
        if is_hit and mode == "late":
            await asyncio.sleep(self.late_s * self.random.uniform(0.5, 1.5))
        is_off = unit in self.cycled and self.dead_from_s <= time.monotonic() < self.dead_until_s
        if (is_hit and mode == "dead") or is_off:
            return True
        body = bytes([unit]) + pdu
        writer.write(body + crc16(body) if self.is_rtu else head + struct.pack(">H", len(body)) + body)
        if mode == "drop":
            await writer.drain()
            return not is_hit
        return True


async def main(plan: list[dict[str, Any]]) -> None:
    """Serve the links of a plan."""
    ports = []
    for number, entry in enumerate(plan):
        entry["modes"] = {int(unit): mode for unit, mode in entry.get("modes", {}).items()}
        server = await asyncio.start_server(Link(number=number, **entry).serve, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
