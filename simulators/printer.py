"""A fire panel's printer line: GBK text in columns, with a printer's control sequences. It never hears an answer."""

from __future__ import annotations

import asyncio
import os
import random
import tty
from collections.abc import Callable
from typing import Literal

Mode = Literal["healthy", "failing", "lying"]
RESET, CUT = b"\x1b@\x1c&", b"\x1dV1"


class Printer:
    """Prints what happens at a panel, to a pseudo terminal or to whoever connects.

    Args:
        mode: ``failing`` sends in pieces with control sequences between them; ``lying`` prints noise between lines.
        seed: Of everything left to chance.
    """

    def __init__(self, *, mode: Mode = "healthy", seed: int = 1) -> None:
        self.mode, self._random = mode, random.Random(seed)
        self._writers: list[Callable[[bytes], object]] = []
        self._handles: list[int] = []

    def open_terminal(self) -> str:
        """Return the name of a serial device the gateway can open."""
        master, slave = os.openpty()
        tty.setraw(slave)
        self._handles += [master, slave]
        self._writers.append(lambda data: os.write(master, data))
        return os.ttyname(slave)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Print to a connection until it ends; what is said there is not heard."""
        self._writers.append(writer.write)
        try:
            while await reader.read(100):
                pass
        finally:
            self._writers.remove(writer.write)
            writer.close()

    def close(self) -> None:
        """Take the terminal away."""
        for handle in self._handles:
            os.close(handle)
        self._handles.clear()
        self._writers.clear()

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return bool(self._writers)

    def happen(self, words: str, *, loop: int, number: int, place: str = "") -> None:
        """Print a part's event: twenty columns of words, loop in bytes 21 to 23, number in 25 to 27, then the place."""
        head = words.encode("gb18030")[:20].ljust(20)
        self.line(head + f"{loop:03d} {number:03d} ".encode() + place.encode("gb18030"))

    def say(self, words: str) -> None:
        """Print a line without a part."""
        self.line(words.encode("gb18030"))

    def line(self, line: bytes) -> None:
        """Print a line as it is."""
        if self.mode == "lying":
            noise = bytes(self._random.randrange(0x80, 0x100) for _ in range(self._random.randrange(1, 9)))
            self._put(noise + b"\r\n")
        data = RESET + line + b"\r\n" + CUT
        if self.mode != "failing":
            self._put(data)
            return
        while data:
            cut = self._random.randrange(1, len(data) + 1)
            self._put(data[:cut])
            data = data[cut:]

    def _put(self, data: bytes) -> None:
        for write in self._writers:
            write(data)
