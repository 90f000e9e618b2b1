"""Modbus telegrams against bytes from the standard and from other programs."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import Table
from gateway.telegram import Framing, MisfitError, crc16, find, lrc, read_question, strip, wrap, write_question
from tests.gateway import devices

READ = read_question(Table.HOLDING, unit=1, start=0x6B, count=3)
ANSWER = bytes.fromhex("03 06 02 2B 00 00 00 64")  # the example of the standard, 6.3


def rtu(unit: int, pdu: bytes) -> bytes:
    body = bytes([unit]) + pdu
    return body + devices.crc16(body)


def test_questions_are_those_of_the_standard() -> None:
    """The example requests of the standard, byte for byte."""
    assert READ.pdu == bytes.fromhex("03 00 6B 00 03")
    assert READ.fits(ANSWER)
    assert read_question(Table.COIL, unit=1, start=0x13, count=0x13).pdu == bytes.fromhex("01 00 13 00 13")
    assert read_question(Table.COIL, unit=1, start=0x13, count=0x13).fits(bytes.fromhex("01 03 CD 6B 05"))
    coil = write_question(Table.COIL, unit=1, start=0xAC, words=[1])
    assert coil.pdu == bytes.fromhex("05 00 AC FF 00")
    assert coil.fits(coil.pdu)
    assert write_question(Table.HOLDING, unit=1, start=1, words=[3]).pdu == bytes.fromhex("06 00 01 00 03")
    coils = write_question(Table.COIL, unit=1, start=0x13, words=[1, 0, 1, 1, 0, 0, 1, 1, 1, 0])
    assert coils.pdu == bytes.fromhex("0F 00 13 00 0A 02 CD 01")
    assert coils.fits(bytes.fromhex("0F 00 13 00 0A"))
    registers = write_question(Table.HOLDING, unit=1, start=1, words=[0x0A, 0x0102])
    assert registers.pdu == bytes.fromhex("10 00 01 00 02 04 00 0A 01 02")
    assert registers.fits(bytes.fromhex("10 00 01 00 02"))
    single = write_question(Table.HOLDING, unit=1, start=1, words=[3], is_multiple=True)
    assert single.pdu == bytes.fromhex("10 00 01 00 01 02 00 03")


def test_an_input_cannot_be_written() -> None:
    """There is no function for it."""
    with pytest.raises(ValueError, match="cannot be written"):
        write_question(Table.INPUT, unit=1, start=0, words=[1])


def test_the_three_ways_to_travel() -> None:
    """Modbus TCP, RTU and ASCII as other programs send them."""
    assert wrap("tcp", READ, number=7) == bytes.fromhex("0007 0000 0006 01 03006B0003")
    assert wrap("rtu", READ, number=7) == bytes.fromhex("01 03 00 6B 00 03 74 17")
    assert wrap("ascii", READ, number=7) == b":0103006B00038E\r\n"


@given(st.binary(max_size=300))
def test_checksums(data: bytes) -> None:
    """The quick checksum is the one the standard draws; the other makes the sum zero."""
    assert crc16(data) == devices.crc16(data)
    assert (sum(data) + lrc(data)) & 0xFF == 0


@pytest.mark.parametrize(
    ("framing", "raw"),
    [
        ("tcp", struct.pack(">HHHB", 7, 0, 9, 1) + ANSWER),
        ("rtu", rtu(1, ANSWER)),
        ("ascii", b":010306022B0000006465\r\n"),
    ],
)
def test_an_answer_in_pieces(framing: Framing, raw: bytes) -> None:
    """Byte by byte: nothing before the last one, and then the answer and an empty buffer."""
    buffer = bytearray()
    for octet in raw[:-1]:
        buffer.append(octet)
        assert find(framing, buffer, READ, number=7) is None
    buffer.append(raw[-1])
    assert find(framing, buffer, READ, number=7) == ANSWER
    assert not buffer


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(rtu(2, ANSWER), id="another unit"),
        pytest.param(rtu(1, b"\x04" + ANSWER[1:]), id="another function"),
        pytest.param(rtu(1, b"\x03\x04" + ANSWER[2:6]), id="another length"),
        pytest.param(rtu(1, ANSWER)[:-1] + b"\x00", id="damaged checksum"),
        pytest.param(rtu(1, ANSWER)[1:], id="first byte lost"),
        pytest.param(b"\x00" * 5 + rtu(1, ANSWER), id="behind much noise"),
        pytest.param(rtu(1, b"\x84\x02"), id="exception of another function"),
    ],
)
def test_what_is_no_answer_on_rtu(lie: bytes) -> None:
    """Unit, function, length and checksum must all be right."""
    assert find("rtu", bytearray(lie), READ, number=0) is None


def test_a_little_noise_is_overlooked() -> None:
    """Converters give a byte or two when the line turns round."""
    assert find("rtu", bytearray(b"\x00\xff" + rtu(1, ANSWER)), READ, number=0) == ANSWER
    assert find("rtu", bytearray(b"\x00" + rtu(1, b"\x83\x02")), READ, number=0) == b"\x83\x02"


def test_numbered_answers_of_old_questions_are_passed_over() -> None:
    """On Modbus TCP the number says which question an answer belongs to."""
    old = struct.pack(">HHHB", 6, 0, 9, 1) + ANSWER[:-1] + b"\x63"
    buffer = bytearray(old + struct.pack(">HHHB", 7, 0, 9, 1) + ANSWER)
    assert find("tcp", buffer, READ, number=7) == ANSWER


@pytest.mark.parametrize("raw", [b"HTTP/1.1 400 Bad", struct.pack(">HHHB", 7, 1, 9, 1) + ANSWER, b"\x00" * 12])
def test_what_is_no_modbus_at_all(raw: bytes) -> None:
    """A stream that cannot be Modbus TCP is given up at once."""
    with pytest.raises(ValueError, match="not a Modbus TCP stream"):
        find("tcp", bytearray(raw), READ, number=7)


def test_the_right_number_and_the_wrong_length() -> None:
    """An answer of another length under the right number is no value."""
    with pytest.raises(MisfitError):
        find("tcp", bytearray(struct.pack(">HHHB", 7, 0, 7, 1) + b"\x03\x04" + ANSWER[2:6]), READ, number=7)


@given(st.binary(max_size=200), st.sampled_from(["rtu", "ascii"]))
def test_rubbish_is_never_an_answer(rubbish: bytes, framing: Framing) -> None:
    """No bytes make a parser fail, and none that lack the checksum become a value."""
    buffer = bytearray(rubbish)
    assert find(framing, buffer, READ, number=0) is None
    assert strip(framing, buffer, [READ]) is None


@given(st.binary(max_size=200))
def test_rubbish_on_tcp(rubbish: bytes) -> None:
    """The same on Modbus TCP: no answer, or an error that closes the connection."""
    try:
        assert find("tcp", bytearray(rubbish), READ, number=0xABCD) is None
    except ValueError:
        assert len(rubbish) >= 7


def test_late_answers_are_told_from_others() -> None:
    """A late answer is taken off the buffer with its question; what follows stays."""
    buffer = bytearray(rtu(1, ANSWER) + b"\x05")
    other = read_question(Table.INPUT, unit=1, start=0, count=3)
    assert strip("rtu", buffer, [other, READ]) is READ
    assert buffer == b"\x05"
