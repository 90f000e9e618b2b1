"""What a frame must be before it may enter the journal. Pure.

Readers of the journal trust it: whatever stands there decodes, has a birth, and its aliases exist.
"""

from __future__ import annotations

from watchroom.births import Birth
from watchroom.errors import ContractError
from watchroom.frames import VERSION, BirthFrame, Event, Frame, Header, SampleFrame, peek_header
from watchroom.intervals import Range
from watchroom.signals import Quality

_WORST = max(Quality)


def check_header(payload: bytes) -> tuple[Header, bool]:
    """Return (header, whether this version is understood) of a frame from outside.

    Raises:
        ContractError: If nothing in the frame can be trusted, not even its number.
    """
    header, version = peek_header(payload)
    if header.lane > 1:
        raise ContractError("lane", f"lane {header.lane}")
    if header.is_heartbeat != (header.seq == 0):
        raise ContractError("seq", f"seq {header.seq} with flags {header.flags}")
    if header.is_heartbeat and (header.n or header.kind != "D"):
        raise ContractError("seq", "a heartbeat carries nothing")
    return header, version == VERSION


def check_content(frame: Frame, *, gateway: str, birth: Birth | None) -> None:
    """Check a frame against the birth that explains it.

    Args:
        frame: The decoded frame.
        gateway: Who sent it, from the topic.
        birth: The birth of the frame's epoch and schema; for a birth frame the birth itself.

    Raises:
        ContractError: ``birth``, ``alias``, ``quality`` or ``loss``.
    """
    header = frame.header
    if isinstance(frame, BirthFrame):
        if birth is None or (birth.gateway, birth.epoch, birth.schema) != (gateway, header.epoch, header.schema):
            raise ContractError("birth", f"this birth does not belong to {gateway} and its frame")
    elif isinstance(frame, SampleFrame):
        if header.n and birth is not None and int(frame.alias.max()) >= len(birth.signals):
            raise ContractError("alias", f"alias {int(frame.alias.max())} of {len(birth.signals)} signals")
        if header.n and int(frame.quality.max()) > _WORST:
            raise ContractError("quality", f"quality {int(frame.quality.max())}")
    else:
        for event in frame.events:
            loss_ranges(event)


def loss_ranges(event: Event) -> list[Range]:
    """Return the numbers of an epoch that a ``loss`` event gives up; none for other events.

    Raises:
        ContractError: ``loss`` if its ranges are none.
    """
    if event.kind != "loss":
        return []
    ranges = event.fields.get("ranges", [])
    if not isinstance(ranges, list):
        raise ContractError("loss", "ranges is no list")
    for row in ranges:
        if not (isinstance(row, list) and len(row) == 2 and all(type(x) is int for x in row) and 1 <= row[0] <= row[1]):
            raise ContractError("loss", f"{row!r} is no range")
    return ranges
