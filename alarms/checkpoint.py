"""Bytes of a checkpoint: one JSON object and columns behind it. Pure."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchroom.errors import ContractError

MAGIC = b"WRC1"


def pack(content: dict[str, Any], columns: dict[str, NDArray[Any]]) -> bytes:
    """Return a checkpoint; content must be JSON, with NaN allowed."""
    names = [[name, column.dtype.str, len(column)] for name, column in columns.items()]
    head = json.dumps({"columns": names, "content": content}).encode()
    body = b"".join(np.ascontiguousarray(column).tobytes() for column in columns.values())
    front = MAGIC + len(head).to_bytes(8, "little") + head + body
    return front + zlib.crc32(front).to_bytes(4, "little")


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what `pack` was given.

    Raises:
        ContractError: ``checkpoint`` if the bytes are not a whole checkpoint.
    """
    if len(data) < 16 or data[:4] != MAGIC or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ContractError("checkpoint", "damaged or of another version")
    at = 12 + int.from_bytes(data[4:12], "little")
    head = json.loads(data[12:at])
    columns = {}
    for name, kind, n in head["columns"]:
        columns[name] = np.frombuffer(data, kind, n, at).copy()
        at += columns[name].nbytes
    content: dict[str, Any] = head["content"]
    return content, columns
