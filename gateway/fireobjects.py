"""Application data of GB/T 26875.3-2011: types, objects, texts, and what the centre may ask and order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from gateway.fireframe import encode_time
from watchroom.errors import ContractError

TEXT_BYTES = 31
CLOCK_SYNC = 90
DUTY_CHECK = 91
READ_OFFSET = 60
"""A request for type n of the fire system is n + 60: 61 system state, 62 part state ... 81 transmitter state."""

ANALOGS: Mapping[int, tuple[str, str, float]] = {
    1: ("count", "", 1.0),
    2: ("height", "m", 0.01),
    3: ("temperature", "°C", 0.1),
    4: ("pressure", "MPa", 0.1),
    5: ("pressure", "kPa", 0.1),
    6: ("gas", "%LEL", 0.1),
    7: ("time", "s", 1.0),
    8: ("voltage", "V", 0.1),
    9: ("current", "A", 0.1),
    10: ("flow", "L/s", 0.1),
    11: ("air_volume", "m³/min", 0.1),
    12: ("wind_speed", "m/s", 1.0),
}
"""Type of an analog value -> what it measures, unit, unit of the last digit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemState:
    """Type 1: the state of a whole fire system; bits as in ``firewords.SYSTEM_BITS``."""

    system: int
    address: int
    state: int
    stamp: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PartState:
    """Type 2: the state of one detector, module, valve ...; bits as in ``firewords.PART_BITS``."""

    system: int
    address: int
    part_type: int
    part: int
    state: int
    text: str
    stamp: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAnalog:
    """Type 3: a measured value of one part, in the unit of ``ANALOGS``; NaN-free, -3276.8 to 3276.7."""

    system: int
    address: int
    part_type: int
    part: int
    analog: int
    value: float
    stamp: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Types 4 and 24: somebody pressed something at the panel, or at the transmitter (``is_transmitter``)."""

    system: int
    address: int
    flags: int
    operator: int
    is_transmitter: bool
    stamp: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmitterState:
    """Type 21: the transmitter itself; bits as in ``firewords.TRANSMITTER_BITS``."""

    state: int
    stamp: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Types 5 and 25: software version of a system, or of the transmitter."""

    system: int
    address: int
    main: int
    minor: int
    is_transmitter: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Types 6, 7 and 26: a description in words of a system, a part (then ``part_type``), or the transmitter."""

    system: int
    address: int
    text: str
    part_type: int | None = None
    part: int = 0
    is_transmitter: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Types 8 and 28: the clock of a system, or of the transmitter."""

    system: int
    address: int
    is_transmitter: bool
    stamp: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Types 89 to 91 as they come down: initialise, set the clock, duty check with its limit in minutes."""

    type: int
    stamp: bytes = b""
    limit_min: int = 0


FireObject = (
    SystemState | PartState | PartAnalog | Operation | TransmitterState | Version | Configuration | Clock | Order
)


def decode_objects(data: bytes) -> tuple[FireObject, ...]:
    """Return the objects of a frame's application data; none for a bare type such as a greeting.

    Raises:
        ContractError: ``type`` if nobody knows the type, ``objects`` if the bytes do not add up.
    """
    if len(data) < 2:
        return ()
    kind, count, at = data[0], data[1], 2
    read = _READERS.get(kind)
    if read is None:
        raise ContractError("type", f"type {kind} with {len(data)} bytes")
    found: list[FireObject] = []
    for _ in range(count):
        try:
            item, at = read(data, at)
        except (IndexError, ValueError) as exc:
            raise ContractError("objects", f"type {kind}: {count} objects in {len(data)} bytes: {exc}") from exc
        found.append(item)
    if at != len(data):
        raise ContractError("objects", f"type {kind}: {len(data) - at} bytes beyond {count} objects")
    return tuple(found)


def encode_clock(time_ms: int, zone: ZoneInfo) -> bytes:
    """Return the order to set the transmitter's clock."""
    return bytes((CLOCK_SYNC, 1)) + encode_time(time_ms, zone)


def encode_duty_check(limit_min: int) -> bytes:
    """Return the order to ask whether somebody is on duty, to be answered within so many minutes, 1 to 255."""
    return bytes((DUTY_CHECK, 1, limit_min))


def encode_duty_answer(stamp: bytes, *, operator: int = 0) -> bytes:
    """Return what a transmitter sends when the duty button was pressed: operation (type 24), bit 5."""
    return bytes((24, 1, 1 << 5, operator)) + stamp


def encode_read(kind: int) -> bytes:
    """Return the request for something of the transmitter itself (types 21 to 28), one answer object."""
    return bytes((kind + READ_OFFSET, 1, 0))


def part_text(part: int) -> str:
    """Return a part's address as people write it: ``loop-number`` (high and low half of four bytes)."""
    return f"{part >> 16}-{part & 0xFFFF}"


def parse_part(text: str) -> int:
    """Return the number of a part written ``loop-number``.

    Raises:
        ValueError: With a sentence for people.
    """
    loop, dash, number = text.strip().partition("-")
    if not dash or not loop.isdecimal() or not number.isdecimal():
        raise ValueError(f"{text!r} is not a part such as 1-12 (loop and number)")
    if int(loop) > 0xFFFF or int(number) > 0xFFFF:
        raise ValueError(f"{text!r}: loop and number go up to 65535")
    return int(loop) << 16 | int(number)


def decode_text(raw: bytes) -> str:
    """Return a GB18030 text without its padding; bytes that are none become a replacement mark."""
    return raw.partition(b"\0")[0].decode("gb18030", errors="replace").strip()


def _take(data: bytes, at: int, size: int) -> bytes:
    part = data[at : at + size]
    if len(part) != size:
        raise IndexError(f"{size - len(part)} bytes missing")
    return part


def _word(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _system_state(data: bytes, at: int) -> tuple[FireObject, int]:
    raw = _take(data, at, 10)
    return SystemState(system=raw[0], address=raw[1], state=_word(raw[2:4]), stamp=raw[4:]), at + 10


def _part_state(data: bytes, at: int) -> tuple[FireObject, int]:
    raw = _take(data, at, 46)
    item = PartState(
        system=raw[0],
        address=raw[1],
        part_type=raw[2],
        part=_word(raw[3:7]),
        state=_word(raw[7:9]),
        text=decode_text(raw[9:40]),
        stamp=raw[40:],
    )
    return item, at + 46


def _part_analog(data: bytes, at: int) -> tuple[FireObject, int]:
    raw = _take(data, at, 16)
    digit = ANALOGS.get(raw[7], ("", "", 1.0))[2]
    value = int.from_bytes(raw[8:10], "little", signed=True)
    item = PartAnalog(
        system=raw[0],
        address=raw[1],
        part_type=raw[2],
        part=_word(raw[3:7]),
        analog=raw[7],
        value=round(value * digit, 2),
        stamp=raw[10:],
    )
    return item, at + 16


def _operation(data: bytes, at: int) -> tuple[FireObject, int]:
    raw = _take(data, at, 10)
    item = Operation(system=raw[0], address=raw[1], flags=raw[2], operator=raw[3], is_transmitter=False, stamp=raw[4:])
    return item, at + 10


def _transmitter_state(data: bytes, at: int) -> tuple[FireObject, int]:
    raw = _take(data, at, 7)
    return TransmitterState(state=raw[0], stamp=raw[1:]), at + 7


def _transmitter_operation(data: bytes, at: int) -> tuple[FireObject, int]:
    raw = _take(data, at, 8)
    item = Operation(system=0, address=0, flags=raw[0], operator=raw[1], is_transmitter=True, stamp=raw[2:])
    return item, at + 8


def _version(data: bytes, at: int) -> tuple[FireObject, int]:
    raw = _take(data, at, 4)
    return Version(system=raw[0], address=raw[1], main=raw[2], minor=raw[3], is_transmitter=False), at + 4


def _transmitter_version(data: bytes, at: int) -> tuple[FireObject, int]:
    raw = _take(data, at, 2)
    return Version(system=0, address=0, main=raw[0], minor=raw[1], is_transmitter=True), at + 2


def _system_configuration(data: bytes, at: int) -> tuple[FireObject, int]:
    head = _take(data, at, 3)
    text = decode_text(_take(data, at + 3, head[2]))
    return Configuration(system=head[0], address=head[1], text=text), at + 3 + head[2]


def _part_configuration(data: bytes, at: int) -> tuple[FireObject, int]:
    raw = _take(data, at, 38)
    item = Configuration(
        system=raw[0], address=raw[1], part_type=raw[2], part=_word(raw[3:7]), text=decode_text(raw[7:])
    )
    return item, at + 38


def _transmitter_configuration(data: bytes, at: int) -> tuple[FireObject, int]:
    size = _take(data, at, 1)[0]
    text = decode_text(_take(data, at + 1, size))
    return Configuration(system=0, address=0, text=text, is_transmitter=True), at + 1 + size


def _clock(data: bytes, at: int) -> tuple[FireObject, int]:
    raw = _take(data, at, 8)
    return Clock(system=raw[0], address=raw[1], is_transmitter=False, stamp=raw[2:]), at + 8


def _transmitter_clock(data: bytes, at: int) -> tuple[FireObject, int]:
    return Clock(system=0, address=0, is_transmitter=True, stamp=_take(data, at, 6)), at + 6


def _initialise(data: bytes, at: int) -> tuple[FireObject, int]:
    _take(data, at, 1)
    return Order(type=89), at + 1


def _clock_sync(data: bytes, at: int) -> tuple[FireObject, int]:
    return Order(type=CLOCK_SYNC, stamp=_take(data, at, 6)), at + 6


def _duty_check(data: bytes, at: int) -> tuple[FireObject, int]:
    return Order(type=DUTY_CHECK, limit_min=_take(data, at, 1)[0]), at + 1


_READERS: Mapping[int, Callable[[bytes, int], tuple[FireObject, int]]] = {
    1: _system_state,
    2: _part_state,
    3: _part_analog,
    4: _operation,
    5: _version,
    6: _system_configuration,
    7: _part_configuration,
    8: _clock,
    21: _transmitter_state,
    24: _transmitter_operation,
    25: _transmitter_version,
    26: _transmitter_configuration,
    28: _transmitter_clock,
    89: _initialise,
    CLOCK_SYNC: _clock_sync,
    DUTY_CHECK: _duty_check,
}
