"""Which frames of each gateway have been received: the sets behind every acknowledgement.

The journal is the truth. A snapshot remembers the sets up to an offset; what the journal holds after it is
read again at the start. So the sets never know more, or less, than the journal.
"""

from __future__ import annotations

import json
from pathlib import Path

import structlog

from ingest.intake import loss_ranges
from watchroom.births import format_epoch, parse_epoch
from watchroom.disk import Disk, replace_file
from watchroom.errors import ContractError
from watchroom.frames import EventFrame, decode, peek_header
from watchroom.intervals import IntervalSet, Range
from watchroom.journal import Journal, Record

log = structlog.get_logger(__name__)

EPOCHS_KEPT = 4
"""Epochs remembered for each gateway; an older one comes from an outbox that was thrown away long ago."""


class Ledger:
    """Interval sets by gateway and epoch of one site.

    Args:
        path: Where the snapshot is kept.
        disk: File operations.
    """

    def __init__(self, path: Path, *, disk: Disk) -> None:
        self._path, self._disk = path, disk
        self._sets: dict[str, dict[int, IntervalSet]] = {}
        self.offset = 0

    def load(self, journal: Journal, site: str) -> int:
        """Rebuild the sets from the snapshot and the journal after it; return the records read."""
        self._read_snapshot()
        end = journal.end(site)
        if self.offset > end:
            log.error("snapshot of received frames is ahead of the journal", snapshot=self.offset, end=end)
            self.offset = end
        count = 0
        while records := journal.read(site, self.offset):
            for record in records:
                self._replay(record)
            self.offset = records[-1].offset + 1
            count += len(records)
        return count

    def save(self, offset: int) -> None:
        """Keep the sets durably; they hold what the journal holds before offset."""
        rows = {
            gateway: [[format_epoch(epoch), row.to_json()] for epoch, row in epochs.items()]
            for gateway, epochs in self._sets.items()
        }
        self._disk.make_folder(self._path.parent)
        replace_file(self._disk, self._path, json.dumps({"offset": offset, "received": rows}).encode())
        self.offset = offset

    def of(self, gateway: str, epoch: int) -> IntervalSet:
        """Return the set of one outbox; making it pushes out the oldest one of the gateway."""
        epochs = self._sets.setdefault(gateway, {})
        found = epochs.get(epoch)
        if found is None:
            while len(epochs) >= EPOCHS_KEPT:
                del epochs[next(iter(epochs))]
            found = epochs[epoch] = IntervalSet()
        return found

    def has(self, gateway: str, epoch: int, seq: int) -> bool:
        """Whether a frame was received before."""
        found = self._sets.get(gateway, {}).get(epoch)
        return found is not None and seq in found

    def add(self, gateway: str, epoch: int, ranges: list[Range]) -> None:
        """Enter numbers as received."""
        found = self.of(gateway, epoch)
        for a, b in ranges:
            found.add(a, b)

    def newest(self) -> dict[str, int]:
        """Return the newest epoch of each gateway."""
        return {gateway: next(reversed(epochs)) for gateway, epochs in list(self._sets.items()) if epochs}

    def _read_snapshot(self) -> None:
        try:
            content = json.loads(self._disk.read(self._path))
            rows = {
                gateway: {parse_epoch(epoch): IntervalSet.from_json(row) for epoch, row in epochs}
                for gateway, epochs in content["received"].items()
            }
            self._sets, self.offset = rows, int(content["offset"])
        except FileNotFoundError:
            self._sets, self.offset = {}, 0
        except (ValueError, KeyError, TypeError, AttributeError, ContractError) as exc:
            # the journal still knows what it holds; what was trimmed from it comes again and is stored twice
            log.error("snapshot of received frames is damaged", path=str(self._path), error=str(exc))
            self._sets, self.offset = {}, 0

    def _replay(self, record: Record) -> None:
        if not record.gateway:
            return
        try:
            header, _ = peek_header(record.payload)
            if header.seq == 0:
                return
            ranges: list[Range] = [[header.seq, header.seq]]
            if header.kind == "E":
                frame = decode(record.payload)
                assert isinstance(frame, EventFrame)
                ranges += [row for event in frame.events for row in loss_ranges(event)]
        except ContractError as exc:
            log.error("journal holds a frame that does not decode", offset=record.offset, reason=exc.reason)
            return
        self.add(record.gateway, header.epoch, ranges)
