"""What proves that nothing was lost or doubled: outbox files, journal, history and SQL read after the harm was done."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from alarms.evaluator import Evaluator
from alarms.judged import Change, Judged
from alarms.rules import compile_rules
from alarms.store import broken_alarm_event, occurrence_id
from alarms.templates import load_templates
from alarms.tickets import OPEN_STATES, broken_ticket_event
from gateway.segment import FRAME, scan
from ingest.duckdb_store import DuckStore
from watchroom.births import BirthStore
from watchroom.centre import CENTRE
from watchroom.database.connect import open_database, reading
from watchroom.database.tables import access_event, alarm, alarm_event, position, ticket, ticket_event
from watchroom.frames import EventFrame, SampleFrame, decode, decode_header
from watchroom.journal import FileJournal, Record
from watchroom.site import load_site

Key = tuple[str, int, int]
"""(gateway, epoch, seq): the name of one outbox record."""
END_MS, PAGE = 1 << 42, 100_000
Sample = tuple[int, bytes]
"""(time_ms, value and quality as bytes): NaN compares like any other."""


def digest(payload: bytes) -> bytes:
    """Return a frame's fingerprint; its CRC would be no good, it is the same for everything that ends with its CRC."""
    return hashlib.blake2b(payload, digest_size=16).digest()


def outbox_records(folder: Path, gateway: str) -> dict[Key, bytes]:
    """Return the frames in an outbox's files and the checksum of each; the gateway must not be running."""
    found: dict[Key, bytes] = {}
    for path in sorted((folder / "gateway" / gateway / "outbox").glob("*.log")):
        for record in scan(path.read_bytes()):
            if record.kind == FRAME:
                found[gateway, decode_header(record.payload).epoch, record.seq] = digest(record.payload)
    return found


def journal_records(data: Path, site: str) -> list[Record]:
    """Return everything in a journal that nobody writes at the moment, or that is still growing."""
    journal = FileJournal(data / "journal", read_only=True)
    records: list[Record] = []
    while batch := journal.read(site, records[-1].offset + 1 if records else journal.begin(site)):
        records += batch
    return records


def numbered(records: Sequence[Record]) -> Iterator[tuple[Key, Record]]:
    """Yield the records that come from an outbox: no ticks, no heartbeats."""
    for record in records:
        if record.gateway and (header := decode_header(record.payload)).seq:
            yield (record.gateway, header.epoch, header.seq), record


def check_journal(records: Sequence[Record], committed: dict[Key, bytes], *, may_skip: bool = False) -> None:
    """Everything committed is in the journal with the same bytes, each number once and none left out.

    After a power cut (``may_skip``) a number may be missing for ever: two lanes have two files, and the later number
    can have reached the disk while the earlier one, never called committed, did not.
    """
    times = Counter(key for key, _ in numbered(records))
    assert not {key: n for key, n in times.items() if n > 1}, "frames stand twice in the journal"
    stored = {key: digest(record.payload) for key, record in numbered(records)}
    assert not committed.keys() - stored.keys(), "committed to the outbox, and not in the journal"
    assert not [key for key, content in committed.items() if stored[key] != content], "one number, two contents"
    for epoch in {key[:2] for key in stored}:
        seqs = sorted(key[2] for key in stored if key[:2] == epoch)
        assert may_skip or seqs == list(range(1, len(seqs) + 1)), f"gaps in {epoch}"
    assert not [event for event in journal_events(records) if event[1] == "loss"]


def journal_events(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return (event id, kind) of every event."""
    found = []
    for _, record in numbered(records):
        frame = decode(record.payload)
        if isinstance(frame, EventFrame):
            found += [(event.id, event.kind) for event in frame.events]
    return found


def journal_samples(records: Sequence[Record], births: BirthStore, site: str) -> dict[str, Counter[Sample]]:
    """Return the samples of each signal by the births."""
    found: dict[str, Counter[Sample]] = {}
    for (gateway, epoch, _), record in numbered(records):
        frame = decode(record.payload)
        if not isinstance(frame, SampleFrame):
            continue
        birth = births.get(site, gateway, epoch, frame.header.schema)
        assert birth is not None
        rows = zip(
            frame.alias.tolist(), frame.time_ms.tolist(), frame.value.tolist(), frame.quality.tolist(), strict=True
        )
        for alias, time_ms, value, quality in rows:
            found.setdefault(birth.signals[alias].key, Counter())[time_ms, struct.pack("<dB", value, quality)] += 1
    return found


def stored_samples(path: Path) -> tuple[dict[str, Counter[Sample]], int]:
    """Return the samples of each signal in the history, and its journal position."""
    found: dict[str, Counter[Sample]] = {}
    store = DuckStore(path)
    store.open()
    try:
        # what the centre says about itself has no number, so nothing proves it
        keys = store.keys()
        for key in [key for key in keys if not key.startswith(f"{CENTRE}/")]:
            start_ms: int | None = 0
            while start_ms is not None:
                page = store.samples(key, start_ms=start_ms, end_ms=END_MS, limit=PAGE)
                for time_ms, value, quality in zip(
                    page.time_ms.tolist(), page.value.tolist(), page.quality.tolist(), strict=True
                ):
                    found.setdefault(key, Counter())[time_ms, struct.pack("<dB", value, quality)] += 1
                start_ms = page.next_ms
        return found, store.position()
    finally:
        store.close()


def check_history(data: Path, site: str, records: Sequence[Record]) -> int:
    """The history holds exactly the samples of the journal up to its position; returns how many."""
    stored, offset = stored_samples(data / "history.duckdb")
    expected = journal_samples([row for row in records if row.offset < offset], BirthStore(data / "births"), site)
    assert stored.keys() == expected.keys()
    for key, samples in expected.items():
        assert stored[key] == samples, f"{key}: {stored[key] - samples} too much, {samples - stored[key]} missing"
    assert not [row for row in numbered(records) if row[1].offset >= offset], "history did not reach the end"
    return sum(counts.total() for counts in stored.values())


def judged_offline(site_folder: Path, births: BirthStore, records: Sequence[Record]) -> Judged:
    """Return what a judge that nobody ever killed says about a journal."""
    site = load_site(site_folder)
    evaluator = Evaluator(compile_rules(site, load_templates()), births, site.id)
    for record in records:
        evaluator.feed(record)
    return evaluator.evaluate()


def check_alarms(url: str, site: str, judged: Judged, *, records: Sequence[Record]) -> int:
    """Alarms and their journal in SQL are those of the offline judge; returns how many occurrences there are."""
    changes = {change.value for change in Change}
    with reading(open_database(url)) as connection:
        reached = connection.execute(select(position.c.committed).where(position.c.partition == site)).scalar_one()
        assert not [row for row in numbered(records) if row[1].offset >= reached], "the judge did not reach the end"
        ids = list(connection.execute(select(alarm.c.id).where(alarm.c.site == site)).scalars())
        rows = connection.execute(select(alarm_event).where(alarm_event.c.kind.in_(changes))).mappings()
        live = Counter((row["kind"], row["row"], row["event_ms"]) for row in rows)
        assert broken_alarm_event(connection, site) is None
    due = [item for item in judged.transitions if item.offset < reached]
    offline = Counter((item.kind.value, item.row.key, item.event_ms) for item in due)
    # two cards refused in one millisecond are one occurrence: row and time are what it is known by
    offline.update({key: 1 - count for key, count in offline.items() if key[0] == Change.RAISE.value})
    raised = {occurrence_id(item.row, item.event_ms) for item in due if item.kind is Change.RAISE}
    assert len(ids) == len(set(ids))
    assert set(ids) == raised, f"{len(set(ids) - raised)} too many, {len(raised - set(ids))} missing"
    assert live == offline, f"{live - offline} too many, {offline - live} missing"
    return len(ids)


def check_tickets(url: str, site: str) -> int:
    """No work twice, no number twice, every history whole; returns how many tickets there are."""
    with reading(open_database(url)) as connection:
        rows: list[Any] = list(connection.execute(select(ticket).where(ticket.c.site == site)).mappings())
        broken = [row["number"] for row in rows if broken_ticket_event(connection, row["id"]) is not None]
    assert not broken
    work = Counter((row["equipment"], row["fault"], row["type"]) for row in rows if row["state"] in OPEN_STATES)
    assert not [key for key, n in work.items() if n > 1], "two open tickets for one fault"
    assert len({row["number"] for row in rows}) == len(rows)
    numbers = sorted(int(row["number"].rpartition("-")[2]) for row in rows)
    assert len(set(numbers)) == len(numbers)
    return len(rows)


def check_accesses(url: str, site: str, expected: set[str], records: Sequence[Record]) -> None:
    """Every swipe that its reader was answered for is in SQL once, and nothing that the journal does not hold."""
    with reading(open_database(url)) as connection:
        ids = list(connection.execute(select(access_event.c.event_id).where(access_event.c.site == site)).scalars())
    assert len(ids) == len(set(ids))
    assert not expected - set(ids), "answered for, and not in the access log"
    assert set(ids) == {event_id for event_id, _ in journal_events(records)}


def check_actions(url: str, *, acked: Sequence[str], cancelled: Sequence[tuple[str, str]]) -> None:
    """What a person was told to be done was done once."""
    with reading(open_database(url)) as connection:
        rows = connection.execute(
            select(alarm_event.c.alarm_id, alarm_event.c.is_accepted).where(alarm_event.c.kind == "ACK")
        )
        acks = Counter(row.alarm_id for row in rows if row.is_accepted)
        steps = connection.execute(select(ticket_event.c.ticket_id, ticket_event.c.idempotency_key))
        done = Counter((row.ticket_id, row.idempotency_key) for row in steps)
    assert {alarm_id: acks[alarm_id] for alarm_id in acked} == dict.fromkeys(acked, 1)
    assert {pair: done[pair] for pair in cancelled} == dict.fromkeys(cancelled, 1)
