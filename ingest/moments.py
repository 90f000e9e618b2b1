"""Times as people write them in files: with an offset, as UTC milliseconds, or local to a named zone. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LATEST_MS = 4_102_444_800_000
"""The year 2100."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name.

    Raises:
        ValueError: If there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(f"there is no time zone {name!r}; expected one such as Asia/Shanghai") from exc


@lru_cache(maxsize=4096)
def moment_ms(text: str, zone: ZoneInfo | None) -> int:
    """Return a time as UTC milliseconds, rounded down.

    Args:
        text: ``2026-03-01T08:00:00.250+08:00``, ``2026-03-01 08:00`` (needs a zone), or UTC milliseconds.
        zone: Zone of times without an offset.

    Raises:
        ValueError: If it is no time, or one that the zone has not or has twice.
    """
    text = text.strip()
    if text.isdecimal():
        number = int(text)
        if not 10**11 <= number < LATEST_MS:
            raise ValueError(f"{text!r} is no time in UTC milliseconds; seconds are not accepted")
        return number
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ValueError(f"{text!r} is no time; expected for example 2026-03-01T08:00:00+08:00") from exc
    if found.tzinfo is None:
        if zone is None:
            raise ValueError(f"{text!r} has no offset from UTC; add one, or name the zone with --zone")
        found = _placed(found, zone, text)
    return (found - _EPOCH) // _MS


def _placed(local: datetime, zone: ZoneInfo, text: str) -> datetime:
    early, late = local.replace(tzinfo=zone, fold=0), local.replace(tzinfo=zone, fold=1)
    if early.utcoffset() != late.utcoffset():
        is_gap = early.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local
        what = "does not exist" if is_gap else "happens twice"
        raise ValueError(f"{text!r} {what} in {zone.key}, because the clock was changed; give the offset from UTC")
    return early


def moment_text(time_ms: int, zone: ZoneInfo | None) -> str:
    """Return a time with milliseconds and offset, in UTC (``Z``) or in a zone."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    if zone is None:
        return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}Z"
    return moment.astimezone(zone).isoformat(timespec="milliseconds")
