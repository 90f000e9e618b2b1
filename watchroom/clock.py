"""The wall clock, read in one place; pure code gets its result as an argument."""

from __future__ import annotations

import time


def utc_ms() -> int:
    """Return UTC now in milliseconds."""
    return time.time_ns() // 1_000_000
