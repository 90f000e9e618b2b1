"""Durable file operations, few enough that a test can play a power cut over each of them.

Journal, births and outboxes touch their files through `Disk` only. Each method is one step that may be
the last before the power goes; what is promised after it stands in its docstring.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from watchroom.errors import StoreError


class AppendFile(Protocol):
    """A file that grows at its end; one writer."""

    @property
    def size(self) -> int:
        """Bytes written so far, durable or not."""
        ...

    def write(self, data: bytes) -> None:
        """Append all of data; not durable yet.

        Raises:
            StoreError: If the disk refuses; the file may then end with a part of data.
        """
        ...

    def sync(self) -> None:
        """Make everything written durable (fdatasync); may block for tens of milliseconds.

        Raises:
            StoreError: If the disk refuses. What was not durable before must then be taken as lost.
        """
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to size bytes; durable after the next sync."""
        ...

    def close(self) -> None:
        """Give the file back; does not sync."""
        ...


class Disk(Protocol):
    """The file operations that durable parts may use. All raise StoreError if the disk refuses."""

    def open_append(self, path: Path) -> AppendFile:
        """Open for appending, made if missing; a new name is durable after `sync_folder` of its folder."""
        ...

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        """Return up to size bytes from offset (all for -1).

        Raises:
            FileNotFoundError: If there is no such file.
        """
        ...

    def size(self, path: Path) -> int:
        """Return the file's length in bytes.

        Raises:
            FileNotFoundError: If there is no such file.
        """
        ...

    def names(self, folder: Path) -> list[str]:
        """Return the sorted names in a folder; empty if there is none."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Replace new by old at once; durable after `sync_folder`."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file if it is there; durable after `sync_folder`."""
        ...

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents, durable on return."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable."""
        ...


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror or exc}") from exc


class _RealFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        with _refusals(self._path):
            while len(view):
                done = os.write(self._fd, view)
                self._size += done
                view = view[done:]

    def sync(self) -> None:
        with _refusals(self._path):
            os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        with _refusals(self._path):
            os.ftruncate(self._fd, size)
            self._size = size

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


class RealDisk:
    """The operating system's files."""

    def open_append(self, path: Path) -> AppendFile:
        """Open for appending."""
        with _refusals(path):
            return _RealFile(path)

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        """Return bytes of a file."""
        with _refusals(path), open(path, "rb", buffering=0) as file:
            if offset:
                file.seek(offset)
            return file.read(size) or b""

    def size(self, path: Path) -> int:
        """Return a file's length."""
        with _refusals(path):
            return path.stat().st_size

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder."""
        try:
            with _refusals(folder):
                return sorted(os.listdir(folder))  # noqa: PTH208  names are wanted, not paths
        except FileNotFoundError:
            return []

    def rename(self, old: Path, new: Path) -> None:
        """Replace new by old."""
        with _refusals(new):
            old.replace(new)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        with _refusals(path):
            path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents."""
        if path.is_dir():
            return
        self.make_folder(path.parent)
        with _refusals(path):
            path.mkdir(exist_ok=True)
        self.sync_folder(path.parent)

    def sync_folder(self, path: Path) -> None:
        """Make names durable."""
        with _refusals(path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Give a file new content, whole or not at all; durable on return.

    Raises:
        StoreError: If the disk refuses; the old content is then still there.
    """
    draft = path.with_name(path.name + ".new")
    disk.unlink(draft)
    file = disk.open_append(draft)
    try:
        file.write(data)
        file.sync()
    finally:
        file.close()
    disk.rename(draft, path)
    disk.sync_folder(path.parent)
