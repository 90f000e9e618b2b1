"""Modbus telegrams: questions, the answers that fit them, and the three ways they travel. Pure.

Source: MODBUS Application Protocol V1.1b3 and MODBUS over Serial Line V1.02 (modbus.org).
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.addresses import Table

Framing = Literal["tcp", "rtu", "ascii"]
NOISE = 2
"""So many bytes before an RTU answer are overlooked: converters give some when the line turns round."""
_REFUSED = 0x80
_MBAP = struct.Struct(">HHHB")


class MisfitError(ValueError):
    """The answer has the right number and cannot be the answer: there will be no other."""


def _crc_table() -> tuple[int, ...]:
    rows = []
    for octet in range(256):
        crc = octet
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        rows.append(crc)
    return tuple(rows)


_CRC = _crc_table()


def crc16(data: bytes | bytearray) -> bytes:
    """Return the checksum of an RTU telegram, low byte first."""
    crc = 0xFFFF
    for octet in data:
        crc = (crc >> 8) ^ _CRC[(crc ^ octet) & 0xFF]
    return crc.to_bytes(2, "little")


def lrc(data: bytes) -> int:
    """Return the checksum of an ASCII telegram."""
    return -sum(data) & 0xFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request and what its answer must look like.

    Attributes:
        unit: Unit id, 0 to 255.
        pdu: Function code and data.
        head: A good answer's PDU begins with it: function and byte count of a read, all that is echoed of a write.
        size: Bytes of a good answer's PDU.
    """

    unit: int
    pdu: bytes
    head: bytes
    size: int

    @property
    def function(self) -> int:
        """Function code."""
        return self.pdu[0]

    @property
    def shape(self) -> bytes:
        """What can be told of an answer without knowing the question: answers of one shape look alike."""
        return self.head

    def fits(self, pdu: bytes) -> bool:
        """Whether these bytes can be a good answer."""
        return len(pdu) == self.size and pdu.startswith(self.head)

    def refuses(self, pdu: bytes) -> bool:
        """Whether these bytes can be an exception answer."""
        return len(pdu) == 2 and pdu[0] == self.function | _REFUSED


def read_question(table: Table, *, unit: int, start: int, count: int) -> Question:
    """Return the question for registers or bits."""
    octets = -(-count // 8) if table.is_bits else 2 * count
    pdu = struct.pack(">BHH", table.function, start, count)
    return Question(unit=unit, pdu=pdu, head=bytes((table.function, octets & 0xFF)), size=2 + octets)


def write_question(table: Table, *, unit: int, start: int, words: Sequence[int], is_multiple: bool = False) -> Question:
    """Return the question that writes coils (0 or 1 each) or holding registers.

    Args:
        table: COIL or HOLDING.
        unit: Unit id.
        start: First place, as on the wire.
        words: What is written; more than one makes it function 15 or 16.
        is_multiple: Functions 15 and 16 also for a single one: some devices know no others.

    Raises:
        ValueError: If the table cannot be written.
    """
    if table not in {Table.COIL, Table.HOLDING}:
        raise ValueError(f"a {table} cannot be written")
    is_coil = table is Table.COIL
    if len(words) == 1 and not is_multiple:
        value = (0xFF00 if words[0] else 0) if is_coil else words[0]
        pdu = struct.pack(">BHH", 5 if is_coil else 6, start, value)
        return Question(unit=unit, pdu=pdu, head=pdu, size=len(pdu))
    if is_coil:
        data = sum(1 << i for i, word in enumerate(words) if word).to_bytes(-(-len(words) // 8), "little")
    else:
        data = struct.pack(f">{len(words)}H", *words)
    head = struct.pack(">BHH", 15 if is_coil else 16, start, len(words))
    return Question(unit=unit, pdu=head + bytes((len(data),)) + data, head=head, size=len(head))


def wrap(framing: Framing, question: Question, *, number: int) -> bytes:
    """Return the bytes on the wire.

    Args:
        framing: How they travel.
        question: What is asked.
        number: Transaction number, used by ``tcp`` only.
    """
    if framing == "tcp":
        return _MBAP.pack(number, 0, len(question.pdu) + 1, question.unit) + question.pdu
    body = bytes((question.unit,)) + question.pdu
    if framing == "rtu":
        return body + crc16(body)
    return b":" + binascii.hexlify(body + bytes((lrc(body),))).upper() + b"\r\n"


def find(framing: Framing, buffer: bytearray, question: Question, *, number: int) -> bytes | None:
    """Return the answer's PDU when it has come, good or exception; None while it has not.

    Telegrams that are no answer to this question are taken out of the buffer; what may still become one stays.

    Args:
        framing: How it travels.
        buffer: What was received since the question; changed in place.
        question: What was asked.
        number: Transaction number of the question.

    Raises:
        MisfitError: If the numbered answer has another unit or length than asked for.
        ValueError: If the bytes cannot be a Modbus TCP stream at all: the connection must be made anew.
    """
    if framing == "rtu":
        return _find_rtu(buffer, question)
    if framing == "ascii":
        return _find_ascii(buffer, question)
    return _find_tcp(buffer, question, number)


def strip(framing: Framing, buffer: bytearray, strays: Iterable[Question]) -> Question | None:
    """Take the late answer to one of several old questions off the front of a buffer, and return that question."""
    for old in strays:
        if framing == "rtu":
            size = _rtu_size(buffer, 0, old)
            if size:
                del buffer[:size]
                return old
        elif framing == "ascii":
            for end, unit, pdu in _ascii_telegrams(buffer):
                if unit == old.unit and (old.fits(pdu) or old.refuses(pdu)):
                    del buffer[:end]
                    return old
    return None


def _find_rtu(buffer: bytearray, question: Question) -> bytes | None:
    for at in range(min(NOISE + 1, len(buffer))):
        size = _rtu_size(buffer, at, question)
        if size:
            pdu = bytes(buffer[at + 1 : at + size - 2])
            del buffer[: at + size]
            return pdu
    return None


def _rtu_size(buffer: bytearray, at: int, question: Question) -> int:
    """Length of the answer that stands complete and undamaged at a place, 0 if none does."""
    if len(buffer) - at < 5 or buffer[at] != question.unit:
        return 0
    size = 5 if buffer[at + 1] == question.function | _REFUSED else question.size + 3
    if size != 5 and not buffer.startswith(question.head, at + 1):
        return 0
    if len(buffer) - at < size:
        return 0
    return size if crc16(buffer[at : at + size - 2]) == buffer[at + size - 2 : at + size] else 0


def _find_ascii(buffer: bytearray, question: Question) -> bytes | None:
    last = 0
    for end, unit, pdu in _ascii_telegrams(buffer):
        last = end
        if unit == question.unit and (question.fits(pdu) or question.refuses(pdu)):
            del buffer[:end]
            return pdu
    del buffer[:last]
    return None


def _ascii_telegrams(buffer: bytearray) -> list[tuple[int, int, bytes]]:
    """Complete telegrams of a buffer as (end, unit, pdu); damaged ones have unit -1."""
    found: list[tuple[int, int, bytes]] = []
    at = 0
    while (end := buffer.find(b"\r\n", at)) >= 0:
        start = buffer.rfind(b":", at, end)
        at = end + 2
        try:
            body = binascii.unhexlify(bytes(buffer[start + 1 : end])) if start >= 0 else b""
        except binascii.Error:
            body = b""
        is_whole = len(body) >= 4 and lrc(body[:-1]) == body[-1]
        found.append((at, body[0], body[1:-1]) if is_whole else (at, -1, b""))
    return found


def _find_tcp(buffer: bytearray, question: Question, number: int) -> bytes | None:
    while len(buffer) >= _MBAP.size:
        got, protocol, length, unit = _MBAP.unpack_from(buffer)
        if protocol or not 2 <= length <= 254:
            raise ValueError("not a Modbus TCP stream")
        if len(buffer) < 6 + length:
            return None
        pdu = bytes(buffer[_MBAP.size : 6 + length])
        del buffer[: 6 + length]
        if got == number:
            if unit != question.unit or not (question.fits(pdu) or question.refuses(pdu)):
                raise MisfitError("the answer does not fit the question")
            return pdu
    return None
