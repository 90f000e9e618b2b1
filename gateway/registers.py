"""Numbers in Modbus registers: whole blocks to engineering values, and one value back to registers.

Pure numpy, no I/O. The simulators encode with the same rules that the gateway decodes with; the tests hold
both against vectors that were made independently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float64]

_INTEGER = re.compile(r"([ui])(\d{1,2})")
_FLOATS = {"f16": 1, "f32": 2, "f64": 4}
_BCD = {"bcd16": 1, "bcd32": 2}
_ORDERS = {
    1: ("AB", "BA"),
    2: ("ABCD", "CDAB", "BADC", "DCBA"),
    4: ("ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA"),
}
LARGEST_EXACT = 2**53
"""Integers above this do not fit a float; 64-bit counters are reduced before they become one."""


def known_types() -> tuple[str, ...]:
    """Return the type names people may write, for messages."""
    return (
        "bit",
        "u16",
        "i16",
        "u32",
        "i32",
        "u64",
        "i64",
        "f16",
        "f32",
        "f64",
        "bcd16",
        "bcd32",
        "u1..u15",
        "i2..i15",
    )


def width_of(type_: str) -> int:
    """Return how many registers a type takes; a bit or bit range takes (part of) one.

    Raises:
        ValueError: If there is no such type.
    """
    if type_ == "bit":
        return 1
    if type_ in _FLOATS:
        return _FLOATS[type_]
    if type_ in _BCD:
        return _BCD[type_]
    match = _INTEGER.fullmatch(type_)
    bits = int(match[2]) if match else 0
    if match and (1 <= bits <= 16 or bits in {32, 64}) and not (match[1] == "i" and bits == 1):
        return max(1, bits // 16)
    raise ValueError(f"there is no type {type_!r}")


def orders_of(registers: int) -> tuple[str, ...]:
    """Return the byte orders of a value of 1, 2 or 4 registers; A is the most significant byte."""
    return _ORDERS[registers]


def order_for(default: str, registers: int) -> str:
    """Return the order that a model's default (written for 32 bits) means for a value of another width.

    Single registers stay AB: devices that swap the words of a float still send plain 16-bit numbers. A
    register with swapped bytes says ``order: BA`` itself.
    """
    if registers == 1:
        return "AB"
    return _ORDERS[registers][_ORDERS[2].index(default)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How one number stands in registers.

    Attributes:
        type: ``bit``, ``u16``, ``i32``, ``f32``, ``bcd16`` ..., or ``u4`` for a bit range of that width.
        order: Byte order, one of ``orders_of(registers)``; ignored for bits and bit ranges.
        bit: Lowest bit of a bit or bit range, 0 is the least significant.
        scale: Engineering value = raw * scale + offset.
        offset: In the engineering unit.
        wrap: For 64-bit counters: the raw value is taken modulo this before it becomes a float; 0 is off.
    """

    type: str = "u16"
    order: str = ""
    bit: int = 0
    scale: float = 1.0
    offset: float = 0.0
    wrap: int = 0

    def __post_init__(self) -> None:
        registers = width_of(self.type)
        if not self.order:
            object.__setattr__(self, "order", _ORDERS[registers][0])
        if self.order not in _ORDERS[registers]:
            raise ValueError(f"{self.type} has the byte orders {', '.join(_ORDERS[registers])}, not {self.order!r}")
        if self.is_narrow and not 0 <= self.bit <= 16 - self.bits:
            raise ValueError(f"bits {self.bit}-{self.bit + self.bits - 1} are not inside one register (bits 0-15)")
        if not self.scale:
            raise ValueError("scale cannot be 0")

    @property
    def registers(self) -> int:
        """How many registers the value takes."""
        return width_of(self.type)

    @property
    def bits(self) -> int:
        """Width in bits."""
        if self.type == "bit":
            return 1
        match = _INTEGER.fullmatch(self.type)
        return int(match[2]) if match else 16 * self.registers

    @property
    def is_narrow(self) -> bool:
        """Whether it is a bit or bit range, so that several values share one register."""
        return self.bits < 16

    @property
    def is_signed(self) -> bool:
        """Whether negative raw values exist."""
        return self.type[0] in "if"

    @property
    def raw_limits(self) -> tuple[float, float]:
        """Smallest and largest raw value; infinite for floats."""
        if self.type in _FLOATS:
            return (-np.inf, np.inf)
        if self.type in _BCD:
            return (0.0, 10.0 ** (4 * self.registers) - 1)
        if self.is_signed:
            return (-(2.0 ** (self.bits - 1)), 2.0 ** (self.bits - 1) - 1)
        return (0.0, 2.0**self.bits - 1)


def decode_raw(words: Words, at: npt.NDArray[np.intp], encoding: Encoding) -> Floats:
    """Return the raw numbers that stand at several places of a block.

    Args:
        words: Registers of the block, shape (n,); for coils and discrete inputs 0 or 1 each.
        at: Index of each value's first register, shape (k,).
        encoding: How they are all written; scale and offset are not applied.

    Returns:
        Shape (k,). NaN where a BCD register holds no digits.
    """
    if encoding.is_narrow:
        return _narrow(words[at], encoding.bit, encoding.bits, is_signed=encoding.is_signed)
    if encoding.type == "u16" and encoding.order == "AB":
        return words[at].astype(np.float64)
    grid = words[at[:, None] + np.arange(encoding.registers)]
    octets = np.ascontiguousarray(grid.astype(">u2")).view(np.uint8)[:, _permutation(encoding.order)]
    octets = np.ascontiguousarray(octets)
    if encoding.type in _BCD:
        return _bcd(octets)
    numbers = octets.view(_dtype(encoding.type))[:, 0]
    if encoding.wrap:
        numbers = numbers.astype(np.uint64) % np.uint64(encoding.wrap)
    return numbers.astype(np.float64)


def to_engineering(raw: Floats, scale: Floats | float, offset: Floats | float) -> Floats:
    """Return raw * scale + offset; divides where 1/scale is a whole number, so that 402 reads 0.402."""
    inverse = 1.0 / np.asarray(scale, dtype=np.float64)
    whole = np.rint(inverse)
    divides = (np.abs(inverse - whole) < 1e-9 * np.abs(inverse)) & (np.abs(whole) > 1)
    return np.where(divides, raw / np.where(divides, whole, 1.0), raw * scale) + offset


def decode(words: Words | list[int] | tuple[int, ...], encoding: Encoding, at: int = 0) -> float:
    """Return one engineering value; for tools and tests, blocks go through ``decode_raw``."""
    raw = decode_raw(np.asarray(words, dtype=np.uint16), np.array([at], dtype=np.intp), encoding)
    return float(to_engineering(raw, encoding.scale, encoding.offset)[0])


def encode(value: float, encoding: Encoding) -> tuple[int, ...]:
    """Return the registers of one engineering value.

    A value outside the type saturates, as transmitters do. A bit or bit range comes back in its place in the
    word, all other bits 0: ``put`` merges it.

    Raises:
        ValueError: If the value is NaN and the type has no NaN.
    """
    if encoding.type in _FLOATS:
        number: Any = (value - encoding.offset) / encoding.scale
        octets = np.array([number], dtype=_dtype(encoding.type)).view(np.uint8)
        return _to_words(octets, encoding.order)
    if np.isnan(value):
        raise ValueError(f"NaN cannot be written as {encoding.type}")
    low, high = encoding.raw_limits
    raw_float = (value - encoding.offset) / encoding.scale
    raw = int(low) if raw_float <= low else int(high) if raw_float >= high else round(raw_float)
    if encoding.is_narrow:
        return ((raw & ((1 << encoding.bits) - 1)) << encoding.bit,)
    if encoding.type in _BCD:
        raw = int(str(raw), 16)
    # 2**64 - 1 as a float is 2**64: bring the saturated value back into the type
    top = (1 << (encoding.bits - 1)) - 1 if encoding.is_signed else (1 << encoding.bits) - 1
    octets_of = min(raw, top).to_bytes(2 * encoding.registers, "big", signed=encoding.is_signed)
    return _to_words(np.frombuffer(octets_of, dtype=np.uint8), encoding.order)


def put(image: Words, at: int, encoding: Encoding, value: float) -> None:
    """Write one engineering value into a register image, leaving the other bits of its word alone.

    Args:
        image: Registers of one table, changed in place; for coils and discrete inputs 0 or 1 each.
        at: Index of the first register.
        encoding: How the value is written.
        value: In the engineering unit.
    """
    words = encode(value, encoding)
    if encoding.is_narrow:
        mask = ((1 << encoding.bits) - 1) << encoding.bit
        image[at] = (int(image[at]) & ~mask & 0xFFFF) | words[0]
    else:
        image[at : at + len(words)] = words


def _narrow(words: Words, bit: int, bits: int, *, is_signed: bool) -> Floats:
    raw = (words.astype(np.int64) >> bit) & ((1 << bits) - 1)
    if is_signed:
        raw = np.where(raw >> (bits - 1), raw - (1 << bits), raw)
    return raw.astype(np.float64)


def _bcd(octets: npt.NDArray[np.uint8]) -> Floats:
    digits = np.stack((octets >> 4, octets & 15), axis=-1).reshape(len(octets), -1)
    powers = 10.0 ** np.arange(digits.shape[1] - 1, -1, -1)
    number: Floats = digits @ powers
    number[(digits > 9).any(axis=1)] = np.nan
    return number


@lru_cache
def _permutation(order: str) -> tuple[int, ...]:
    """Where byte A, B, C ... of the value stands on the wire."""
    return tuple(order.index(letter) for letter in sorted(order))


def _dtype(type_: str) -> str:
    return f">{type_[0]}{2 * width_of(type_)}"


def _to_words(octets: npt.NDArray[np.uint8], order: str) -> tuple[int, ...]:
    wire = np.empty(len(octets), dtype=np.uint8)
    wire[list(_permutation(order))] = octets
    return tuple(int(word) for word in wire.view(">u2"))
