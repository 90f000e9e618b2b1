"""What every history store can do: one protocol, one contract test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from watchroom.errors import StateError

MOST_BUCKETS = 5_000
MOST_KEYS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBatch:
    """Samples of many signals as columns, in journal order.

    Attributes:
        keys: The distinct signal keys of this batch.
        series: Index into keys for each sample, shape (n,).
        time_ms: Event times, UTC, shape (n,).
        value: Values in each signal's unit, NaN where there was none, shape (n,).
        quality: Quality codes, shape (n,).
    """

    keys: Sequence[str]
    series: NDArray[np.uint32]
    time_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """One signal over a range, at most one entry a bucket; buckets without usable samples are left out.

    Attributes:
        t: Time of the last usable sample in the bucket, UTC ms.
        min: Least value; ``max``, ``mean`` and ``last`` alike, in the signal's unit.
        count: Usable samples in the bucket.
    """

    t: list[int]
    min: list[float]
    max: list[float]
    mean: list[float]
    last: list[float]
    count: list[int]


class HistoryStore(Protocol):
    """Where samples are kept for years. Used by one writer thread and several query threads."""

    def open(self) -> None:
        """Make ready, creating what is missing.

        Raises:
            StoreError: If the store is away or not usable.
        """

    def position(self) -> int:
        """Return the journal offset after the last one whose samples are stored."""

    def write(self, batch: SampleBatch, *, position: int) -> None:
        """Store samples and the position; repeating a batch changes nothing.

        Raises:
            StoreError: If nothing or not all was stored; the writer repeats the batch.
        """

    def range(self, keys: Sequence[str], *, start_ms: int, end_ms: int, buckets: int) -> Mapping[str, Buckets]:
        """Return min, max, mean, last and count of each signal for start <= t < end, by buckets of equal width.

        Samples of bad quality or without a value are left out.

        Raises:
            StoreError: If the store cannot be read.
        """

    def expire(self, before_ms: int) -> None:
        """Forget samples older than a time, if this store does not do it by itself."""

    def close(self) -> None:
        """Let go of files and connections."""


def check_range(keys: Sequence[str], *, start_ms: int, end_ms: int, buckets: int) -> None:
    """Refuse a query that makes no sense or would be too big.

    Raises:
        StateError: With a number and a hint.
    """
    if not keys or len(keys) > MOST_KEYS:
        raise StateError("history.keys", f"asked for {len(keys)} signals; between 1 and {MOST_KEYS} are allowed")
    if start_ms >= end_ms:
        raise StateError("history.range", f"start {start_ms} is not before end {end_ms}; both are UTC milliseconds")
    if not 1 <= buckets <= MOST_BUCKETS:
        raise StateError("history.buckets", f"{buckets} buckets; ask for 1 to {MOST_BUCKETS}, one a pixel is enough")
