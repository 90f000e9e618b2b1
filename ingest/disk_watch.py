"""How full the disk is: below a reserve nothing is taken in any more, so that the centre can still work and tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

DISK_HIGH: Final = 0.20
"""Share of the disk that must be free, or people are told."""
DISK_FULL: Final = 0.05
"""Share that must be free to take frames in: the reserve of SQL, of ticks and of the centre's own samples."""
DISK_ROOM: Final = 0.055
"""Share at which frames are taken in again."""


class DiskWatch:
    """Remembers whether the disk is full, told once when it begins and when it ends.

    Args:
        free_share: Measures the share of the disk that is free, 0 .. 1.
    """

    def __init__(self, free_share: Callable[[], float]) -> None:
        self._free_share = free_share
        self.free = 1.0
        self.is_full = False

    @property
    def is_high(self) -> bool:
        """Whether people should make room."""
        return self.free < DISK_HIGH

    def look(self) -> bool:
        """Measure; return whether the disk is too full to take anything in."""
        self.free = self._free_share()
        is_full = self.free < (DISK_ROOM if self.is_full else DISK_FULL)
        if is_full != self.is_full:
            self.is_full = is_full
            if is_full:
                log.error("disk full, nothing is taken in", free=self.free)
            else:
                log.info("disk has room again", free=self.free)
        return is_full
