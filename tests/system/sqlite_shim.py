"""A power cut for SQLite: a file layer that remembers which writes were synced, and undoes the others.

SQLite reaches its files through a table of functions (a "VFS"). `SqliteShim` puts a table of its own before the usual
one, for as long as it is entered: writes, cuts and syncs of database and write-ahead log are noted before they are
done. `cut` then takes back every write since the last sync of its file and puts some of them down again, whole or
torn, in any order, as a disk with a cache may. What it does not cover: the shared-memory index (rebuilt after
every crash anyway) and the order of names in the folder.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from ctypes import POINTER, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any, ClassVar

from tests.disk_shim import PowerCut
from watchroom.errors import StoreError

IOERR = 10
_MAIN_DB, _WAL = 0x100, 0x80000
_PAGE = 512


class _Vfs(ctypes.Structure):
    _fields_: ClassVar[list[Any]] = [
        *[(name, c_int) for name in ("version", "file_bytes", "path_bytes")],
        *[(name, c_void_p) for name in ("next", "name", "data", "open", "delete", "access", "full_path")],
        *[(name, c_void_p) for name in ("dl_open", "dl_error", "dl_symbol", "dl_close", "random", "sleep", "time")],
        *[(name, c_void_p) for name in ("error", "time64", "set_call", "get_call", "next_call")],
    ]


class _Methods(ctypes.Structure):
    _fields_: ClassVar[list[Any]] = [
        ("version", c_int),
        *[(name, c_void_p) for name in ("close", "read", "write", "truncate", "sync", "size", "lock", "unlock")],
        *[(name, c_void_p) for name in ("reserved", "control", "sector", "device", "shm_map", "shm_lock")],
        *[(name, c_void_p) for name in ("shm_barrier", "shm_unmap", "fetch", "unfetch")],
    ]


class _File(ctypes.Structure):
    _fields_: ClassVar[list[Any]] = [("methods", POINTER(_Methods))]


# names stay plain pointers: SQLite keeps the one it opened a file with, and a copy of ours would be gone by then
_OPEN = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, POINTER(_File), c_int, POINTER(c_int))
_DELETE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_WRITE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = ctypes.CFUNCTYPE(c_int, c_void_p, c_int)
_CLOSE = ctypes.CFUNCTYPE(c_int, c_void_p)


def library() -> ctypes.CDLL | None:
    """Return the SQLite that Python's own module uses; None where it is built into that module."""
    import sqlite3  # noqa: F401  maps the library

    for line in Path("/proc/self/maps").read_text().splitlines():
        name = line.rpartition(" ")[2]
        if "libsqlite3" in name:
            return ctypes.CDLL(name)
    return None


class SqliteShim:
    """Watch the files that SQLite opens in one folder while entered.

    Args:
        folder: Files elsewhere are left alone.
        step: Called with a name before each write, truncation and sync; raises PowerCut when the power goes.
    """

    def __init__(self, folder: Path, step: Callable[[str], None]) -> None:
        found = library()
        assert found is not None
        self._sqlite, self._folder, self.step = found, folder, step
        self._sqlite.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._pending: dict[Path, list[tuple[int, bytes, bytes | None]]] = {}
        self._open_files: dict[int, tuple[Path, _Methods, Any]] = {}
        self._kept: list[Any] = []
        self.syncs = 0

    def __enter__(self) -> SqliteShim:
        self._usual = self._sqlite.sqlite3_vfs_find(None)
        self._vfs = _Vfs.from_buffer_copy(self._usual.contents)
        self._name = ctypes.create_string_buffer(f"shim-{id(self)}".encode())
        self._vfs.name = ctypes.cast(self._name, c_void_p)
        self._vfs.open = self._callback(_OPEN, self._opened)
        self._vfs.delete = self._callback(_DELETE, self._deleted)
        assert self._sqlite.sqlite3_vfs_register(ctypes.byref(self._vfs), 1) == 0
        return self

    def __exit__(self, *_: object) -> None:
        self._sqlite.sqlite3_vfs_register(self._usual, 1)
        self._sqlite.sqlite3_vfs_unregister(ctypes.byref(self._vfs))

    def cut(self, chance: random.Random) -> None:
        """Make the files what a restart may find; every connection must be closed."""
        for path, writes in self._pending.items():
            if not path.exists():
                continue
            data = bytearray(path.read_bytes())
            for at, before, after in reversed(writes):
                _undo(data, at, before, after)
            for at, _, after in chance.sample(writes, chance.randint(0, len(writes))):
                _redo(data, at, after, chance)
            path.write_bytes(data)
        self._pending.clear()
        for path in self._folder.glob("*-shm"):
            path.unlink()

    def _callback(self, kind: Any, function: Callable[..., int]) -> c_void_p:
        made = kind(function)
        self._kept.append(made)
        return ctypes.cast(made, c_void_p)

    def _opened(self, _vfs: int, name: int | None, file: Any, flags: int, out: Any) -> int:
        code: int = ctypes.cast(self._usual.contents.open, _OPEN)(
            ctypes.cast(self._usual, c_void_p), name, file, flags, out
        )
        if code == 0 and name is not None and flags & (_MAIN_DB | _WAL):
            path = Path(ctypes.string_at(name).decode())
            if path.parent == self._folder and file.contents.methods:
                self._watch(path, file)
        return code

    def _watch(self, path: Path, file: Any) -> None:
        usual = _Methods.from_buffer_copy(file.contents.methods.contents)
        methods = _Methods.from_buffer_copy(usual)
        methods.write = self._callback(_WRITE, self._wrote)
        methods.truncate = self._callback(_TRUNCATE, self._truncated)
        methods.sync = self._callback(_SYNC, self._synced)
        methods.close = self._callback(_CLOSE, self._closed)
        # writing through memory would pass us by
        methods.version = min(methods.version, 2)
        self._open_files[ctypes.addressof(file.contents)] = path, methods, usual
        file.contents.methods = ctypes.pointer(methods)

    def _power(self, name: str) -> bool:
        try:
            self.step(name)
        except (PowerCut, StoreError):
            return False
        return True

    def _wrote(self, file: int, data: int, size: int, at: int) -> int:
        path, _, usual = self._open_files[file]
        after = ctypes.string_at(data, size)
        alive = self._power("sqlite write")
        self._pending.setdefault(path, []).append((at, _piece(path, at, size), after))
        if not alive:
            return IOERR
        return int(ctypes.cast(usual.write, _WRITE)(file, data, size, at))

    def _truncated(self, file: int, size: int) -> int:
        path, _, usual = self._open_files[file]
        if not self._power("sqlite truncate"):
            return IOERR
        self._pending.setdefault(path, []).append((size, _piece(path, size, -1), None))
        return int(ctypes.cast(usual.truncate, _TRUNCATE)(file, size))

    def _synced(self, file: int, flags: int) -> int:
        path, _, usual = self._open_files[file]
        if not self._power("sqlite sync"):
            return IOERR
        self._pending.pop(path, None)
        self.syncs += 1
        return int(ctypes.cast(usual.sync, _SYNC)(file, flags))

    def _closed(self, file: int) -> int:
        _, _, usual = self._open_files.pop(file)
        return int(ctypes.cast(usual.close, _CLOSE)(file))

    def _deleted(self, _vfs: int, name: int, sync: int) -> int:
        if Path(ctypes.string_at(name).decode()).parent == self._folder and not self._power("sqlite delete"):
            return IOERR
        self._pending.pop(Path(ctypes.string_at(name).decode()), None)
        delete = ctypes.cast(self._usual.contents.delete, _DELETE)
        return int(delete(ctypes.cast(self._usual, c_void_p), name, sync))


def _piece(path: Path, at: int, size: int) -> bytes:
    # closing this drops the process' locks on the file: allowed, because nobody else uses it
    with path.open("rb") as file:
        file.seek(at)
        return file.read(size)


def _undo(data: bytearray, at: int, before: bytes, after: bytes | None) -> None:
    if after is None:
        data[at:] = before
        return
    data[at : at + len(after)] = before


def _redo(data: bytearray, at: int, after: bytes | None, chance: random.Random) -> None:
    if after is None:
        if chance.random() < 0.5:
            del data[at:]
        return
    piece = bytearray(after)
    fate = chance.randrange(4)
    if fate == 1:
        cut = chance.randint(0, len(piece))
        piece[cut:] = bytes(len(piece) - cut)
    elif fate == 2:
        for page in range(0, len(piece), _PAGE):
            if chance.random() < 0.5:
                piece[page : page + _PAGE] = chance.randbytes(len(piece[page : page + _PAGE]))
    if len(data) < at:
        data.extend(bytes(at - len(data)))
    data[at : at + len(piece)] = piece
