"""Questions about events of one key, answered for all events of a batch at once. Pure.

All columns are sorted by key and, within a key, by time.
"""

from __future__ import annotations

import numpy as np

from alarms.signal_table import I64, NEVER, Bools, Ints


def starts(key: I64) -> Bools:
    """Return which entries are the first of their key."""
    if not len(key):
        return np.zeros(0, bool)
    result: Bools = np.append(True, key[1:] != key[:-1])
    return result


def shifted(value: I64, *, is_first: Bools, carried: I64) -> I64:
    """Return the value before each entry; what was carried over for the first of a key.

    Args:
        value: Shape (n,).
        is_first: As `starts`.
        carried: Value carried over by entry, shape (n,); only read where ``is_first``.
    """
    before = np.empty_like(value)
    before[1:] = value[:-1]
    return np.where(is_first, carried, before)


def repeats(key: I64, time_ms: I64, *, count: int, within_ms: int, carried: I64) -> tuple[Bools, I64]:
    """Return which entries are at least the ``count``-th of their key within a time, and what to carry over.

    Args:
        key: Dense numbers, shape (n,).
        time_ms: Shape (n,).
        count: At least 2.
        within_ms: From the first to the last of them, inclusive.
        carried: Times of the newest ``count - 1`` entries by key, oldest first, NEVER before; shape (keys, count - 1).

    Returns:
        (found of shape (n,), carried of the same shape as before).
    """
    back = count - 1
    unique, first, size = np.unique(key, return_index=True, return_counts=True)
    # each key's carried times stand in front of its new ones
    offset = np.repeat(np.arange(len(unique)) * back + back, size)
    place = np.arange(len(key)) + offset
    line = np.full(len(key) + len(unique) * back, NEVER, np.int64)
    line[place] = time_ms
    head = (first + np.arange(len(unique)) * back)[:, None] + np.arange(back)
    line[head] = carried[unique]
    found: Bools = (line[place - back] > NEVER) & (time_ms - line[place - back] <= within_ms)
    result = carried.copy()
    tail = (first + size + np.arange(len(unique)) * back + back)[:, None] - back + np.arange(back)
    result[unique] = line[tail]
    return found, result


def last_of(key: I64) -> Ints:
    """Return the position of the last entry of each key."""
    if not len(key):
        return np.zeros(0, np.intp)
    return np.flatnonzero(np.append(key[1:] != key[:-1], True))
