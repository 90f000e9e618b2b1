"""Register addresses as people write them: ``holding:10``, ``input:3.4``, ``holding:102.0-3``, ``40011``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_ADDRESS = re.compile(r"\s*([a-z]+)\s*:\s*(0x[0-9a-fA-F]+|\d+)(?:\.(\d+)(?:-(\d+))?)?\s*")
_MODICON = re.compile(r"([0134])(\d{4,5})(?:\.(\d+)(?:-(\d+))?)?")
_RANGE = re.compile(r"\s*([a-z]+)\s*:\s*(0x[0-9a-fA-F]+|\d+)(?:\s*-\s*(0x[0-9a-fA-F]+|\d+))?\s*")
LAST = 65535


class Table(StrEnum):
    """The four tables of a Modbus device."""

    COIL = "coil"
    DISCRETE = "discrete"
    INPUT = "input"
    HOLDING = "holding"

    @property
    def function(self) -> int:
        """Function code that reads this table."""
        return {"coil": 1, "discrete": 2, "holding": 3, "input": 4}[self.value]

    @property
    def is_bits(self) -> bool:
        """Whether the table holds single bits instead of registers."""
        return self in {Table.COIL, Table.DISCRETE}


_MODICON_TABLES = {"0": Table.COIL, "1": Table.DISCRETE, "3": Table.INPUT, "4": Table.HOLDING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A place in a device.

    Attributes:
        table: Which of the four tables.
        offset: As on the wire, from 0.
        bit: Lowest bit, None for whole registers.
        bits: Width when a bit range was written, 0 otherwise.
    """

    table: Table
    offset: int
    bit: int | None = None
    bits: int = 0

    def __str__(self) -> str:
        text = f"{self.table}:{self.offset}"
        if self.bit is None:
            return text
        return f"{text}.{self.bit}" + (f"-{self.bit + self.bits - 1}" if self.bits > 1 else "")


def parse_address(text: str, base: int) -> Address:
    """Return an address.

    Args:
        text: ``table:offset``, with ``.bit`` or ``.low-high`` for bits, or the old style 30001, 40001.
        base: 0 if offsets are as on the wire, 1 if the maker counts from 1. The old style always counts from 1.

    Raises:
        ValueError: With a sentence for people.
    """
    modicon = _MODICON.fullmatch(text.strip())
    match = modicon or _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an address such as holding:10, input:3.4, holding:102.0-3 or 40011")
    if modicon:
        table, offset = _MODICON_TABLES[modicon[1]], int(modicon[2]) - 1
    else:
        table, offset = _table(match[1]), int(match[2], 0) - base
    if not 0 <= offset <= LAST:
        raise ValueError(f"{text!r} is offset {offset} on the wire; offsets go from 0 to {LAST} (base is {base})")
    if match[3] is None:
        return Address(table=table, offset=offset)
    low = int(match[3])
    high = low if match[4] is None else int(match[4])
    if table.is_bits:
        raise ValueError(f"a {table} is one bit already: write {table}:{match[2]}")
    if not low <= high <= 15:
        raise ValueError(f"bits {low}-{high} are not inside one register; bit 0 is the lowest, 15 the highest")
    return Address(table=table, offset=offset, bit=low, bits=high - low + 1 if match[4] is not None else 0)


def parse_range(text: str, base: int) -> tuple[Table, int, int]:
    """Return (table, first, last) of a hole such as ``input:20-39``.

    Raises:
        ValueError: With a sentence for people.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a range such as input:20-39")
    first = int(match[2], 0) - base
    last = first if match[3] is None else int(match[3], 0) - base
    if not 0 <= first <= last <= LAST:
        raise ValueError(f"{text!r} is not a range inside 0 to {LAST} with the lower offset first")
    return _table(match[1]), first, last


def _table(name: str) -> Table:
    try:
        return Table(name)
    except ValueError:
        raise ValueError(f"{name!r} is not a table: holding, input, coil or discrete") from None
