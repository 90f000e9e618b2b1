"""Frames of GB/T 26875.3: what the wire carries, whole or broken, is read as the standard means it."""

from __future__ import annotations

import struct
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.fireframe import (
    HEAD_BYTES,
    MAX_DATA,
    MAX_FRAME,
    BadFrame,
    Command,
    FireFrame,
    Splitter,
    encode_time,
    local_ms,
    parse_address,
)
from gateway.fireobjects import (
    Clock,
    Configuration,
    FireObject,
    Operation,
    Order,
    PartAnalog,
    PartState,
    SystemState,
    TransmitterState,
    Version,
    decode_objects,
    encode_clock,
    encode_duty_answer,
    encode_duty_check,
    encode_read,
    parse_part,
    part_text,
)
from watchroom.errors import ContractError

SHANGHAI = ZoneInfo("Asia/Shanghai")
# literals of a public decoder's comments and tests, trailing text padding included
PART_TEST = (
    "40400000010118 0d1116 0a14 000000000000 060504030201 3000 02 02 01 01 03 00 d9000600 0200"
    "a3c1c7f8a3b1b2e3dfc8b2b8d7dfc0c8000000000000000000000000000000 301213010814 68 2323"
)
PART_SMOKE = (
    "404014001000050909 1b0715 2c312c320000 784d07918e23 3000 02 02 01 01 01 2a 01000100 0200"
    "31bac5bdd3bfdab0e531bbd8c2b731bac500bac5d6f7bbfaf898cfa0000000 25110301060c 47 2323"
)
GREETING = "4040690010000a110e030615000000000000ac103cd56d1d01000215302323"
OPERATED = "404031131000160f11030316 000000000000 c0a801046d1d 0a00 02 18 01 02 00 16 0f 11 03 03 16 16 2323"

frames = st.builds(
    FireFrame,
    serial=st.integers(0, 0xFFFF),
    command=st.integers(0, 255),
    data=st.binary(max_size=60) | st.just(b"@@##@@") | st.binary(min_size=MAX_DATA, max_size=MAX_DATA),
    stamp=st.binary(min_size=6, max_size=6),
    source=st.binary(min_size=6, max_size=6),
    target=st.binary(min_size=6, max_size=6),
    version=st.tuples(st.integers(0, 255), st.integers(0, 255)),
)


def objects_of(text: str) -> tuple[FireObject, ...]:
    (frame,) = Splitter().feed(bytes.fromhex(text))
    assert isinstance(frame, FireFrame)
    return decode_objects(frame.data)


def test_recorded_part_states() -> None:
    """The text of a smoke detector arrives in Chinese, its padding and what stands behind it do not."""
    (hall,) = objects_of(PART_TEST)
    assert isinstance(hall, PartState)
    assert (hall.system, hall.address, hall.part_type, part_text(hall.part)) == (1, 3, 0, "6-217")
    assert (hall.state, hall.text) == (2, "Ａ区１层呷哺走廊")
    (smoke,) = objects_of(PART_SMOKE)
    assert isinstance(smoke, PartState)
    assert (smoke.part_type, part_text(smoke.part), smoke.state) == (42, "1-1", 2)
    assert smoke.text == "1号接口板1回路1号"


def test_recorded_operation() -> None:
    """Somebody silenced the transmitter at 17:15:22 on 3 March 2022."""
    (operation,) = objects_of(OPERATED)
    assert isinstance(operation, Operation)
    assert operation.is_transmitter
    assert operation.flags == 1 << 1
    assert local_ms(operation.stamp, SHANGHAI) == 1_646_298_922_000


def test_a_recorded_bad_checksum_is_noticed() -> None:
    """A frame whose sum is one off is told apart, and never taken."""
    splitter = Splitter()
    (bad,) = splitter.feed(bytes.fromhex(GREETING))
    assert isinstance(bad, BadFrame)
    assert (bad.frame.serial, bad.frame.data) == (0x69, b"\x15")
    assert splitter.counts["checksum"] == 1
    assert splitter.held == 0


@given(st.lists(frames, max_size=4), st.data())
def test_frames_split_and_glued_anyhow_come_out_whole(sent: list[FireFrame], data: st.DataObject) -> None:
    """However TCP cuts the stream, the frames are the same."""
    stream = b"".join(frame.encode() for frame in sent)
    splitter, got = Splitter(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += splitter.feed(stream[:size])
        stream = stream[size:]
    assert got == sent
    assert not splitter.counts
    assert not splitter.held


@given(st.lists(st.tuples(st.binary(max_size=40) | st.just(b"@@@"), frames), max_size=3), st.binary(max_size=40))
@example([(b"@@" + bytes(22) + b"\x00\x03", FireFrame(serial=1, command=2))], b"")
@example([(b"@@@", FireFrame(serial=0, command=0, target=bytes(5) + b"\x01", version=(0, 0)))], b"")
def test_no_good_frame_is_lost_behind_rubbish(parts: list[tuple[bytes, FireFrame]], tail: bytes) -> None:
    """Noise between frames costs no frame: at the latest when the line is silent each one is found."""
    splitter, got = Splitter(), []
    for rubbish, frame in parts:
        got += splitter.feed(rubbish + frame.encode())
        assert splitter.held < MAX_FRAME
    got += splitter.feed(tail)
    got += splitter.expire()
    good = [frame for frame in got if isinstance(frame, FireFrame)]
    wanted = [frame for _, frame in parts]
    assert [frame for frame in good if frame in wanted] == wanted or all(frame in good for frame in wanted)
    assert splitter.held == 0


@given(st.binary(max_size=3000))
def test_rubbish_neither_stops_nor_fills_the_reader(noise: bytes) -> None:
    """Whatever comes, at most one frame's worth is held, and every byte is accounted for."""
    splitter = Splitter()
    got = splitter.feed(noise)
    assert splitter.held < MAX_FRAME
    got += splitter.expire()
    assert splitter.held == 0
    if not got:
        assert splitter.counts["rubbish"] == len(noise)


@given(frames, st.data())
def test_every_flipped_bit_is_noticed(frame: FireFrame, data: st.DataObject) -> None:
    """One wrong bit never gives another frame than the one that was sent."""
    raw = bytearray(frame.encode())
    place = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[place // 8] ^= 1 << place % 8
    splitter = Splitter()
    got = [*splitter.feed(bytes(raw)), *splitter.expire()]
    assert frame not in got
    assert not any(isinstance(item, FireFrame) and len(item.data) == len(frame.data) for item in got)
    assert splitter.counts


def test_an_answer_goes_back_to_where_the_question_came_from() -> None:
    """An answer has the question's number, with the addresses exchanged."""
    question = FireFrame(serial=7, command=Command.SEND, source=b"abcdef", target=b"ghijkl", version=(2, 1))
    answer = question.reply(Command.CONFIRM, bytes(6))
    assert (answer.serial, answer.command, answer.data) == (7, Command.CONFIRM, b"")
    assert (answer.source, answer.target, answer.version) == (b"ghijkl", b"abcdef", (2, 1))
    assert len(answer.encode()) == HEAD_BYTES + 3


def test_what_does_not_fit_a_frame_is_refused() -> None:
    """More than 1024 bytes never go out."""
    with pytest.raises(ValueError, match="1025 bytes"):
        FireFrame(serial=1, command=2, data=bytes(MAX_DATA + 1)).encode()
    with pytest.raises(ValueError, match="six bytes"):
        FireFrame(serial=1, command=2, source=b"short").encode()


@given(st.integers(946_684_800, 4_102_358_399))
def test_times_come_back_as_they_went(time_s: int) -> None:
    """A time of this century survives the way through six bytes, to the second."""
    utc = ZoneInfo("UTC")
    assert local_ms(encode_time(time_s * 1000, utc), utc) == time_s * 1000


@pytest.mark.parametrize("stamp", [bytes(6), b"\xff" * 6, bytes((0, 60, 0, 1, 1, 20)), bytes((0, 0, 0, 30, 2, 20))])
def test_what_is_no_time_is_told(stamp: bytes) -> None:
    """An unset clock of a transmitter gives an error, not a date of 2000."""
    with pytest.raises(ContractError, match="time"):
        local_ms(stamp, SHANGHAI)


def test_addresses() -> None:
    """An address is written as on the wire; anything else is refused with an example."""
    assert parse_address("06 05 04 03 02 01") == bytes((6, 5, 4, 3, 2, 1))
    for text in ("", "0605", "not hex at all"):
        with pytest.raises(ValueError, match="12 hex digits"):
            parse_address(text)


TIME = bytes((1, 2, 3, 4, 5, 26))
CASES: list[tuple[bytes, FireObject]] = [
    (b"\x01\x01" + bytes((12, 1, 0x04, 0x01)) + TIME, SystemState(system=12, address=1, state=0x0104, stamp=TIME)),
    (
        b"\x03\x01" + bytes((12, 0, 99)) + struct.pack("<HHBh", 5, 1, 4, -3) + TIME,
        PartAnalog(system=12, address=0, part_type=99, part=1 << 16 | 5, analog=4, value=-0.3, stamp=TIME),
    ),
    (
        b"\x04\x01" + bytes((1, 0, 1, 9)) + TIME,
        Operation(system=1, address=0, flags=1, operator=9, is_transmitter=False, stamp=TIME),
    ),
    (b"\x05\x01" + bytes((1, 0, 3, 2)), Version(system=1, address=0, main=3, minor=2, is_transmitter=False)),
    (
        b"\x06\x01" + bytes((1, 0, 4)) + "主机".encode("gb18030"),
        Configuration(system=1, address=0, text="主机"),
    ),
    (
        b"\x07\x01" + bytes((1, 0, 42, 7, 0, 1, 0)) + "走廊".encode("gb18030").ljust(31, b"\0"),
        Configuration(system=1, address=0, part_type=42, part=1 << 16 | 7, text="走廊"),
    ),
    (b"\x08\x01" + bytes((1, 0)) + TIME, Clock(system=1, address=0, is_transmitter=False, stamp=TIME)),
    (b"\x15\x01\x04" + TIME, TransmitterState(state=4, stamp=TIME)),
    (b"\x19\x01\x02\x05", Version(system=0, address=0, main=2, minor=5, is_transmitter=True)),
    (b"\x1a\x01\x02ab", Configuration(system=0, address=0, text="ab", is_transmitter=True)),
    (b"\x1c\x01" + TIME, Clock(system=0, address=0, is_transmitter=True, stamp=TIME)),
    (b"\x59\x01\x00", Order(type=89)),
]


@pytest.mark.parametrize(("data", "wanted"), CASES)
def test_every_type_of_the_standard(data: bytes, wanted: FireObject) -> None:
    """Every information type is read field by field; two objects in one frame are two."""
    assert decode_objects(data) == (wanted,)
    twice = data[:1] + b"\x02" + data[2:] * 2
    assert decode_objects(twice) == (wanted, wanted)


def test_orders_read_as_they_were_written() -> None:
    """Clock, duty check and its answer are understood by the other side of the same codec."""
    when = 1_763_800_000_000
    assert decode_objects(encode_clock(when, SHANGHAI)) == (Order(type=90, stamp=encode_time(when, SHANGHAI)),)
    assert decode_objects(encode_duty_check(15)) == (Order(type=91, limit_min=15),)
    (answer,) = decode_objects(encode_duty_answer(TIME, operator=4))
    assert answer == Operation(system=0, address=0, flags=32, operator=4, is_transmitter=True, stamp=TIME)
    assert encode_read(21)[0] == 81


@given(st.binary(max_size=120))
def test_any_bytes_are_objects_or_a_counted_refusal(data: bytes) -> None:
    """No data unit crashes the reader: it is understood, or refused with a reason for a counter."""
    reason, found = "", tuple[FireObject, ...]()
    try:
        found = decode_objects(data)
    except ContractError as exc:
        reason = exc.reason
    assert reason in {"", "type", "objects"}
    if not reason:
        assert len(found) == (data[1] if len(data) > 1 else 0)


@given(st.sampled_from([data for data, _ in CASES]), st.integers(1, 200))
def test_a_cut_object_is_refused(data: bytes, cut: int) -> None:
    """Half an object is never guessed."""
    short = data[: max(2, len(data) - cut)]
    with pytest.raises(ContractError, match="objects"):
        decode_objects(short)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_part_addresses_come_back_as_they_went(loop: int, number: int) -> None:
    """What the log shows can be written into the file."""
    assert part_text(parse_part(f"{loop}-{number}")) == f"{loop}-{number}"


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "1-2-3", "70000-1", "1-70000", "a-b"])
def test_what_is_no_part_is_told(text: str) -> None:
    """A wrong part address is an error with an example."""
    with pytest.raises(ValueError, match=r"loop"):
        parse_part(text)
