"""The one writer of a partition: appends, syncs, mends a torn tail, trims."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import structlog

from watchroom.disk import AppendFile, Disk, replace_file
from watchroom.errors import StoreError
from watchroom.journal.record import Record, pack, parse
from watchroom.journal.segment import (
    CHUNK_BYTES,
    SEGMENT_HEAD_BYTES,
    Segment,
    Segments,
    read_head,
    segment_head,
    segment_name,
)

log = structlog.get_logger(__name__)

END_FILE = "end"
_END = struct.Struct("<QI")


class PartitionWriter:
    """Append to one partition and let threads of this process read it.

    Args:
        disk: File operations.
        folder: The partition's folder; made if missing.
        segment_bytes: A segment that has passed this size is followed by a new one.
        tail_bytes: Payload bytes of the newest records kept in memory for readers.
        begins_at: First offset if there is no journal here yet.

    Raises:
        StoreError: If another process writes this partition, or the disk refuses.
    """

    def __init__(
        self, disk: Disk, folder: Path, *, segment_bytes: int, tail_bytes: int, begins_at: Callable[[], int]
    ) -> None:
        self._disk, self._folder = disk, folder
        self._segment_bytes, self._tail_limit = segment_bytes, tail_bytes
        disk.make_folder(folder)
        self._lock_fd = _lock(folder / "lock")
        self._end_fd = os.open(folder / END_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._write_lock = threading.RLock()
        self._changed = threading.Condition()
        self._pending: list[bytes] = []
        self._owners: set[int] = set()
        self._betrayed: set[int] = set()
        self._tail: list[Record] = []
        self._tail_bytes = 0
        self._file: AppendFile | None = None
        self._next = self._durable = self._durable_bytes = 0
        self._begins_at = begins_at
        self._segments = Segments(disk, folder)
        self._segment: Segment
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def end(self) -> int:
        """Offset after the newest durable record."""
        return self._durable

    @property
    def begin(self) -> int:
        """Offset of the oldest record kept."""
        segments = self._segments.all()
        return segments[0].first if segments else 0

    @property
    def lost(self) -> int:
        """Records found damaged since the start."""
        return self._segments.lost

    def unread_bytes(self, offset: int) -> int:
        """Return how much of the disk a reader keeps that is at an offset: whole segments."""
        segments = self._segments.all()
        last = [segment for segment in segments if segment.first <= offset][-1:]
        kept = [*last, *(segment for segment in segments if segment.first > offset)]
        return sum(self._disk.size(segment.path) for segment in kept)

    def append(self, gateway: str, payload: bytes, *, arrived_ms: int) -> int:
        """Append a record; see `Journal.append`."""
        with self._write_lock:
            offset = self._next
            data = pack(offset, arrived_ms, gateway, payload)
            self._pending.append(data)
            self._owners.add(threading.get_ident())
            self._tail.append(Record(offset, arrived_ms, gateway, payload))
            self._tail_bytes += len(payload)
            self._next = offset + 1
        return offset

    def sync(self) -> int:
        """Make everything appended durable; see `Journal.sync`."""
        with self._write_lock:
            if threading.get_ident() in self._betrayed:
                # another thread's sync failed and took our records with it: nobody may call them durable
                self._roll_back()
                raise StoreError(f"{self._folder}: records were lost with another thread's failed sync")
            if self._next == self._durable:
                return self._durable
            file = self._file or self._mend()
            try:
                file.write(b"".join(self._pending))
                file.sync()
            except StoreError:
                self._roll_back()
                raise
            self._pending.clear()
            self._owners.clear()
            self._durable_bytes = file.size
            self._segment.mark(self._next, file.size)
            self._publish(self._next)
            self._shorten_tail()
            if file.size >= self._segment_bytes:
                self._start_segment()
            return self._durable

    def read(self, offset: int, max_bytes: int) -> list[Record]:
        """Return durable records; see `Journal.read`."""
        with self._changed:
            end, tail = self._durable, self._tail
            first = tail[0].offset if tail else end
            if first <= offset < end:
                total, stop = 0, offset - first
                limit = end - first
                while stop < limit and (total == 0 or total + len(tail[stop].payload) <= max_bytes):
                    total += len(tail[stop].payload) or 1
                    stop += 1
                return tail[offset - first : stop]
        return self._segments.read(offset, end=end, max_bytes=max_bytes)

    def wait(self, offset: int, timeout_s: float) -> bool:
        """Block until the end passes offset."""
        with self._changed:
            return self._changed.wait_for(lambda: self._durable > offset, timeout_s)

    def trim(self, floor: int, *, now_ms: int, keep_bytes: int, keep_ms: int) -> int:
        """Delete whole segments before floor that are too old or too many; return the new begin."""
        segments = self._segments.all()
        sizes = [self._disk.size(segment.path) for segment in segments]
        total, gone = sum(sizes), 0
        for segment, following, size in zip(segments, segments[1:], sizes, strict=False):
            closed_ms = read_head(self._disk.read(following.path, 0, SEGMENT_HEAD_BYTES), following.first)
            is_old = closed_ms is not None and closed_ms < now_ms - keep_ms
            if following.first > floor or not (is_old or total > keep_bytes):
                break
            self._segments.remove(segment)
            self._disk.unlink(segment.path)
            total, gone = total - size, gone + 1
        if gone:
            self._disk.sync_folder(self._folder)
            log.info("journal trimmed", folder=str(self._folder), segments=gone, begin=self.begin)
        return self.begin

    def close(self) -> None:
        """Let another process write; what was not synced is lost."""
        if self._file is not None:
            self._file.close()
            self._file = None
        for fd in (self._end_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._end_fd = self._lock_fd = -1

    def _open(self) -> None:
        """Find the end, cutting off what a crash left half written."""
        is_new = not self._segments.all()
        promised = read_end(self._folder)
        while segments := self._segments.all():
            last = segments[-1]
            if read_head(self._disk.read(last.path, 0, SEGMENT_HEAD_BYTES), last.first) is not None:
                self._next, self._durable_bytes = self._scan(last, promised)
                self._segment = last
                self._cut_tail(last)
                if self._next < promised:
                    # readers have been beyond this: their numbers must not come again for other records
                    self._segments.note_hole(self._next, promised, last.path)
                    self._next = promised
                    self._start_segment()
                self._publish(self._next)
                return
            # made just before the crash: nothing in it was ever confirmed, unless it is the only one
            log.warning("journal segment without a head removed", path=str(last.path))
            self._next = last.first
            self._segments.remove(last)
            self._disk.unlink(last.path)
            self._disk.sync_folder(self._folder)
        if is_new:
            self._next = self._begins_at()
        self._start_segment()
        self._publish(self._next)

    def _scan(self, segment: Segment, promised: int) -> tuple[int, int]:
        """Return (offset, byte) after the last whole record.

        Rubbish before the end that living processes were promised is damage, and reading goes on behind it; rubbish
        after that is what a power cut left of a write nobody was told of.
        """
        offset, at = segment.marks[-1]
        chunk = CHUNK_BYTES
        while True:
            data = self._disk.read(segment.path, at, chunk)
            parsed = parse(data, offset=offset, limit=1 << 62)
            offset, at = offset + len(parsed.records), at + parsed.used
            segment.mark(offset, at)
            is_over = parsed.is_damaged or len(data) < chunk
            if is_over and offset < promised:
                found = self._segments.resync(segment, offset, at, limit=promised)
                if found is not None:
                    self._segments.note_hole(offset, found.offset, segment.path)
                    offset, at = found
                    continue
            if is_over:
                return offset, at
            if not parsed.records:
                chunk *= 2

    def _cut_tail(self, segment: Segment) -> None:
        file = self._disk.open_append(segment.path)
        self._file = file
        if file.size > self._durable_bytes:
            torn = self._disk.read(segment.path, self._durable_bytes)
            log.warning("journal tail cut", path=str(segment.path), offset=self._next, bytes=len(torn))
            # normally a record half written; kept, because a bad disk looks the same
            replace_file(self._disk, self._folder / "torn", torn)
            file.truncate(self._durable_bytes)
        file.sync()

    def _start_segment(self) -> None:
        """Go on in a new file; on failure stay with the old one, if there is one."""
        path = self._folder / segment_name(self._next)
        file = self._disk.open_append(path)
        try:
            if file.size:  # left by an attempt that failed half way
                file.truncate(0)
            file.write(segment_head(self._next, self._tail[-1].arrived_ms if self._tail else 0))
            file.sync()
            self._disk.sync_folder(self._folder)
        except StoreError as exc:
            file.close()
            self._disk.unlink(path)
            if self._file is None:
                raise
            log.warning("journal segment not started", path=str(path), error=str(exc))
            return
        if self._file is not None:
            self._file.close()
        self._file, self._durable_bytes = file, file.size
        self._segment = self._segments.add(self._next)

    def _roll_back(self) -> None:
        """Forget what was not durable: after a failed sync nobody knows what of it is on the disk."""
        self._pending.clear()
        self._betrayed |= self._owners
        self._betrayed.discard(threading.get_ident())
        self._owners.clear()
        with self._changed:
            keep = max(0, len(self._tail) - (self._next - self._durable))
            del self._tail[keep:]
            self._tail_bytes = sum(len(record.payload) for record in self._tail)
            self._next = self._durable
        if self._file is not None:
            self._file.close()
            self._file = None
        log.error("journal sync failed", folder=str(self._folder), end=self._durable)

    def _mend(self) -> AppendFile:
        """Open the file again after a failure and cut it back to what is durable."""
        try:
            self._file = self._disk.open_append(self._segment.path)
            self._file.truncate(self._durable_bytes)
            self._file.sync()
        except StoreError:
            self._roll_back()
            raise
        return self._file

    def _publish(self, end: int) -> None:
        """Let readers of this and of other processes see everything before end."""
        front = end.to_bytes(8, "little")
        # no sync: the file is only a hint to living processes, a restart finds the end by scanning
        os.pwrite(self._end_fd, front + zlib.crc32(front).to_bytes(4, "little"), 0)
        with self._changed:
            self._durable = end
            self._changed.notify_all()

    def _shorten_tail(self) -> None:
        if self._tail_bytes <= self._tail_limit:
            return
        with self._changed:
            half, drop = self._tail_limit // 2, 0
            while self._tail_bytes > half and drop < len(self._tail):
                self._tail_bytes -= len(self._tail[drop].payload)
                drop += 1
            self._tail = self._tail[drop:]


def read_end(folder: Path) -> int:
    """Return the end that a writing process has published; 0 if there is none."""
    try:
        data = (folder / END_FILE).read_bytes()
    except FileNotFoundError:
        return 0
    if len(data) != _END.size:
        return 0
    end, crc = _END.unpack(data)
    return int(end) if zlib.crc32(data[:8]) == crc else 0


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        raise StoreError(f"{path.parent} is written by another process") from exc
    return fd
