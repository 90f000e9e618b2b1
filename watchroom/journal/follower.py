"""A partition that another process writes."""

from __future__ import annotations

import time
from pathlib import Path

from watchroom.disk import Disk
from watchroom.journal.record import Record
from watchroom.journal.segment import Segments
from watchroom.journal.writer import read_end

POLL_S = 0.01


class PartitionFollower:
    """Read what another process has made durable.

    Args:
        disk: File operations.
        folder: The partition's folder; may not exist yet.
        is_quiet: Damage is not logged.
    """

    def __init__(self, disk: Disk, folder: Path, *, is_quiet: bool = False) -> None:
        self._folder = folder
        self._segments = Segments(disk, folder, is_quiet=is_quiet)
        self._seen = 0

    @property
    def end(self) -> int:
        """Offset after the newest durable record."""
        # a read that meets the writer's write finds no valid number: the last one is still true
        end = read_end(self._folder) or self._seen
        if end != self._seen:
            self._segments.reload()
            self._seen = end
        return end

    @property
    def begin(self) -> int:
        """Offset of the oldest record kept."""
        self._segments.reload()
        segments = self._segments.all()
        return segments[0].first if segments else 0

    @property
    def lost(self) -> int:
        """Records found damaged since the start."""
        return self._segments.lost

    def read(self, offset: int, max_bytes: int) -> list[Record]:
        """Return durable records; see `Journal.read`."""
        return self._segments.read(offset, end=self.end, max_bytes=max_bytes)

    def wait(self, offset: int, timeout_s: float) -> bool:
        """Block until the end passes offset."""
        deadline = time.monotonic() + timeout_s
        while self.end <= offset:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(POLL_S, left))
        return True
