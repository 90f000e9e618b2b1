"""The file journal: one folder a site, segments in it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

from watchroom.disk import Disk, RealDisk, replace_file
from watchroom.errors import StoreError
from watchroom.journal.follower import PartitionFollower
from watchroom.journal.record import Record, Unread
from watchroom.journal.writer import PartitionWriter

_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
DURABLE_READERS = ("ingest", "alarms", "history")
RECORDS_PER_S = 1 << 20
"""More records a second than one site will ever have: numbers of a later journal lie beyond those of an earlier one."""


def fresh_offset(now_ms: int) -> int:
    """Return the first offset of a journal that is begun now, UTC ms; below 2**53 until the year 2242."""
    return max(now_ms, 0) // 1000 * RECORDS_PER_S


class FileJournal:
    """A `Journal` in files.

    Args:
        folder: Holds a folder for each site.
        disk: File operations.
        read_only: Follow files that another process writes.
        segment_bytes: Size after which a new segment is begun; the unit of trimming.
        tail_bytes: Newest payload bytes of a site kept in memory for readers.
        durable_readers: Nothing is trimmed before all of these have passed it.
        begins_at: Gives the first offset of a site that has no journal yet; default 0. With `fresh_offset` a
            journal that was wiped goes on beyond every position of the old one, so no reader mixes the two up.
        is_quiet: With read_only: damage is counted but not logged.
    """

    def __init__(
        self,
        folder: Path,
        *,
        disk: Disk | None = None,
        read_only: bool = False,
        segment_bytes: int = 64 << 20,
        tail_bytes: int = 8 << 20,
        durable_readers: tuple[str, ...] = DURABLE_READERS,
        begins_at: Callable[[], int] | None = None,
        is_quiet: bool = False,
    ) -> None:
        self._folder, self._read_only = folder, read_only
        self._disk: Disk = RealDisk() if disk is None else disk
        self._segment_bytes, self._tail_bytes = segment_bytes, tail_bytes
        self._durable_readers = durable_readers
        self._begins_at = begins_at or (lambda: 0)
        self._is_quiet = is_quiet
        self._lock = threading.Lock()
        self._writers: dict[str, PartitionWriter] = {}
        self._followers: dict[str, PartitionFollower] = {}
        self._checkpoints: dict[tuple[str, str], int] = {}

    def append(self, site: str, gateway: str, payload: bytes, *, arrived_ms: int) -> int:
        """Append a record; see `Journal.append`."""
        return self._writer(site).append(gateway, payload, arrived_ms=arrived_ms)

    def sync(self, site: str) -> int:
        """Make everything appended durable; see `Journal.sync`."""
        return self._writer(site).sync()

    def begin(self, site: str) -> int:
        """Return the oldest offset still kept."""
        return self._partition(site).begin

    def end(self, site: str) -> int:
        """Return the offset after the newest record that readers may see."""
        return self._partition(site).end

    def read(self, site: str, offset: int, *, max_bytes: int = 1 << 20) -> list[Record]:
        """Return the next records from an offset on; see `Journal.read`."""
        return self._partition(site).read(offset, max_bytes)

    def wait(self, site: str, offset: int, timeout_s: float) -> bool:
        """Block until the end passes offset; see `Journal.wait`."""
        return self._partition(site).wait(offset, timeout_s)

    def checkpoint(self, site: str, reader: str, offset: int) -> None:
        """Note that a durable reader needs nothing before offset any more; see `Journal.checkpoint`.

        Cheap: it becomes durable when something is trimmed because of it, or at `close`.
        """
        with self._lock:
            self._checkpoints[site, reader] = max(offset, self._checkpoint(site, reader))

    def checkpoints(self, site: str) -> dict[str, int]:
        """Return how far each durable reader is; 0 for one that was never here."""
        with self._lock:
            return {reader: self._checkpoint(site, reader) for reader in self._durable_readers}

    def trim(self, site: str, *, now_ms: int, keep_bytes: int, keep_ms: int) -> int:
        """Drop old records that no durable reader needs; see `Journal.trim`."""
        self._keep_checkpoints(site)
        floor = min(self.checkpoints(site).values(), default=self.end(site))
        return self._writer(site).trim(floor, now_ms=now_ms, keep_bytes=keep_bytes, keep_ms=keep_ms)

    def lost(self, site: str) -> int:
        """Return how many records were found damaged since this process began to read."""
        return self._partition(site).lost

    def unread(self, site: str) -> Unread:
        """Return what is kept because a durable reader has not passed it; see `Journal.unread`."""
        positions = self.checkpoints(site)
        reader = min(positions, key=lambda name: positions[name], default="")
        writer = self._writer(site)
        offset = max(positions.get(reader, writer.end), writer.begin)
        oldest = writer.read(offset, 1) if offset < writer.end else []
        since_ms = oldest[0].arrived_ms if oldest else None
        return Unread(reader, writer.end - offset, writer.unread_bytes(offset), since_ms)

    def size(self, site: str) -> int:
        """Return the bytes that a site's journal takes on the disk."""
        folder = self._path(site)
        return sum(self._disk.size(folder / name) for name in self._disk.names(folder) if name.endswith(".seg"))

    def sites(self) -> list[str]:
        """Return the sites that have a journal here."""
        return [name for name in self._disk.names(self._folder) if _SITE.fullmatch(name)]

    def close(self) -> None:
        """Sync and give the files back."""
        for site, writer in self._writers.items():
            try:
                writer.sync()
                self._keep_checkpoints(site)
            finally:
                writer.close()
        self._writers.clear()

    def _checkpoint(self, site: str, reader: str) -> int:
        offset = self._checkpoints.get((site, reader))
        if offset is None:
            try:
                offset = int(self._disk.read(self._path(site) / "readers" / reader))
            except (FileNotFoundError, ValueError):
                offset = 0
            self._checkpoints[site, reader] = offset
        return offset

    def _keep_checkpoints(self, site: str) -> None:
        with self._lock:
            known = {reader: offset for (where, reader), offset in self._checkpoints.items() if where == site}
        folder = self._path(site) / "readers"
        self._disk.make_folder(folder)
        for reader, offset in known.items():
            replace_file(self._disk, folder / reader, str(offset).encode())

    def _path(self, site: str) -> Path:
        if not _SITE.fullmatch(site):
            raise ValueError(f"{site!r} is not the id of a site")
        return self._folder / site

    def _partition(self, site: str) -> PartitionWriter | PartitionFollower:
        if not self._read_only:
            return self._writer(site)
        with self._lock:
            follower = self._followers.get(site)
            if follower is None:
                follower = self._followers[site] = PartitionFollower(
                    self._disk, self._path(site), is_quiet=self._is_quiet
                )
            return follower

    def _writer(self, site: str) -> PartitionWriter:
        writer = self._writers.get(site)
        if writer is not None:
            return writer
        if self._read_only:
            raise StoreError("this journal was opened for reading only")
        with self._lock:
            if site not in self._writers:
                self._writers[site] = PartitionWriter(
                    self._disk,
                    self._path(site),
                    segment_bytes=self._segment_bytes,
                    tail_bytes=self._tail_bytes,
                    begins_at=self._begins_at,
                )
            return self._writers[site]
