"""Columns of samples inside JSON: base64 of the little-endian numbers, a tenth of the time of lists. Pure."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from ingest.store import SampleBatch, Samples
from watchroom.errors import StateError

_COLUMNS = {"time_ms": "<i8", "value": "<f8", "quality": "u1"}
_BATCH = {"series": "<u4", **_COLUMNS}


def pack(page: Samples) -> dict[str, Any]:
    """Return a page of samples as JSON can hold it."""
    return {name: _text(getattr(page, name), kind) for name, kind in _COLUMNS.items()} | {"next_ms": page.next_ms}


def unpack(packed: dict[str, Any]) -> Samples:
    """Return a page of samples from JSON.

    Raises:
        StateError: ``history.packed`` if the columns are damaged or of different lengths.
    """
    columns = _columns(packed, _COLUMNS)
    following = packed.get("next_ms")
    return Samples(**columns, next_ms=None if following is None else int(following))


def pack_batch(batch: SampleBatch) -> dict[str, Any]:
    """Return samples of several signals as JSON can hold them."""
    columns = {name: _text(getattr(batch, name), kind) for name, kind in _BATCH.items()}
    return {"keys": list(batch.keys), **columns}


def unpack_batch(packed: dict[str, Any]) -> SampleBatch:
    """Return samples of several signals from JSON.

    Raises:
        StateError: ``history.packed`` if columns are damaged, of different lengths, or name no key.
    """
    columns = _columns(packed, _BATCH)
    keys = tuple(str(key) for key in packed["keys"])
    if len(columns["series"]) and int(columns["series"].max()) >= len(keys):
        raise StateError("history.packed", f"series {int(columns['series'].max())} of {len(keys)} keys")
    return SampleBatch(keys=keys, **columns)


def _text(column: Any, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(column, dtype=kind).tobytes()).decode()


def _columns(packed: dict[str, Any], kinds: dict[str, str]) -> dict[str, Any]:
    try:
        columns = {
            name: np.frombuffer(base64.b64decode(packed[name], validate=True), dtype=kind).astype(kind.lstrip("<"))
            for name, kind in kinds.items()
        }
    except (KeyError, TypeError, ValueError, binascii.Error) as exc:
        raise StateError("history.packed", f"columns of samples are damaged: {exc}") from exc
    if len({len(column) for column in columns.values()}) != 1:
        raise StateError("history.packed", "columns of samples have different lengths")
    return columns
