"""Durations in configuration: ``500ms``, ``10s``, ``5m``, ``2h``, ``3d``, or a plain number of seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")


def seconds(value: object) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: If the text is not a duration.
    """
    if isinstance(value, bool):
        raise ValueError("expected a duration such as 500ms, 10s, 5m or 2h")
    if isinstance(value, int | float):
        return float(value)
    match = _PATTERN.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"expected a duration such as 500ms, 10s, 5m or 2h, not {value!r}")
    return float(match[1]) * _UNITS[match[2]]


Seconds = Annotated[float, BeforeValidator(seconds), Field(json_schema_extra={"format": "duration"})]
"""A pydantic field that takes a duration text and holds seconds."""
