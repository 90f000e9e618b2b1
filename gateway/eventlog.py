"""What a device tells in records and texts: which of its log's records are new, and what they say. Pure."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.addresses import Table
from gateway.registers import Words

_CODES = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "u64": "Q", "i64": "q"}
_COUNTER = 65_536
Place = tuple[Table, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogField:
    """One field of a record.

    Attributes:
        type: ``u8`` ... ``f32``, ``dt48``, or ``str6`` for six bytes of text.
        texts: Number -> word.
        is_personal: It leaves the gateway only as a keyed hash.

    Raises:
        ValueError: If there is no such type.
    """

    name: str
    type: str
    texts: Mapping[int, str] = field(default_factory=dict, hash=False)
    is_personal: bool = False

    def __post_init__(self) -> None:
        if self.type not in _CODES and self.type != "dt48" and not self.type.removeprefix("str").isdigit():
            raise ValueError(
                f"field {self.name!r}: there is no type {self.type!r}; known: {', '.join(_CODES)}, dt48, str6"
            )

    @property
    def octets(self) -> int:
        """Bytes it takes."""
        if self.type in _CODES:
            return struct.calcsize(_CODES[self.type])
        return 6 if self.type == "dt48" else int(self.type[3:])


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """A device's event log.

    Without ``ack`` the counter counts all records ever written, modulo 65536, and record k stands at place
    k modulo depth of a ring. With ``ack`` the counter says how many wait, the oldest first, and writing their
    number to ``ack`` removes them.

    Attributes:
        table: Where the records are.
        offset: First register of the first place.
        counter: Table and offset of the counter.
        ack: Table and offset of the register that removes records.
        registers: Length of a record.
        depth: Places for records.

    Raises:
        ValueError: If the fields do not fit the record, or the log cannot be read as described.
    """

    name: str
    table: Table
    offset: int
    group: str
    counter: Place
    ack: Place | None
    registers: int
    depth: int
    zone: str
    fields: tuple[LogField, ...]

    def __post_init__(self) -> None:
        octets = sum(item.octets for item in self.fields)
        if octets > 2 * self.registers:
            raise ValueError(f"the fields take {octets} bytes, the record has {2 * self.registers}")
        if self.table.is_bits or self.counter[0].is_bits or (self.ack and self.ack[0] is not Table.HOLDING):
            raise ValueError("a log stands in registers; ack: is a holding register")
        if self.offset + self.registers * self.depth > _COUNTER:
            raise ValueError("the log ends after the last register")
        ZoneInfo(self.zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSource:
    """A text in registers, such as a serial number: an event whenever it changes."""

    name: str
    table: Table
    offset: int
    registers: int
    is_swapped: bool
    group: str

    def decode(self, words: Words) -> str:
        """Return the text without its padding; bytes that are no text become U+FFFD."""
        octets = words.astype("<u2" if self.is_swapped else ">u2").tobytes()
        return octets.split(b"\0", 1)[0].decode("utf-8", errors="replace").strip()


class NewRecords(NamedTuple):
    """Which records to read.

    Attributes:
        numbers: Number of each record, the oldest first; the place in the ring is number modulo depth.
        position: What to remember once they are durable.
        lost: Records that the device has overwritten before we came.
    """

    numbers: list[int]
    position: int
    lost: int


def new_records(log: LogSource, count: int, position: int | None) -> NewRecords:
    """Return what is new.

    Args:
        log: The log.
        count: What its counter says.
        position: As remembered; None at the very first time.
    """
    if log.ack is not None:
        return NewRecords(list(range(min(count, log.depth))), 0, 0)
    if position is None:
        fresh = min(count, log.depth)
    else:
        fresh = (count - position) % _COUNTER
        if count < position and fresh > 2 * log.depth:
            fresh = count  # the device was reset and counts from 0 again
    kept = min(fresh, log.depth)
    return NewRecords([(count - kept + i) % _COUNTER for i in range(kept)], count, fresh - kept)


def reads(log: LogSource, numbers: list[int], max_regs: int) -> Iterator[tuple[int, list[int]]]:
    """Yield (first register, numbers) of the reads that fetch records; no read is longer than ``max_regs``."""
    most = max(1, max_regs // log.registers)
    run: list[int] = []
    for number in numbers:
        if run and (number % log.depth != run[-1] % log.depth + 1 or len(run) == most):
            yield log.offset + run[0] % log.depth * log.registers, run
            run = []
        run.append(number)
    if run:
        yield log.offset + run[0] % log.depth * log.registers, run


def record_id(log: LogSource, words: Words, number: int) -> str:
    """Return an id that is the same whenever the same record is read again."""
    digest = zlib.crc32(words.astype(">u2").tobytes())
    return f"{log.name}:{digest:08x}" + ("" if log.ack else f":{number}")


def decode_record(log: LogSource, words: Words) -> tuple[dict[str, int | float | str], int | None]:
    """Return the fields of a record, and its time in UTC ms (None if it has none, or an impossible one)."""
    octets = words.astype(">u2").tobytes()
    values: dict[str, int | float | str] = {}
    time_ms: int | None = None
    at = 0
    for item in log.fields:
        raw = octets[at : at + item.octets]
        at += item.octets
        if item.type == "dt48":
            time_ms = _time_ms(raw, log.zone)
        elif item.type in _CODES:
            (number,) = struct.unpack(f">{_CODES[item.type]}", raw)
            values[item.name] = item.texts.get(number, number)
        else:
            values[item.name] = raw.split(b"\0", 1)[0].decode("utf-8", errors="replace").strip()
    return values, time_ms


def _time_ms(raw: bytes, zone: str) -> int | None:
    year, month, day, hour, minute, second = raw
    try:
        local = datetime(2000 + year, month, day, hour, minute, second, tzinfo=ZoneInfo(zone))
    except ValueError:
        return None
    return round(local.timestamp() * 1000)
