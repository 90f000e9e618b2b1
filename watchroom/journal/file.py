"""The file journal: one folder a site, segments in it."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from watchroom.disk import Disk, RealDisk, replace_file
from watchroom.errors import StoreError
from watchroom.journal.follower import PartitionFollower
from watchroom.journal.record import Record
from watchroom.journal.writer import PartitionWriter

_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
DURABLE_READERS = ("ingest", "alarms", "history")


class FileJournal:
    """A `Journal` in files.

    Args:
        folder: Holds a folder for each site.
        disk: File operations.
        read_only: Follow files that another process writes.
        segment_bytes: Size after which a new segment is begun; the unit of trimming.
        tail_bytes: Newest payload bytes of a site kept in memory for readers.
        durable_readers: Nothing is trimmed before all of these have passed it.
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
    ) -> None:
        self._folder, self._read_only = folder, read_only
        self._disk: Disk = RealDisk() if disk is None else disk
        self._segment_bytes, self._tail_bytes = segment_bytes, tail_bytes
        self._durable_readers = durable_readers
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
                follower = self._followers[site] = PartitionFollower(self._disk, self._path(site))
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
                    self._disk, self._path(site), segment_bytes=self._segment_bytes, tail_bytes=self._tail_bytes
                )
            return self._writers[site]
