"""WR1 frames: bytes <-> columns of samples, events or a birth. Pure."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from watchroom.errors import ContractError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
U8 = npt.NDArray[np.uint8]
FrameKind = Literal["D", "E", "B"]

FLAG_SNAPSHOT = 1
FLAG_SIMULATED = 2
FLAG_HEARTBEAT = 4
MAX_FRAME = 256 * 1024
MAX_DEPTH = 64
"""Lists and objects within each other: what one reader can just take, a deeper caller must be able to take too."""
"""Largest frame in bytes, trailer included."""
VERSION = 1
HEADER_BYTES = 64
TRAILER_BYTES = 4
SAMPLE_BYTES = 17
MAX_SAMPLES = (MAX_FRAME - HEADER_BYTES - TRAILER_BYTES) // SAMPLE_BYTES
"""Most samples that fit one frame."""

_HEADER = struct.Struct("<4sBBHQQQqqIIHHI")
_CRC = struct.Struct("<I")
_MAGIC: dict[FrameKind, bytes] = {"D": b"WR1D", "E": b"WR1E", "B": b"WR1B"}
_KIND: dict[bytes, FrameKind] = {magic: kind for kind, magic in _MAGIC.items()}
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The 64 bytes in front of every frame.

    Attributes:
        kind: ``D`` samples, ``E`` events, ``B`` a birth.
        lane: 0 urgent, 1 telemetry.
        flags: FLAG_SNAPSHOT | FLAG_SIMULATED | FLAG_HEARTBEAT.
        epoch: Random number of the outbox, 64 bits.
        seq: Number of the outbox record from 1; 0 for heartbeats, which are none.
        prev: seq of the lane's previous frame; 0 starts a new chain.
        base_ms: Zero of the samples' times, UTC ms.
        complete_ms: This lane has measured everything up to here, gateway's clock, UTC ms.
        schema: Number of the birth that explains the aliases.
        n: Samples, events, or signals of a birth. The encoders count themselves.
        clock_gen: Grows with each step of the gateway's clock of more than 2 s.
    """

    kind: FrameKind
    lane: int
    epoch: int
    seq: int
    base_ms: int
    complete_ms: int
    schema: int
    flags: int = 0
    prev: int = 0
    n: int = 0
    clock_gen: int = 1

    @property
    def is_snapshot(self) -> bool:
        """Whether the frame holds every signal of its lane."""
        return bool(self.flags & FLAG_SNAPSHOT)

    @property
    def is_simulated(self) -> bool:
        """Whether the frame comes from simulated equipment or a drill."""
        return bool(self.flags & FLAG_SIMULATED)

    @property
    def is_heartbeat(self) -> bool:
        """Whether the frame only moves complete_ms and is no outbox record."""
        return bool(self.flags & FLAG_HEARTBEAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, with fields.

    Attributes:
        id: Unique within the gateway, used against duplicates.
        equipment: Equipment id, None when it concerns none (``loss``).
        time_ms: The device's own clock, UTC ms.
        seen_ms: The gateway's clock when it took the event, UTC ms.
        fields: JSON object by kind, see the contract.
    """

    id: str
    kind: str
    equipment: str | None
    time_ms: int
    seen_ms: int
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleFrame:
    """Samples as columns, each of shape (n,).

    Attributes:
        alias: Numbers of the birth's signals; a read-only view of the payload, as are value and quality.
        time_ms: UTC ms.
        value: In the signal's unit; NaN where there is none.
        quality: As in `watchroom.signals.Quality`.
    """

    header: Header
    alias: U32
    time_ms: I64
    value: F64
    quality: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFrame:
    """A batch of events in the order in which the gateway committed them."""

    header: Header
    events: list[Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class BirthFrame:
    """A birth as it travels in the outbox; `watchroom.births.Birth` checks its content."""

    header: Header
    birth: dict[str, Any]


Frame = SampleFrame | EventFrame | BirthFrame


def encode_samples(
    header: Header, *, alias: npt.ArrayLike, time_ms: npt.ArrayLike, value: npt.ArrayLike, quality: npt.ArrayLike
) -> bytes:
    """Return a WR1D frame.

    Args:
        header: kind and n are taken from the columns.
        alias: Shape (n,), 0 .. 2**32 - 1.
        time_ms: Shape (n,), UTC ms, within 24 days of header.base_ms.
        value: Shape (n,); NaN means no value.
        quality: Shape (n,).

    Raises:
        ValueError: If the shapes differ or a time is too far from the base.
        ContractError: ``length`` if the frame would be too large.
    """
    values = np.asarray(value, dtype="<f8")
    aliases = np.asarray(alias, dtype="<u4")
    qualities = np.asarray(quality, dtype="u1")
    delta = np.asarray(time_ms, dtype=np.int64) - header.base_ms
    n = len(values)
    if not (aliases.shape == delta.shape == qualities.shape == values.shape == (n,)):
        raise ValueError("alias, time_ms, value and quality must have one shape (n,)")
    if n and (delta.min() < _INT32.min or delta.max() > _INT32.max):
        raise ValueError("a sample is more than 24 days away from base_ms")
    body = (values.tobytes(), aliases.tobytes(), delta.astype("<i4").tobytes(), qualities.tobytes())
    return _seal("D", header, n, b"".join(body))


def encode_events(header: Header, events: Sequence[Event]) -> bytes:
    """Return a WR1E frame; header.kind and header.n are taken from the events.

    Raises:
        ValueError: If a field is NaN or cannot stand in JSON.
        ContractError: ``length`` if the frame would be too large.
    """
    rows = [
        {
            "id": event.id,
            "kind": event.kind,
            "equipment": event.equipment,
            "time_ms": event.time_ms,
            "seen_ms": event.seen_ms,
            "fields": event.fields,
        }
        for event in events
    ]
    return _seal("E", header, len(rows), _to_json(rows))


def encode_birth(header: Header, birth: dict[str, Any]) -> bytes:
    """Return a WR1B frame; header.n becomes the number of the birth's signals.

    Raises:
        ValueError: If the birth cannot stand in JSON.
        ContractError: ``length`` if the frame would be too large.
    """
    return _seal("B", header, len(birth.get("signals", ())), _to_json(birth))


def peek_header(payload: bytes) -> tuple[Header, int]:
    """Return (header, version) of a whole frame of any version.

    The header keeps its layout in every version, so that a frame which is not understood
    can still be kept, counted and acknowledged.

    Raises:
        ContractError: ``length``, ``magic`` or ``crc``.
    """
    size = len(payload)
    if size < HEADER_BYTES + TRAILER_BYTES or size > MAX_FRAME:
        raise ContractError("length", f"{size} bytes")
    (magic, version, lane, flags, epoch, seq, prev, base, complete, schema, n, gen, _, _) = _HEADER.unpack_from(payload)
    kind = _KIND.get(magic)
    if kind is None:
        raise ContractError("magic", repr(magic))
    # before the checksum: a frame cut short shall be told as such
    if version == VERSION and kind == "D" and size != HEADER_BYTES + n * SAMPLE_BYTES + TRAILER_BYTES:
        raise ContractError("length", f"{size} bytes cannot hold {n} samples")
    if _CRC.unpack_from(payload, size - TRAILER_BYTES)[0] != zlib.crc32(memoryview(payload)[:-TRAILER_BYTES]):
        raise ContractError("crc")
    header = Header(
        kind=kind,
        lane=lane,
        flags=flags,
        epoch=epoch,
        seq=seq,
        prev=prev,
        base_ms=base,
        complete_ms=complete,
        schema=schema,
        n=n,
        clock_gen=gen,
    )
    return header, version


def decode_header(payload: bytes) -> Header:
    """Return the header of a whole frame after checking checksum, length, version and magic.

    Raises:
        ContractError: ``length``, ``magic``, ``crc`` or ``version``.
    """
    header, version = peek_header(payload)
    if version != VERSION:
        raise ContractError("version", f"version {version} is not known here")
    return header


def decode(payload: bytes) -> Frame:
    """Return the content of a frame.

    Raises:
        ContractError: ``length``, ``magic``, ``crc``, ``version`` or ``json``.
    """
    return decode_body(payload, decode_header(payload))


def decode_body(payload: bytes, header: Header) -> Frame:
    """Return the content of a frame whose header was decoded, and so checked, before.

    Raises:
        ContractError: ``length`` or ``json``.
    """
    if header.kind == "D":
        return _samples(header, payload)
    content = _from_json(payload)
    if header.kind == "E":
        if not isinstance(content, list) or len(content) != header.n:
            raise ContractError("length", f"not an array of {header.n} events")
        return EventFrame(header=header, events=[_event(row) for row in content])
    if not isinstance(content, dict):
        raise ContractError("json", "a birth is an object")
    signals = content.get("signals")
    if not isinstance(signals, list) or len(signals) != header.n:
        raise ContractError("length", f"not a birth of {header.n} signals")
    return BirthFrame(header=header, birth=content)


def _seal(kind: FrameKind, header: Header, n: int, body: bytes) -> bytes:
    size = HEADER_BYTES + len(body) + TRAILER_BYTES
    if size > MAX_FRAME:
        raise ContractError("length", f"{size} bytes are more than {MAX_FRAME}")
    head = replace(header, kind=kind, n=n)
    try:
        packed = _HEADER.pack(
            _MAGIC[kind],
            VERSION,
            head.lane,
            head.flags,
            head.epoch,
            head.seq,
            head.prev,
            head.base_ms,
            head.complete_ms,
            head.schema,
            n,
            head.clock_gen,
            0,
            0,
        )
    except struct.error as exc:
        raise ValueError(f"a number does not fit the header: {exc}") from exc
    front = packed + body
    return front + _CRC.pack(zlib.crc32(front))


def _samples(header: Header, payload: bytes) -> SampleFrame:
    n, at = header.n, HEADER_BYTES
    delta = np.frombuffer(payload, "<i4", n, at + 12 * n)
    return SampleFrame(
        header=header,
        value=np.frombuffer(payload, "<f8", n, at),
        alias=np.frombuffer(payload, "<u4", n, at + 8 * n),
        time_ms=delta.astype(np.int64) + header.base_ms,
        quality=np.frombuffer(payload, "u1", n, at + 16 * n),
    )


def _event(row: object) -> Event:
    if not isinstance(row, dict):
        raise ContractError("json", "an event is an object")
    try:
        event = Event(
            id=row["id"],
            kind=row["kind"],
            equipment=row.get("equipment"),
            time_ms=row["time_ms"],
            seen_ms=row["seen_ms"],
            fields=row.get("fields", {}),
        )
    except KeyError as exc:
        raise ContractError("json", f"an event lacks {exc}") from exc
    texts = isinstance(event.id, str) and isinstance(event.kind, str) and isinstance(event.fields, dict)
    # bool is an int in Python, but not a time
    times = all(type(time_ms) is int and abs(time_ms) <= 1 << 53 for time_ms in (event.time_ms, event.seen_ms))
    if not (texts and times and (event.equipment is None or isinstance(event.equipment, str))):
        raise ContractError("json", f"event {event.id!r} has a field of the wrong type")
    return event


def _to_json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _from_json(payload: bytes) -> object:
    try:
        content = json.loads(str(memoryview(payload)[HEADER_BYTES:-TRAILER_BYTES], "utf-8"), parse_constant=_refuse)
        _check_storable(content)
    except (ValueError, RecursionError) as exc:
        raise ContractError("json", str(exc)) from exc
    return content


def _check_storable(content: object, depth: int = 0) -> None:
    """Refuse what JSON can say and a database cannot keep: half characters, NUL, infinite numbers, deep nesting."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(content, str):
        if "\0" in content:
            raise ValueError("a text holds NUL")
        content.encode()
    elif isinstance(content, float):
        if content in (math.inf, -math.inf):
            raise ValueError("a number is too large")
    elif isinstance(content, dict):
        for key, value in content.items():
            _check_storable(key)
            _check_storable(value, depth + 1)
    elif isinstance(content, list):
        for value in content:
            _check_storable(value, depth + 1)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
