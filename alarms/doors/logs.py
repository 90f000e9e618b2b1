"""What the inputs of doors said and when, as sorted columns: searched for many questions at once. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from alarms.signal_table import I64, Bools

TIME_BITS = 42
LAST_MS = (1 << TIME_BITS) - 1
"""Times are milliseconds since 1970 below this (the year 2109); others are clipped, whatever a device claims."""
HOT_MS = 120_000
"""Younger entries are at hand; older ones are only asked for by late samples."""


def keys_of(slot: I64, time_ms: I64) -> I64:
    """Return one sortable number for each (slot, time)."""
    result: I64 = (slot << TIME_BITS) | np.clip(time_ms, 0, LAST_MS)
    return result


class Log:
    """Entries (slot, time, value) sorted by slot and time.

    Args:
        edges: Keep only entries whose value differs from the slot's entry before.
    """

    def __init__(self, *, edges: bool) -> None:
        self._edges = edges
        self.key: I64 = np.zeros(0, np.int64)
        self.value: Bools = np.zeros(0, bool)
        self._old: list[tuple[I64, Bools]] = []
        self._limit = 4096

    def __len__(self) -> int:
        """Return how many entries are at hand."""
        return len(self.key)

    def note(self, slot: I64, time_ms: I64, value: Bools) -> None:
        """Add entries in any order; an older one finds its place."""
        if not len(slot):
            return
        key = np.concatenate([self.key, keys_of(slot, time_ms)])
        order = np.argsort(key, kind="stable")
        key, held = key[order], np.concatenate([self.value, value])[order]
        if self._edges:
            slots = key >> TIME_BITS
            is_edge = np.append(True, (slots[1:] != slots[:-1]) | (held[1:] != held[:-1]))
            key, held = key[is_edge], held[is_edge]
        self.key, self.value = key, held

    def last(self, slot: I64, time_ms: I64) -> I64:
        """Return the position of each slot's newest entry at or before a time, -1 where there is none."""
        if not len(self.key):
            return np.full(len(slot), -1, np.int64)
        at = np.searchsorted(self.key, keys_of(slot, time_ms), side="right") - 1
        return np.where((at >= 0) & ((self.key[at] >> TIME_BITS) == slot), at, -1)

    def times(self, at: I64) -> I64:
        """Return the times of entries at positions that exist."""
        result: I64 = self.key[at] & LAST_MS
        return result

    def holds(self, slot: int, time_ms: int) -> bool:
        """Whether a slot was true at a time; unknown is not."""
        at = int(self.last(np.array([slot]), np.array([time_ms]))[0])
        return at >= 0 and bool(self.value[at])

    def holds_within(self, slot: I64, start_ms: I64, end_ms: I64) -> Bools:
        """Whether each slot was true at any time of [start, end]."""
        at = self.last(slot, end_ms)
        known = at >= 0
        if not known.any():
            return known
        at = np.where(known, at, 0)
        # a slot first known as false tells nothing about the time before
        fell = (at > 0) & ((self.key[np.maximum(at - 1, 0)] >> TIME_BITS) == slot) & ~self.value[at]
        result: Bools = known & (self.value[at] | (fell & (self.times(at) > start_ms)))
        return result

    def count(self, slot: I64, start_ms: I64, end_ms: I64) -> I64:
        """Return how many entries each slot has in [start, end]."""
        first = np.searchsorted(self.key, keys_of(slot, start_ms), side="left")
        found: I64 = np.maximum(np.searchsorted(self.key, keys_of(slot, end_ms), side="right") - first, 0)
        return found

    def between(self, slot: int, after_ms: int, upto_ms: int) -> list[int]:
        """Return the times of one slot's entries in (after, upto]."""
        ends = keys_of(np.array([slot, slot]), np.array([after_ms, upto_ms]))
        low, high = np.searchsorted(self.key, ends, side="right").tolist()
        return [int(key) & LAST_MS for key in self.key[low:high]]

    def trim(self, now_ms: int, *, keep_ms: int) -> None:
        """Lay entries aside that are older than two minutes, and drop those older than ``keep_ms``."""
        if len(self.key) <= self._limit:
            return
        slots = self.key >> TIME_BITS
        is_last = np.append(slots[1:] != slots[:-1], True)
        is_hot = (self.key & LAST_MS) >= now_ms - HOT_MS
        # what held when the hot stretch began is part of it
        base = np.append(is_hot[1:] & (slots[1:] == slots[:-1]), False) & ~is_hot
        stays = is_hot | is_last | base
        self._old.append((self.key[~stays], self.value[~stays]))
        self.key, self.value = self.key[stays], self.value[stays]
        self._old = [part for part in self._old if len(part[0]) and (part[0] & LAST_MS).max() >= now_ms - keep_ms]
        self._limit = max(4096, 3 * len(self.key))

    def whole(self) -> Log:
        """Return a log with the entries laid aside as well, for questions about long ago."""
        if not self._old:
            return self
        result = Log(edges=self._edges)
        for key, value in [*self._old, (self.key, self.value)]:
            result.note(key >> TIME_BITS, key & LAST_MS, value)
        return result

    def shift(self, slots: set[int], by_ms: int) -> None:
        """Move all entries of some slots in time: the clock that stamped them was set."""
        full = self.whole()
        is_moved = np.isin(full.key >> TIME_BITS, list(slots))
        slot, time_ms, value = full.key >> TIME_BITS, (full.key & LAST_MS) + np.where(is_moved, by_ms, 0), full.value
        self.key, self.value, self._old = np.zeros(0, np.int64), np.zeros(0, bool), []
        self.note(slot, time_ms, value)

    def to_json(self, names: list[str]) -> dict[str, Any]:
        """Return all entries by the names of the slots."""
        full = self.whole()
        result: dict[str, Any] = {}
        for key, value in zip(full.key.tolist(), full.value.tolist(), strict=True):
            result.setdefault(names[key >> TIME_BITS], []).append([key & LAST_MS, value])
        return result

    def load(self, content: dict[str, Any], numbers: dict[str, int]) -> None:
        """Take over entries saved by name; slots that are no longer there are dropped."""
        rows = [(numbers[name], ms, value) for name, rows in content.items() if name in numbers for ms, value in rows]
        self.key, self.value, self._old = np.zeros(0, np.int64), np.zeros(0, bool), []
        self.note(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.array([row[2] for row in rows], bool),
        )
