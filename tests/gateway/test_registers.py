"""Numbers in registers, both ways."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import Table
from gateway.decoder import BlockDecoder
from gateway.model import ModelSignal
from gateway.registers import Encoding, decode, decode_raw, encode, order_for, orders_of, put, width_of
from watchroom.signals import Quality

INTEGERS = ("u16", "i16", "u32", "i32")
WHOLE = (*INTEGERS, "u64", "i64", "f32", "f64", "bcd16", "bcd32")
EVERY = [(type_, order) for type_ in WHOLE for order in orders_of(width_of(type_))]


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("ABCD", (0x3ECD, 0xD2F2)),
        ("CDAB", (0xD2F2, 0x3ECD)),
        ("BADC", (0xCD3E, 0xF2D2)),
        ("DCBA", (0xF2D2, 0xCD3E)),
    ],
)
def test_a_pressure_of_0402_in_every_order(order: str, words: tuple[int, int]) -> None:
    """0.402 MPa is 3ECD D2F2 in the order ABCD, and the same bytes elsewhere in the other three."""
    encoding = Encoding(type="f32", order=order)
    assert encode(0.402, encoding) == words
    assert decode(words, encoding) == pytest.approx(0.402, abs=1e-7)


def test_the_water_meter_whose_float_comes_backwards() -> None:
    """The maker's own sample: bytes 1E 85 0B 3F are 0.545 cubic metres."""
    assert decode([0x1E85, 0x0B3F], Encoding(type="f32", order="DCBA")) == pytest.approx(0.545, abs=1e-6)


@pytest.mark.parametrize(
    ("encoding", "words", "value"),
    [
        (Encoding(type="u16"), [0xFFFE], 65534),
        (Encoding(type="i16"), [0xFFFE], -2),
        (Encoding(type="u16", order="BA"), [0x0102], 0x0201),
        (Encoding(type="u32", order="ABCD"), [0x0001, 0x0002], 65538),
        (Encoding(type="u32", order="CDAB"), [0x0001, 0x0002], 131073),
        (Encoding(type="i32", order="ABCD"), [0xFFFF, 0xFFFF], -1),
        (Encoding(type="u64", order="ABCDEFGH"), [0, 0, 1, 0], 65536),
        (Encoding(type="u64", order="GHEFCDAB"), [0, 1, 0, 0], 65536),
        (Encoding(type="f64", order="ABCDEFGH"), [0x3FF8, 0, 0, 0], 1.5),
        (Encoding(type="bcd16"), [0x1234], 1234),
        (Encoding(type="bcd32", order="CDAB"), [0x5678, 0x1234], 12345678),
        (Encoding(type="bit", bit=15), [0x8000], 1),
        (Encoding(type="u4", bit=4), [0x0A50], 5),
        (Encoding(type="i4", bit=8), [0x0F00], -1),
        (Encoding(type="u8", bit=8), [0xAB12], 0xAB),
        (Encoding(type="u16", scale=0.1, offset=-40), [250], -15),
        (Encoding(type="u16", scale=0.001), [402], 0.402),
    ],
)
def test_words_as_the_manual_explains_them(encoding: Encoding, words: list[int], value: float) -> None:
    """Every type reads the words a manual gives as an example; 402 thousandths are 0.402 without a tail of digits."""
    assert decode(words, encoding) == value


def test_a_register_without_digits_is_no_number() -> None:
    """A BCD register that holds a letter is not a value."""
    assert math.isnan(decode([0x12A4], Encoding(type="bcd16")))


@given(data=st.data())
def test_what_is_encoded_is_decoded(data: st.DataObject) -> None:
    """The simulators and the gateway agree on every type and every order."""
    type_, order = data.draw(st.sampled_from(EVERY))
    encoding = Encoding(type=type_, order=order)
    if type_ in {"f32", "f64"}:
        value = data.draw(st.floats(width=32 if type_ == "f32" else 64, allow_nan=False))
    else:
        low, high = encoding.raw_limits
        value = float(data.draw(st.integers(max(int(low), -(2**53)), min(int(high), 2**53))))
    assert decode(encode(value, encoding), encoding) == value


@given(st.integers(0, 0xFFFF_FFFF), st.sampled_from(orders_of(2)))
def test_an_independent_reading_agrees(number: int, order: str) -> None:
    """A plain reordering of bytes with struct gives the same words."""
    letters = dict(zip("ABCD", struct.pack(">I", number), strict=True))
    wire = bytes(letters[letter] for letter in order)
    assert encode(float(number), Encoding(type="u32", order=order)) == struct.unpack(">HH", wire)


@given(word=st.integers(0, 0xFFFF), bit=st.integers(0, 15), bits=st.integers(1, 15), value=st.integers(0, 0x7FFF))
def test_a_bit_range_leaves_its_neighbours_alone(word: int, bit: int, bits: int, value: int) -> None:
    """Writing some bits of a status word changes no others."""
    if bit + bits > 16:
        with pytest.raises(ValueError, match="not inside one register"):
            Encoding(type=f"u{bits}", bit=bit)
        return
    encoding = Encoding(type=f"u{bits}", bit=bit)
    image = np.array([7, word, 9], dtype=np.uint16)
    wanted = value & ((1 << bits) - 1)
    put(image, 1, encoding, wanted)
    mask = ((1 << bits) - 1) << bit
    assert decode([int(image[1])], encoding) == wanted
    assert int(image[1]) & ~mask == word & ~mask
    assert (image[0], image[2]) == (7, 9)


@pytest.mark.parametrize("type_", INTEGERS)
def test_a_value_outside_the_type_saturates(type_: str) -> None:
    """A transmitter at its limit stays there: it neither wraps round nor fails."""
    encoding = Encoding(type=type_)
    low, high = encoding.raw_limits
    assert decode(encode(1e12, encoding), encoding) == high
    assert decode(encode(-1e12, encoding), encoding) == low


def test_the_largest_64_bit_number_saturates_too() -> None:
    """2**64 - 1 has no float of its own, the registers are all ones all the same."""
    assert encode(1e30, Encoding(type="u64")) == (0xFFFF,) * 4
    assert encode(1e30, Encoding(type="i64")) == (0x7FFF, 0xFFFF, 0xFFFF, 0xFFFF)


def test_an_integer_cannot_hold_no_value() -> None:
    """NaN in an integer register would become some number; that is refused."""
    with pytest.raises(ValueError, match="NaN"):
        encode(math.nan, Encoding(type="u16"))


def test_a_64_bit_counter_keeps_its_last_digits() -> None:
    """Above 2**53 floats skip numbers; a counter with a modulus is reduced while it is still an integer."""
    words = np.array(encode(0, Encoding(type="u64")), dtype=np.uint16)
    words[:] = [0x0020, 0, 0, 3]  # 2**53 + 3
    assert decode_raw(words, np.array([0]), Encoding(type="u64", wrap=2**53))[0] == 3


def test_a_single_register_does_not_follow_the_order_of_floats() -> None:
    """A device with swapped words of floats still sends plain 16-bit numbers."""
    assert order_for("DCBA", 1) == "AB"
    assert order_for("CDAB", 4) == "GHEFCDAB"


def _signal(name: str, offset: int, encoding: Encoding, **more: object) -> ModelSignal:
    return ModelSignal(name=name, table=Table.HOLDING, offset=offset, encoding=encoding, **more)  # type: ignore[arg-type]


def test_a_block_is_decoded_at_once() -> None:
    """One answer gives all its signals, each with its own type, scale and quality."""
    signals = [
        _signal("run", 10, Encoding(type="bit", bit=0)),
        _signal("fault", 10, Encoding(type="bit", bit=1)),
        _signal("pressure", 11, Encoding(type="i16", scale=0.001), invalid=(0x7FFF,)),
        _signal("level", 12, Encoding(type="u16", scale=0.1), low=0.0, high=100.0),
        _signal("mode", 13, Encoding(type="u16"), mapping=((5.0, 1.0), (6.0, 2.0))),
        _signal("flow", 14, Encoding(type="f32", order="CDAB")),
    ]
    words = np.array([2, 402, 1200, 5, *encode(12.5, Encoding(type="f32", order="CDAB"))], dtype=np.uint16)
    values, quality = BlockDecoder(signals, 10).decode(words)
    assert values.tolist() == [0, 1, 0.402, 120, 1, 12.5]
    assert quality.tolist() == [0, 0, 0, Quality.SENSOR_FAULT, 0, 0]


@pytest.mark.parametrize(
    ("signal", "words"),
    [
        (_signal("open_circuit", 0, Encoding(type="i16"), invalid=(0x7FFF,)), [0x7FFF]),
        (_signal("unknown_mode", 0, Encoding(type="u16"), mapping=((5.0, 1.0),)), [9]),
        (_signal("no_digits", 0, Encoding(type="bcd16")), [0xFFFF]),
        (_signal("nan", 0, Encoding(type="f32")), [0x7FC0, 0]),
        (_signal("infinite", 0, Encoding(type="f32")), [0x7F80, 0]),
    ],
)
def test_no_value_is_never_a_number(signal: ModelSignal, words: list[int]) -> None:
    """What the device marks as "no value" arrives as NaN with quality INVALID, never as 0."""
    values, quality = BlockDecoder([signal], 0).decode(np.array(words, dtype=np.uint16))
    assert math.isnan(values[0])
    assert quality.tolist() == [Quality.INVALID]


@given(st.lists(st.sampled_from(EVERY), min_size=1, max_size=12), st.data())
def test_a_block_reads_like_its_signals_one_by_one(kinds: list[tuple[str, str]], data: st.DataObject) -> None:
    """Decoding many signals together gives what each alone gives."""
    signals, offset = [], 0
    for i, (type_, order) in enumerate(kinds):
        scale = data.draw(st.sampled_from([1.0, 0.1, 0.001, 2.5]))
        signals.append(_signal(f"s{i}", offset, Encoding(type=type_, order=order, scale=scale)))
        offset += width_of(type_)
    words = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=offset, max_size=offset))
    values, _ = BlockDecoder(signals, 0).decode(np.array(words, dtype=np.uint16))
    for signal, value in zip(signals, values.tolist(), strict=True):
        alone = decode(words, signal.encoding, signal.offset)
        assert value == alone or (math.isnan(value) and not math.isfinite(alone))


def test_a_simulator_writes_what_the_gateway_reads() -> None:
    """A signal writes its own value, its map backwards, and its code for "no value"."""
    mode = _signal("mode", 3, Encoding(type="u16"), mapping=((0x55, 0.0), (0xAA, 1.0)))
    level = _signal("level", 4, Encoding(type="i16", scale=0.1), invalid=(0x7FFF,))
    image = np.zeros(8, dtype=np.uint16)
    mode.put(image, 1.0)
    level.put(image, math.nan)
    assert image[3:5].tolist() == [0xAA, 0x7FFF]
    with pytest.raises(ValueError, match="never has the value 7"):
        mode.put(image, 7.0)
