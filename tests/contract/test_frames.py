"""WR1 frames: the bytes two programs of different age and language must agree on."""

from __future__ import annotations

import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchroom.births import Birth
from watchroom.errors import ContractError
from watchroom.frames import (
    FLAG_HEARTBEAT,
    FLAG_SIMULATED,
    FLAG_SNAPSHOT,
    HEADER_BYTES,
    MAX_FRAME,
    MAX_SAMPLES,
    BirthFrame,
    Event,
    EventFrame,
    Header,
    SampleFrame,
    decode,
    decode_header,
    encode_birth,
    encode_events,
    encode_samples,
    peek_header,
)

VECTORS = json.loads(Path(__file__).with_name("wr1.json").read_text(encoding="utf-8"))["frames"]
GOOD = [vector for vector in VECTORS if "error" not in vector]
BAD = [vector for vector in VECTORS if "error" in vector]
BASE = 1_763_800_000_000


def named(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def header(**changes: Any) -> Header:
    values: dict[str, Any] = {
        "kind": "D", "lane": 1, "epoch": 7, "seq": 3, "prev": 2, "base_ms": BASE, "complete_ms": BASE + 5, "schema": 1,
    }  # fmt: skip
    return Header(**values | changes)


headers = st.builds(
    Header,
    kind=st.just("D"),
    lane=st.integers(0, 1),
    flags=st.integers(0, 0xFFFF),
    epoch=st.integers(0, 2**64 - 1),
    seq=st.integers(0, 2**64 - 1),
    prev=st.integers(0, 2**64 - 1),
    base_ms=st.integers(-(2**62), 2**62),
    complete_ms=st.integers(-(2**63), 2**63 - 1),
    schema=st.integers(0, 2**32 - 1),
    clock_gen=st.integers(0, 0xFFFF),
)


def test_there_are_nine_golden_frames() -> None:
    """The independently made vectors are all here: five that decode, four that must be refused."""
    assert (len(GOOD), len(BAD)) == (5, 4)


@pytest.mark.parametrize("vector", GOOD, ids=named)
def test_a_golden_frame_reads_as_its_maker_meant_it(vector: dict[str, Any]) -> None:
    """Another implementation's bytes give the numbers that it wrote down beside them."""
    frame = decode(bytes.fromhex(vector["hex"]))
    wanted, found = vector["header"], frame.header
    assert [found.lane, found.flags, found.epoch, found.seq, found.prev] == [
        wanted["lane"], wanted["flags"], wanted["epoch"], wanted["seq"], wanted["prev"],
    ]  # fmt: skip
    assert [found.base_ms, found.complete_ms, found.schema, found.clock_gen] == [
        wanted["base"], wanted["complete"], wanted["schema"], wanted["gen"],
    ]  # fmt: skip
    if isinstance(frame, SampleFrame):
        assert frame.alias.tolist() == vector["alias"]
        assert [None if math.isnan(value) else value for value in frame.value] == vector["value"]
        assert (frame.time_ms - found.base_ms).tolist() == vector["dt_ms"]
        assert frame.quality.tolist() == vector["quality"]
    elif isinstance(frame, EventFrame):
        rows = [
            {"id": e.id, "kind": e.kind, "equipment": e.equipment, "time_ms": e.time_ms, "seen_ms": e.seen_ms,
             "fields": e.fields}
            for e in frame.events
        ]  # fmt: skip
        assert rows == vector["events"]
    else:
        assert frame.birth == vector["birth"]


@pytest.mark.parametrize("vector", GOOD, ids=named)
def test_we_write_a_golden_frame_byte_for_byte(vector: dict[str, Any]) -> None:
    """What we encode is what everybody else encodes."""
    raw = bytes.fromhex(vector["hex"])
    frame = decode(raw)
    if isinstance(frame, SampleFrame):
        again = encode_samples(
            frame.header, alias=frame.alias, time_ms=frame.time_ms, value=frame.value, quality=frame.quality
        )
    elif isinstance(frame, EventFrame):
        again = encode_events(frame.header, frame.events)
    else:
        again = encode_birth(frame.header, Birth.from_json(frame.birth).to_json())
    assert again == raw


@pytest.mark.parametrize("vector", BAD, ids=named)
def test_a_bad_golden_frame_is_refused_for_its_reason(vector: dict[str, Any]) -> None:
    """A refused frame says why in the one word that counters use."""
    with pytest.raises(ContractError) as caught:
        decode(bytes.fromhex(vector["hex"]))
    assert caught.value.reason == vector["error"]


@given(head=headers, data=st.data(), n=st.integers(0, 300))
def test_samples_come_back_as_they_went(head: Header, data: st.DataObject, n: int) -> None:
    """Encode, decode: every column and every header field of any size is the same, NaN and infinities included."""
    alias = data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=n, max_size=n))
    delta = data.draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=n, max_size=n))
    value = data.draw(st.lists(st.floats(), min_size=n, max_size=n))
    quality = data.draw(st.lists(st.integers(0, 255), min_size=n, max_size=n))
    times = np.array(delta, np.int64) + head.base_ms
    raw = encode_samples(head, alias=alias, time_ms=times, value=value, quality=quality)
    frame = decode(raw)
    assert isinstance(frame, SampleFrame)
    assert len(raw) == HEADER_BYTES + 17 * n + 4
    assert frame.alias.tolist() == alias
    assert frame.time_ms.tolist() == times.tolist()
    assert frame.quality.tolist() == quality
    np.testing.assert_array_equal(frame.value, np.array(value, np.float64))
    assert frame.header == decode_header(raw) == Header(**{**_fields(head), "n": n})


def test_every_size_up_to_the_largest_fits() -> None:
    """Around each edge of size a frame either comes back whole or is refused when it is made."""
    for n in [*range(40), 255, 256, 257, 4095, 4096, MAX_SAMPLES - 1, MAX_SAMPLES]:
        raw = encode_samples(
            header(), alias=np.arange(n), time_ms=np.full(n, BASE), value=np.arange(n), quality=np.zeros(n)
        )
        frame = decode(raw)
        assert isinstance(frame, SampleFrame)
        assert len(raw) <= MAX_FRAME
        assert frame.value.tolist() == list(range(n))
    n = MAX_SAMPLES + 1
    with pytest.raises(ContractError, match="length"):
        encode_samples(header(), alias=np.arange(n), time_ms=np.full(n, BASE), value=np.arange(n), quality=np.zeros(n))


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
events = st.builds(
    Event,
    id=texts,
    kind=texts,
    equipment=st.none() | texts,
    time_ms=st.integers(-(2**53), 2**53),
    seen_ms=st.integers(-(2**53), 2**53),
    fields=st.dictionaries(
        texts, st.none() | st.booleans() | texts | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    ),
)


@given(batch=st.lists(events, max_size=8))
def test_events_come_back_as_they_went(batch: list[Event]) -> None:
    """Any text, Chinese or other, and any JSON field survives the road."""
    frame = decode(encode_events(header(), batch))
    assert isinstance(frame, EventFrame)
    assert frame.events == batch
    assert frame.header.kind == "E"
    assert frame.header.n == len(batch)


@pytest.mark.parametrize("vector", GOOD, ids=named)
def test_every_flipped_bit_is_noticed(vector: dict[str, Any]) -> None:
    """No single wrong bit anywhere in a frame gets through."""
    raw = bytes.fromhex(vector["hex"])
    for bit in range(len(raw) * 8):
        broken = bytearray(raw)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ContractError):
            decode(bytes(broken))


@pytest.mark.parametrize("vector", GOOD, ids=named)
def test_every_truncation_and_every_extra_byte_is_noticed(vector: dict[str, Any]) -> None:
    """A frame cut anywhere, or with something behind it, is refused."""
    raw = bytes.fromhex(vector["hex"])
    for size in range(len(raw)):
        with pytest.raises(ContractError):
            decode(raw[:size])
    for tail in (b"\0", b"\xff", raw[-4:], raw):
        with pytest.raises(ContractError):
            decode(raw + tail)


@settings(max_examples=300)
@given(raw=st.binary(max_size=400))
def test_rubbish_is_refused_and_nothing_else_happens(raw: bytes) -> None:
    """Bytes from anywhere raise ContractError and no other error."""
    with pytest.raises(ContractError):
        decode(raw)


@settings(max_examples=300)
@given(content=st.binary(max_size=200), magic=st.sampled_from([b"WR1E", b"WR1B", b"WR1D"]), n=st.integers(0, 20))
def test_a_right_checksum_around_rubbish_is_refused_too(content: bytes, magic: bytes, n: int) -> None:
    """A sender with a bug has right checksums: its content is still checked."""
    raw = _sealed(magic, content, n)
    reasons = {"length", "json"}
    try:
        assert decode(raw).header.n == n
    except ContractError as exc:
        reasons.discard(exc.reason)
        assert len(reasons) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[1]", "json"),
        (b"[{}]", "json"),
        (b'[{"id":1,"kind":"a","equipment":null,"time_ms":1,"seen_ms":1,"fields":{}}]', "json"),
        (b'[{"id":"1","kind":"a","equipment":7,"time_ms":1,"seen_ms":1,"fields":{}}]', "json"),
        (b'[{"id":"1","kind":"a","equipment":null,"time_ms":true,"seen_ms":1,"fields":{}}]', "json"),
        (b'[{"id":"1","kind":"a","equipment":null,"time_ms":1,"seen_ms":1.5,"fields":{}}]', "json"),
        (b'[{"id":"1","kind":"a","equipment":null,"time_ms":1,"seen_ms":1,"fields":[]}]', "json"),
        (b'[{"id":"1","kind":"a","equipment":null,"time_ms":1,"seen_ms":1,"fields":{"x":NaN}}]', "json"),
        (b'[{"id":"1","kind":"a","equipment":null,"time_ms":1,"seen_ms":1,"fields":{"x":1e999}}]', "json"),
        (b'[{"id":"1","kind":"a","equipment":null,"time_ms":1,"seen_ms":1,"fields":{"x":"\\ud800"}}]', "json"),
        (b'[{"id":"1","kind":"a","equipment":null,"time_ms":1,"seen_ms":1,"fields":{"\\u0000":1}}]', "json"),
        (b'[{"id":"1","kind":"a","equipment":null,"time_ms":1e400,"seen_ms":1,"fields":{}}]', "json"),
        (b'[{"id":"1","kind":"a","equipment":null,"time_ms":90000000000000000,"seen_ms":1,"fields":{}}]', "json"),
        (b'[{"id":"\xff"}]', "json"),
        (b"[]", "length"),
        (b"{}", "length"),
        (b"[" * 150, "json"),
    ],
)
def test_an_event_of_the_wrong_shape_is_refused(content: bytes, reason: str) -> None:
    """Readers of the journal may rely on the types of every event field."""
    with pytest.raises(ContractError) as caught:
        decode(_sealed(b"WR1E", content, 1))
    assert caught.value.reason == reason


def test_a_frame_of_a_newer_version_still_tells_its_number() -> None:
    """A frame that is not understood can be kept, counted and acknowledged."""
    raw = bytes.fromhex(next(vector["hex"] for vector in BAD if vector["error"] == "version"))
    found, version = peek_header(raw)
    assert (version, found.seq, found.epoch) == (9, 42, 0x0123456789ABCDEF)
    with pytest.raises(ContractError, match="version"):
        decode_header(raw)


def test_nan_and_far_times_are_refused_when_the_frame_is_made() -> None:
    """A gateway learns at once that it tries to send what the contract cannot say."""
    with pytest.raises(ValueError, match="JSON"):
        encode_events(header(), [Event(id="1", kind="a", equipment=None, time_ms=1, seen_ms=1, fields={"x": math.nan})])
    with pytest.raises(ValueError, match="24 days"):
        encode_samples(header(), alias=[0], time_ms=[BASE + 2**31], value=[0.0], quality=[0])
    with pytest.raises(ValueError, match="shape"):
        encode_samples(header(), alias=[0, 1], time_ms=[BASE], value=[0.0], quality=[0])
    with pytest.raises(ValueError, match="header"):
        encode_samples(header(seq=-1), alias=[], time_ms=[], value=[], quality=[])


def test_a_frame_says_in_words_what_its_flags_mean() -> None:
    """Snapshot, simulated and heartbeat are questions one can ask a header."""
    plain = header()
    assert [plain.is_snapshot, plain.is_simulated, plain.is_heartbeat] == [False, False, False]
    full = header(flags=FLAG_SNAPSHOT | FLAG_SIMULATED | FLAG_HEARTBEAT)
    assert full.is_snapshot
    assert full.is_simulated
    assert full.is_heartbeat


def test_a_birth_counts_its_signals() -> None:
    """The header of a birth frame says how many signals it announces, and a wrong count is refused."""
    birth = {"signals": [{"alias": 0}, {"alias": 1}]}
    frame = decode(encode_birth(header(kind="B"), birth))
    assert isinstance(frame, BirthFrame)
    assert (frame.header.n, frame.birth) == (2, birth)
    with pytest.raises(ContractError, match="length"):
        decode(_sealed(b"WR1B", json.dumps(birth).encode(), 3))
    with pytest.raises(ContractError, match="json"):
        decode(_sealed(b"WR1B", b"[]", 0))


def _fields(head: Header) -> dict[str, Any]:
    return {name: getattr(head, name) for name in Header.__slots__}


def _sealed(magic: bytes, content: bytes, n: int) -> bytes:
    front = struct.pack("<4sBBHQQQqqIIHHI", magic, 1, 0, 0, 7, 1, 0, BASE, BASE, 1, n, 1, 0, 0) + content
    return front + zlib.crc32(front).to_bytes(4, "little")


@pytest.mark.parametrize(("depth", "passes"), [(60, True), (70, False), (900, False)])
def test_deep_nesting_is_refused_at_the_door(depth: int, passes: bool) -> None:
    """Fields so deep that writing them to a database may fail would stop the engine for ever; sane ones pass."""
    nested: list[Any] = []
    for _ in range(depth - 1):
        nested = [nested]
    raw = encode_events(
        header(), [Event(id="e", kind="access", equipment=None, time_ms=1, seen_ms=1, fields={"a": nested})]
    )
    if passes:
        assert decode(raw)
        return
    with pytest.raises(ContractError, match="json"):
        decode(raw)
