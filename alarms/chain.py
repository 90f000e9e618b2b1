"""Hash chains: each event carries the hash of all before it, so nobody can quietly change the past. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

GENESIS = ""
"""What stands before the first event."""


def link(previous: str, event: Mapping[str, Any]) -> str:
    """Return the hash of an event that follows another, 64 hex digits.

    Args:
        previous: Hash of the event before, `GENESIS` for the first.
        event: JSON values only; keys in any order; no NaN.
    """
    text = json.dumps(event, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def first_break(events: Iterable[tuple[int, Mapping[str, Any], str]], *, head: str) -> int | None:
    """Return where a chain is broken, None if it is whole.

    Args:
        events: (sequence, event, stored hash) in order.
        head: The hash that was noted elsewhere as the last one: shows that the tail is missing.

    Returns:
        Sequence of the first event that does not fit; -1 when the tail was cut.
    """
    previous = GENESIS
    for seq, event, stored in events:
        previous = link(previous, event)
        if previous != stored:
            return seq
    return None if previous == head else -1
