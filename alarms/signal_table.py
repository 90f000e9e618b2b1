"""Newest sample of every signal as columns, under dense numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchroom.signals import USABLE, Quality

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

NEVER = -(1 << 60)
"""A time before every other; far enough from the end of int64 that delays can be added."""

IS_USABLE: Bools = np.array([q in {int(u) for u in USABLE} for q in range(256)])
"""Quality -> whether the value may be judged."""

_COLUMNS: dict[str, tuple[str, Any]] = {
    "time_ms": ("i8", NEVER),
    "value": ("f8", np.nan),
    "quality": ("u1", int(Quality.NO_COMMUNICATION)),
    "lane": ("i8", -1),
    "gateway": ("i8", -1),
    "stale_ms": ("i8", 90_000),
    "low": ("f8", -np.inf),
    "high": ("f8", np.inf),
    "is_clean": ("?", True),
    "is_tracked": ("?", False),
    "is_stale": ("?", True),
}


class SignalTable:
    """Columns of shape (capacity,); the first ``len(keys)`` entries are in use.

    Attributes:
        keys: Keys in the order of their numbers.
        time_ms: Time of the newest judged sample, NEVER before the first.
        lane: Number of the lane that carries the signal, -1 while no birth announces it.
        stale_ms: Age in ms beyond which the newest sample is stale.
        low: Lower end of the band in which every condition of the signal is certainly clear.
        high: Upper end of it.
        is_clean: No condition of the signal is set or pending: samples in the band change nothing.
        is_tracked: Every sample matters (guards, inputs of sequences): never skipped.
        is_stale: As of the last tick.
        births: Grows whenever the lanes of signals may have changed.
    """

    time_ms: I64
    value: F64
    quality: U8
    lane: I64
    gateway: I64
    stale_ms: I64
    low: F64
    high: F64
    is_clean: Bools
    is_tracked: Bools
    is_stale: Bools

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys: list[str] = []
        self._index: dict[str, int] = {}
        self._capacity = 0
        self.births = 0
        self._grow(64)
        for key in keys:
            self.number(key)

    def __len__(self) -> int:
        """Return how many signals are known."""
        return len(self.keys)

    def number(self, key: str) -> int:
        """Return the number of a key; a new key gets the next one."""
        found = self._index.get(key)
        if found is not None:
            return found
        if len(self.keys) == self._capacity:
            self._grow(self._capacity * 2)
        self._index[key] = len(self.keys)
        self.keys.append(key)
        return len(self.keys) - 1

    def find(self, key: str) -> int:
        """Return the number of a key, -1 if it is not known."""
        return self._index.get(key, -1)

    def _grow(self, capacity: int) -> None:
        for name, (kind, fill) in _COLUMNS.items():
            column = np.full(capacity, fill, kind)
            if self._capacity:
                column[: self._capacity] = getattr(self, name)
            setattr(self, name, column)
        self._capacity = capacity

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the part of the columns that is in use."""
        n = len(self.keys)
        return {name: getattr(self, name)[:n] for name in _COLUMNS if name not in ("low", "high", "is_tracked")}

    def load(self, keys: list[str], columns: dict[str, NDArray[Any]]) -> None:
        """Take over columns saved under keys; other signals keep their first state."""
        numbers = np.array([self.number(key) for key in keys], np.intp)
        for name, column in columns.items():
            getattr(self, name)[numbers] = column
        self.births += 1
