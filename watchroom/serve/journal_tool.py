"""``watchroom journal ls|cat|verify``: look into the journal's files, also while the engine writes them. Read-only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from watchroom.errors import ConfigError, ContractError
from watchroom.frames import BirthFrame, EventFrame, SampleFrame, decode
from watchroom.journal import FileJournal, Record, is_tick

_WIDTH = 10


def open_journal(data: Path) -> FileJournal:
    """Return the journal of a data folder for reading.

    Raises:
        ConfigError: If there is none.
    """
    folder = data / "journal"
    if not folder.is_dir():
        raise ConfigError("there is no journal in this folder", path=folder, hint="name the data folder with --data")
    return FileJournal(folder, read_only=True, is_quiet=True)


def choose_site(journal: FileJournal, site: str | None) -> str:
    """Return the site meant.

    Raises:
        ConfigError: If it is not there, or several are and none was named.
    """
    sites = journal.sites()
    if site is None and len(sites) == 1:
        return sites[0]
    if site not in sites:
        problem = "several sites are here" if site is None else f"there is no journal of {site!r}"
        raise ConfigError(problem, key="--site", hint=", ".join(sites) or "the journal is empty")
    return site


def list_lines(journal: FileJournal) -> Iterator[str]:
    """Yield what there is of each site: records, bytes, times, and how far its readers are."""
    for site in journal.sites():
        begin, end = journal.begin(site), journal.end(site)
        first, last = journal.read(site, begin, max_bytes=1), journal.read(site, max(begin, end - 1), max_bytes=1)
        yield f"{site}"
        yield f"  records   {end - begin:>{_WIDTH}}   {begin} .. {end - 1}" if end > begin else "  records            0"
        yield f"  bytes     {journal.size(site):>{_WIDTH}}"
        if first and last:
            yield f"  time      {_time(first[0].arrived_ms)} .. {_time(last[-1].arrived_ms)}"
        for reader, offset in journal.checkpoints(site).items():
            behind = max(0, end - max(offset, begin))
            yield f"  reader    {reader:>{_WIDTH}}   at {offset}, {behind} behind"


def records_of(
    journal: FileJournal, site: str, *, start: int | None, gateway: str | None, count: int | None
) -> Iterator[Record]:
    """Yield records in order.

    Args:
        journal: Opened for reading.
        site: The site.
        start: First offset; None: from the oldest. Negative: so many before the end.
        gateway: Only its records; ``tick`` for those of the clock.
        count: At most so many.
    """
    end = journal.end(site)
    offset = journal.begin(site) if start is None else max(0, end + start) if start < 0 else start
    left = end if count is None else count
    while offset < end and left > 0 and (records := journal.read(site, offset)):
        for record in records:
            if left > 0 and (gateway is None or gateway == (record.gateway or "tick")):
                left -= 1
                yield record
        offset = records[-1].offset + 1


def line_of(record: Record) -> str:
    """Return one record as a line for people."""
    front = f"{record.offset} {_time(record.arrived_ms)} {record.gateway or '-'}"
    if is_tick(record):
        return f"{front} tick"
    try:
        header = decode(record.payload).header
    except ContractError as exc:
        return f"{front} unreadable: {exc} ({len(record.payload)} bytes)"
    kind = (
        "heartbeat"
        if header.is_heartbeat and not header.n
        else {"D": "samples", "E": "events"}.get(header.kind, "birth")
    )
    count = f" n {header.n}" if kind != "heartbeat" else ""
    return (
        f"{front} {kind} lane {header.lane} seq {header.seq} schema {header.schema}{count} {len(record.payload)} bytes"
    )


def json_of(record: Record) -> dict[str, Any]:
    """Return one record with its whole content, as JSON can hold it."""
    content: dict[str, Any] = {
        "offset": record.offset,
        "arrived_ms": record.arrived_ms,
        "gateway": record.gateway,
        "kind": "tick",
    }
    if is_tick(record):
        return content
    try:
        frame = decode(record.payload)
    except ContractError as exc:
        return content | {"kind": "unreadable", "problem": str(exc), "payload": record.payload.hex()}
    header = frame.header
    content |= {
        "lane": header.lane,
        "epoch": f"{header.epoch:016x}",
        "seq": header.seq,
        "prev": header.prev,
        "complete_ms": header.complete_ms,
        "schema": header.schema,
        "flags": header.flags,
    }
    if isinstance(frame, SampleFrame):
        values = [None if value != value else value for value in frame.value.tolist()]
        rows = zip(frame.alias.tolist(), frame.time_ms.tolist(), values, frame.quality.tolist(), strict=True)
        return content | {"kind": "samples", "samples": [list(row) for row in rows]}
    if isinstance(frame, EventFrame):
        names = ("id", "kind", "equipment", "time_ms", "seen_ms", "fields")
        return content | {"kind": "events", "events": [{k: getattr(e, k) for k in names} for e in frame.events]}
    assert isinstance(frame, BirthFrame)
    return content | {"kind": "birth", "birth": frame.birth}


def verify_lines(journal: FileJournal, site: str) -> tuple[list[str], bool]:
    """Read a whole journal; return what was found, and whether all of it is whole.

    Every record's checksum is looked at, and whether it decodes as a frame.
    """
    begin, end = journal.begin(site), journal.end(site)
    records = unreadable = 0
    holes: list[tuple[int, int]] = []
    expected = begin
    while expected < end and (found := journal.read(site, expected)):
        for record in found:
            if record.offset > expected:
                holes.append((expected, record.offset - 1))
            expected = record.offset + 1
            records += 1
            unreadable += not is_tick(record) and not _decodes(record)
    if expected < end:
        holes.append((expected, end - 1))
    lines = [f"{site}: {records} records of {end - begin} are whole"]
    lines += [f"damaged: {a} .. {b} ({b - a + 1} records)" for a, b in holes]
    if unreadable:
        lines.append(f"whole records that are no frame: {unreadable}")
    return lines, not holes and not unreadable


def dump(content: dict[str, Any]) -> str:
    """Return one line of JSON."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _decodes(record: Record) -> bool:
    try:
        decode(record.payload)
    except ContractError:
        return False
    return True


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}Z"
