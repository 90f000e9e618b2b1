"""The folder for messages that break the contract: kept for people, counted, never in anybody's way."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, OrderedDict
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Metric

from ingest import quarantine_file
from ingest.quarantine_file import Content, Quarantined
from watchroom.disk import Disk, replace_file

log = structlog.get_logger(__name__)

KEPT = "version"
"""Reason whose frames are never pushed out: a newer program of ours will read them."""
NEW_PER_SECOND = 50
LIMIT_FILES = 10_000
RETRIES = 64
"""Messages tried again in one go, so that live frames wait for milliseconds only."""


class Quarantine:
    """Keep what could not be used, up to a size; then the oldest goes.

    Args:
        folder: One file a message: a line of JSON that says why, then the bytes as they came.
        disk: File operations.
        registry: Gets ``watchroom_quarantined_total`` by reason.
        limit_bytes: Most bytes kept.
    """

    def __init__(self, folder: Path, *, disk: Disk, registry: CollectorRegistry, limit_bytes: int = 64 << 20) -> None:
        self._folder, self._disk, self._limit = folder, disk, limit_bytes
        self._metric = Metric(
            "watchroom_quarantined", "Messages that broke the contract", ["reason"], registry=registry
        )
        self.counts: Counter[str] = Counter()
        self._files: OrderedDict[str, tuple[str, int]] = OrderedDict()  # digest -> (name, bytes)
        self._second, self._in_second = 0, 0
        disk.make_folder(folder)
        for item in quarantine_file.listed(disk, folder):
            self._files[item.digest] = (item.name, disk.size(folder / item.name))

    @property
    def size_bytes(self) -> int:
        """Bytes kept at the moment."""
        return sum(size for _, size in self._files.values())

    def put(self, reason: str, topic: str, payload: bytes, *, now_ms: int, detail: str = "") -> bool:
        """Keep a message durably; the same message again is only counted.

        Returns:
            Whether it is kept. False if it is larger than the folder may be, if only frames of an unknown
            version are left to push out, or in a flood of rubbish (more than NEW_PER_SECOND).

        Raises:
            StoreError: If the disk refuses.
        """
        self.counts[reason] += 1
        self._metric.labels(reason).inc()
        digest = hashlib.sha256(topic.encode() + b"\0" + payload).hexdigest()[:16]
        if digest in self._files:
            return True
        if not self._may_write(reason, now_ms):
            return False
        head = {"reason": reason, "detail": detail, "topic": topic, "time_ms": now_ms}
        content = json.dumps(head, ensure_ascii=False).encode() + b"\n" + payload
        if not self._make_room(len(content)):
            return False
        name = f"{now_ms}-{reason}-{digest}.bad"
        replace_file(self._disk, self._folder / name, content)
        self._files[digest] = (name, len(content))
        if self.counts[reason] == 1:
            log.warning("message quarantined", reason=reason, detail=detail, topic=topic, folder=str(self._folder))
        return True

    def asked(self) -> list[tuple[Quarantined, Content]]:
        """Return some of the messages that a person wants tried again.

        Raises:
            StoreError: If the disk refuses.
        """
        found: list[tuple[Quarantined, Content]] = []
        for item in quarantine_file.listed(self._disk, self._folder):
            if not item.is_asked or len(found) >= RETRIES:
                continue
            try:
                found.append((item, quarantine_file.read(self._disk, self._folder, item)))
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError):
                self.keep(item)
        return found

    def keep(self, item: Quarantined) -> None:
        """A message tried again was refused again: it stays."""
        self._disk.rename(self._folder / item.name, self._folder / item.other)
        size = self._disk.size(self._folder / item.other)
        self._files[item.digest] = (item.other, size)

    def release(self, item: Quarantined) -> None:
        """A message tried again was taken in, durably: it goes."""
        self._disk.unlink(self._folder / item.name)
        self._files.pop(item.digest, None)

    def _may_write(self, reason: str, now_ms: int) -> bool:
        second = now_ms // 1000
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        return reason == KEPT or self._in_second <= NEW_PER_SECOND

    def _make_room(self, size: int) -> bool:
        total = self.size_bytes
        for digest, (name, old) in list(self._files.items()):
            if total + size <= self._limit and len(self._files) < LIMIT_FILES:
                break
            if f"-{KEPT}-" in name:
                continue
            self._disk.unlink(self._folder / name)
            del self._files[digest]
            total -= old
        return total + size <= self._limit and len(self._files) < LIMIT_FILES
