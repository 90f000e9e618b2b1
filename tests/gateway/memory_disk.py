"""A disk in memory that can be full and whose power can be cut."""

from __future__ import annotations

import random
from pathlib import Path

from watchroom.disk import AppendFile
from watchroom.errors import StoreError


class _Content:
    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.synced = len(data)


class _File:
    def __init__(self, disk: MemoryDisk, content: _Content) -> None:
        self._disk, self._content = disk, content

    @property
    def size(self) -> int:
        return len(self._content.data)

    def write(self, data: bytes) -> None:
        room = self._disk.capacity - self._disk.used
        self._content.data += data[: max(0, room)]
        if len(data) > room:
            raise StoreError("no space left on device")

    def sync(self) -> None:
        self._disk.syncs += 1
        if self._disk.is_killing:
            raise KeyboardInterrupt
        if self._disk.is_broken:
            raise StoreError("input/output error")
        self._content.synced = len(self._content.data)

    def truncate(self, size: int) -> None:
        del self._content.data[size:]
        self._content.synced = min(self._content.synced, size)

    def close(self) -> None:
        pass


class MemoryDisk:
    """Implements ``watchroom.disk.Disk``; remembers what a power cut would leave.

    Attributes:
        capacity: Bytes that fit; beyond it writing fails after a part.
        is_broken: Every sync fails.
        is_killing: The process ends at the next sync; what it wrote stays in the page cache.
        syncs: How often a file was synced.
    """

    def __init__(self) -> None:
        self._names: dict[Path, _Content] = {}
        self._durable: dict[Path, _Content] = {}
        self.capacity = 1 << 40
        self.is_broken = False
        self.is_killing = False
        self.syncs = 0

    @property
    def used(self) -> int:
        return sum(len(content.data) for content in self._names.values())

    def power_cut(self, rng: random.Random) -> MemoryDisk:
        """Return the disk as a machine finds it after the power was cut: unsynced bytes and names are a lottery."""
        left = MemoryDisk()
        for path in self._names.keys() | self._durable.keys():
            content = rng.choice([self._names, self._durable]).get(path)
            if content is None:
                continue
            sure, rest = bytes(content.data[: content.synced]), bytearray(content.data[content.synced :])
            fate = rng.randrange(3)
            if fate == 0:
                rest = bytearray()
            elif fate == 1:
                rest = rest[: rng.randint(0, len(rest))]
            elif rest:
                rest[rng.randrange(len(rest))] ^= 1 << rng.randrange(8)
            left._names[path] = left._durable[path] = _Content(sure + bytes(rest))
        return left

    def open_append(self, path: Path) -> AppendFile:
        return _File(self, self._names.setdefault(path, _Content()))

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        if path not in self._names:
            raise FileNotFoundError(path)
        data = self._names[path].data
        return bytes(data[offset:] if size < 0 else data[offset : offset + size])

    def size(self, path: Path) -> int:
        return len(self._names[path].data)

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self._names if path.parent == folder)

    def rename(self, old: Path, new: Path) -> None:
        self._names[new] = self._names.pop(old)

    def unlink(self, path: Path) -> None:
        self._names.pop(path, None)

    def make_folder(self, path: Path) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        for name in [name for name in self._durable.keys() | self._names.keys() if name.parent == path]:
            if name in self._names:
                self._durable[name] = self._names[name]
            else:
                del self._durable[name]
