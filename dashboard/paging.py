"""Pages of a list: opaque cursors that name the last row seen. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from dashboard.problems import Problem

NUMBER_MAX = 2**63 - 1
"""What both databases can compare a number column with."""


def encode_cursor(*values: int | str) -> str:
    """Return a cursor that stands after a row with these sort values."""
    return base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kinds: Sequence[type]) -> list[Any]:
    """Return the sort values of a cursor.

    Raises:
        Problem: 400 ``request.cursor`` if we did not make it.
    """
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError, binascii.Error) as exc:
        raise Problem(400, "request.cursor") from exc
    if not isinstance(values, list) or [type(value) for value in values] != list(kinds):
        raise Problem(400, "request.cursor")
    if any(isinstance(value, int) and abs(value) > NUMBER_MAX for value in values):
        raise Problem(400, "request.cursor")
    return values


def page(rows: Sequence[Any], limit: int, cursor_of: Any) -> tuple[list[Any], str | None]:
    """Return (rows of this page, cursor of the next) from one row more than the limit."""
    if len(rows) <= limit:
        return list(rows), None
    return list(rows[:limit]), cursor_of(rows[limit - 1])
