"""Frames that arrived before the birth that explains them, kept durably until it comes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from watchroom.births import format_epoch
from watchroom.disk import Disk, replace_file

_NAME = re.compile(r"([0-9a-f]{16})-(\d+)-(\d+)\.frame")


class Waiting(NamedTuple):
    """Which frame waits."""

    gateway: str
    epoch: int
    schema: int
    seq: int


class Aside:
    """A folder of waiting frames, bounded for each gateway.

    They are not acknowledged from end to end, so a gateway sends again what did not fit here.

    Args:
        folder: ``GATEWAY/EPOCH-SCHEMA-SEQ.frame``.
        disk: File operations.
        limit: Most frames kept for one gateway.
    """

    def __init__(self, folder: Path, *, disk: Disk, limit: int = 256) -> None:
        self._folder, self._disk, self._limit = folder, disk, limit
        self._waiting: dict[str, set[Waiting]] = {}
        for gateway in disk.names(folder):
            for name in disk.names(folder / gateway):
                if match := _NAME.fullmatch(name):
                    frame = Waiting(gateway, int(match[1], 16), int(match[2]), int(match[3]))
                    self._waiting.setdefault(gateway, set()).add(frame)

    def count(self, gateway: str) -> int:
        """Return how many frames of a gateway wait."""
        return len(self._waiting.get(gateway, ()))

    def keep(self, frame: Waiting, payload: bytes) -> bool:
        """Keep a frame, durable on return; False if the gateway has too many here.

        Raises:
            StoreError: If the disk refuses.
        """
        waiting = self._waiting.setdefault(frame.gateway, set())
        if frame in waiting:
            return True
        if len(waiting) >= self._limit:
            return False
        path = self._path(frame)
        self._disk.make_folder(path.parent)
        replace_file(self._disk, path, payload)
        waiting.add(frame)
        return True

    def ready(self, gateway: str, epoch: int, schema: int) -> list[tuple[Waiting, bytes]]:
        """Return the frames that waited for this birth, in the order of their numbers."""
        frames = sorted(
            frame for frame in self._waiting.get(gateway, ()) if (frame.epoch, frame.schema) == (epoch, schema)
        )
        return [(frame, self._disk.read(self._path(frame))) for frame in frames]

    def births_wanted(self) -> set[tuple[str, int, int]]:
        """Return (gateway, epoch, schema) of the births that frames wait for."""
        return {frame[:3] for frames in self._waiting.values() for frame in frames}

    def drop(self, frame: Waiting) -> None:
        """Forget a frame: it stands in the journal now."""
        self._disk.unlink(self._path(frame))
        self._waiting[frame.gateway].discard(frame)

    def _path(self, frame: Waiting) -> Path:
        return self._folder / frame.gateway / f"{format_epoch(frame.epoch)}-{frame.schema}-{frame.seq}.frame"
