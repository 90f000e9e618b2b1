"""The evaluator's state on disk, with the journal position it belongs to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from watchroom.disk import Disk, replace_file

MAGIC = b"WRAC1\n"


class CheckpointFile:
    """One file, replaced whole; a damaged or missing one only makes the restart longer.

    Args:
        path: The file; its folder is made.
        disk: File operations.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path, self._disk = path, disk
        disk.make_folder(path.parent)

    def write(self, offset: int, state: bytes, *, rules: str) -> None:
        """Keep the state after every record before offset; durable on return.

        Raises:
            StoreError: If the disk refuses; the previous checkpoint is then still there.
        """
        head = json.dumps({"offset": offset, "rules": rules, "bytes": len(state)}).encode() + b"\n"
        digest = hashlib.sha256(head + state).hexdigest().encode() + b"\n"
        replace_file(self._disk, self._path, MAGIC + digest + head + state)

    def read(self) -> tuple[int, bytes] | None:
        """Return (offset, state), None if there is no whole checkpoint.

        Raises:
            StoreError: If the disk refuses.
        """
        try:
            data = self._disk.read(self._path)
        except FileNotFoundError:
            return None
        magic, _, rest = data.partition(b"\n")
        digest, _, body = rest.partition(b"\n")
        if magic + b"\n" != MAGIC or hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        head, _, state = body.partition(b"\n")
        return int(json.loads(head)["offset"]), state
