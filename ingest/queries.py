"""What other processes may ask of the history, as operations of the engine's local API."""

from __future__ import annotations

import asyncio
from typing import Any

from ingest.store import Buckets, HistoryStore, check_range


class HistoryQueries:
    """Answer range queries beside the writer, a few at a time.

    Args:
        store: The open store.
        parallel: Queries that may run at once; more wait, so that memory stays bounded.
    """

    def __init__(self, store: HistoryStore, *, parallel: int = 2) -> None:
        self._store = store
        self.slots = asyncio.Semaphore(parallel)

    async def range(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return ``{"series": {key: {"t", "min", "max", "mean", "last", "count", "bad"}}}``.

        Args:
            args: ``keys``, ``start_ms``, ``end_ms``, ``buckets``.

        Raises:
            StateError: If the range is empty or too big.
            StoreError: If the store is away.
        """
        keys = [str(key) for key in args["keys"]]
        span = {
            "start_ms": int(args["start_ms"]),
            "end_ms": int(args["end_ms"]),
            "buckets": int(args["buckets"]),
        }
        check_range(keys, **span)
        async with self.slots:
            found = await asyncio.to_thread(self._store.range, keys, **span)
        return {"series": {key: _plain(series) for key, series in found.items()}}


def _plain(series: Buckets) -> dict[str, list[Any]]:
    return {
        "t": series.t,
        "min": series.min,
        "max": series.max,
        "mean": series.mean,
        "last": series.last,
        "count": series.count,
        "bad": series.bad,
    }
