"""A disk that forgets at a power cut what was not synced: `watchroom.disk.Disk` for durability tests.

kill -9 leaves the page cache alive, so it proves nothing about syncs. `CrashDisk` works on real files and
remembers which bytes and which names were synced. `cut` then does what a power cut may do: bytes beyond the
synced length vanish, are cut short, become zeros or rubbish; names not synced come and go, in their order.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from watchroom.disk import AppendFile, RealDisk
from watchroom.errors import StoreError


class PowerCut(BaseException):
    """The power is gone; not an Exception, so that nobody handles it by accident."""


@dataclass(slots=True, eq=False)
class _Node:
    """One file, whatever it is called.

    Attributes:
        path: Where its bytes are at the moment.
        kept: So many first bytes are as they were at the last sync.
        lost: Synced bytes after those, cut off or overwritten since.
    """

    path: Path
    kept: int = 0
    lost: bytes = b""


@dataclass(slots=True)
class _Folder:
    """Names of one folder: as they are durable, and the changes since, in order."""

    durable: dict[str, _Node] = field(default_factory=dict)
    now: dict[str, _Node] = field(default_factory=dict)
    changes: list[tuple[str, _Node | None]] = field(default_factory=list)


class CrashDisk:
    """A `Disk` over a real folder that can lose its power.

    Args:
        morgue: Folder for files that were deleted but may come back.
        cut_at: The power goes at this step, counted from 1; None for never. See `steps`.
    """

    def __init__(self, morgue: Path, *, cut_at: int | None = None) -> None:
        morgue.mkdir(exist_ok=True)
        self._morgue, self._real = morgue, RealDisk()
        self._folders: dict[Path, _Folder] = {}
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self.cut_at = cut_at
        self.steps = 0
        self.is_dead = False
        self.refusing: set[str] = set()
        """Steps that fail like a full or broken disk: write, sync, rename, ..."""

    def step(self, name: str) -> None:
        """Count one step that changes something; the power may go just before it."""
        with self._lock:
            if self.is_dead:
                raise PowerCut
            self.steps += 1
            if self.steps == self.cut_at:
                self.is_dead = True
                raise PowerCut
            if name in self.refusing:
                raise StoreError(f"no space left on the disk ({name})")

    def open_append(self, path: Path) -> AppendFile:
        self.step("open")
        with self._lock:
            folder = self._folder(path.parent)
            node = folder.now.get(path.name)
            file = self._real.open_append(path)
            if node is None:
                node = _Node(path)
                folder.now[path.name] = node
                folder.changes.append((path.name, node))
        return _File(self, node, file)

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        return self._real.read(path, offset, size)

    def size(self, path: Path) -> int:
        return self._real.size(path)

    def names(self, folder: Path) -> list[str]:
        return self._real.names(folder)

    def rename(self, old: Path, new: Path) -> None:
        self.step("rename")
        assert old.parent == new.parent, "a rename between folders needs two syncs; nobody does that here"
        with self._lock:
            folder = self._folder(old.parent)
            self._bury(folder, new.name)
            self._real.rename(old, new)
            node = folder.now.pop(old.name)
            node.path = new
            folder.now[new.name] = node
            folder.changes += [(new.name, node), (old.name, None)]

    def unlink(self, path: Path) -> None:
        if not path.exists():
            return
        self.step("unlink")
        with self._lock:
            folder = self._folder(path.parent)
            self._bury(folder, path.name)
            self._real.unlink(path)
            folder.now.pop(path.name, None)
            folder.changes.append((path.name, None))

    def make_folder(self, path: Path) -> None:
        if not path.is_dir():
            self.step("make_folder")
            self._real.make_folder(path)

    def sync_folder(self, path: Path) -> None:
        self.step("sync_folder")
        with self._lock:
            folder = self._folder(path)
            folder.durable, folder.changes = dict(folder.now), []

    def cut(self, chance: random.Random) -> None:
        """Let the power go and make the folder what a restart may find; then use a new `CrashDisk`."""
        with self._lock:
            self.is_dead = True
            for path, folder in self._folders.items():
                found = dict(folder.durable)
                for name, node in folder.changes[: chance.randint(0, len(folder.changes))]:
                    if node is None:
                        found.pop(name, None)
                    else:
                        found[name] = node
                contents = {name: _after_cut(node, chance) for name, node in found.items()}
                for name in folder.now:
                    (path / name).unlink(missing_ok=True)
                for name, content in contents.items():
                    (path / name).write_bytes(content)

    def _folder(self, path: Path) -> _Folder:
        folder = self._folders.get(path)
        if folder is None:
            # what was there before this disk came into being is durable
            files = [entry for entry in path.iterdir() if entry.is_file()]
            nodes = {entry.name: _Node(entry, kept=entry.stat().st_size) for entry in files}
            folder = self._folders[path] = _Folder(dict(nodes), dict(nodes))
        return folder

    def _bury(self, folder: _Folder, name: str) -> None:
        """Keep the bytes of a file whose name is about to go: the name may come back."""
        node = folder.now.get(name)
        if node is not None:
            grave = self._morgue / str(next(self._numbers))
            os.link(node.path, grave)
            node.path = grave


class _File:
    def __init__(self, disk: CrashDisk, node: _Node, file: AppendFile) -> None:
        self._disk, self._node, self._file = disk, node, file

    @property
    def size(self) -> int:
        return self._file.size

    def write(self, data: bytes) -> None:
        try:
            self._disk.step("write")
        except (PowerCut, StoreError):
            self._file.write(data[: len(data) // 2])
            raise
        self._file.write(data)

    def sync(self) -> None:
        self._disk.step("sync")
        self._node.kept, self._node.lost = self._file.size, b""

    def truncate(self, size: int) -> None:
        self._disk.step("truncate")
        node = self._node
        if size < node.kept:
            node.lost = node.path.read_bytes()[size : node.kept] + node.lost
            node.kept = size
        self._file.truncate(size)

    def close(self) -> None:
        self._file.close()


def _after_cut(node: _Node, chance: random.Random) -> bytes:
    """Return what a restart may find in a file."""
    now = node.path.read_bytes()
    synced, loose = now[: node.kept], now[node.kept :]
    if node.lost and chance.random() < 0.5:
        return synced + node.lost
    ways: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: loose,
        lambda: loose[: chance.randint(0, len(loose))],
        lambda: bytes(len(loose)),
        lambda: chance.randbytes(len(loose)),
        lambda: _spoil(loose, chance),
    ]
    return synced + chance.choice(ways)()


def _spoil(data: bytes, chance: random.Random) -> bytes:
    """Return data with one page of it never written."""
    at = chance.randint(0, len(data))
    return data[:at] + bytes(min(4096, len(data) - at)) + data[at + 4096 :]
