"""Times as devices write them, to UTC milliseconds. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

ToMs = Callable[[Any], int]
_EPOCH_FORMATS = {"s": 1000.0, "ms": 1.0, "us": 0.001}
_LATEST_MS = 4_102_444_800_000
"""Year 2100: a time beyond it was written in another unit."""


def compile_time(format_: str, tz: str | None) -> ToMs:
    """Return a function from a device's time to UTC ms; it raises ValueError for what is no such time.

    Args:
        format_: ``s``, ``ms``, ``us`` since 1970, ``iso``, or a strptime pattern.
        tz: IANA zone of times that carry none.

    Raises:
        ValueError: If there is no such zone, or the format needs one.
    """
    zone = None
    if tz is not None:
        try:
            zone = ZoneInfo(tz)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{tz!r} is not an IANA time zone such as Asia/Shanghai") from None
    if format_ in _EPOCH_FORMATS:
        factor = _EPOCH_FORMATS[format_]
        return lambda value: _from_number(value, factor)
    if format_ == "iso":
        return lambda value: _from_datetime(datetime.fromisoformat(str(value).strip()), zone)
    if "%" not in format_:
        raise ValueError(f"{format_!r} is not a time format: s, ms, us, iso, or a pattern such as %Y-%m-%d %H:%M:%S")
    if "%z" not in format_ and zone is None:
        raise ValueError(f"{format_!r} has no zone: add tz: Asia/Shanghai")
    return lambda value: _from_datetime(datetime.strptime(str(value).strip(), format_), zone)


def cutting(pattern: str, to_ms: ToMs) -> ToMs:
    """Return a function that cuts out what a regular expression finds, and reads the rest.

    Raises:
        ValueError: If the pattern is none.
    """
    try:
        found = re.compile(pattern)
    except re.error as exc:
        raise ValueError(f"{pattern!r} is not a regular expression: {exc}") from None
    return lambda value: to_ms(found.sub("", str(value)[:100]))


def _from_number(value: Any, factor: float) -> int:
    if isinstance(value, bool):
        raise ValueError("true is not a time")
    time_ms = round(float(value) * factor)
    if not 0 < time_ms < _LATEST_MS:
        raise ValueError(f"{value} is not a time between 1970 and 2100 in this unit")
    return time_ms


def _from_datetime(moment: datetime, zone: ZoneInfo | None) -> int:
    if moment.tzinfo is None:
        if zone is None:
            raise ValueError(f"{moment.isoformat()} has no zone")
        moment = moment.replace(tzinfo=zone)
    delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return delta.days * 86_400_000 + delta.seconds * 1000 + delta.microseconds // 1000
