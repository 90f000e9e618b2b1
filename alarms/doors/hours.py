"""Weekly hours such as ``Mo-Fr 07:00-19:00``, in the site's own time. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
_PART = re.compile(r"(?P<first>\w\w)(?:-(?P<last>\w\w))? (?P<start>\d\d):(?P<m1>\d\d)-(?P<end>\d\d):(?P<m2>\d\d)")
DAY_MIN = 24 * 60


def parse_hours(text: str) -> tuple[tuple[int, int, int], ...]:
    """Return (weekday 0..6, first minute, minute after the last) of each stretch.

    Raises:
        ValueError: If the text is not like ``Mo-Fr 07:00-19:00, Sa 08:00-12:00``.
    """
    result = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        days = (match["first"], match["last"] or match["first"]) if match else ("", "")
        if match is None or any(day not in DAYS for day in days):
            raise ValueError(f"expected hours such as 'Mo-Fr 07:00-19:00', not {part.strip()!r}")
        start, end = int(match["start"]) * 60 + int(match["m1"]), int(match["end"]) * 60 + int(match["m2"])
        if not start < end <= DAY_MIN or int(match["m1"]) > 59 or int(match["m2"]) > 59:
            raise ValueError(f"hours must rise and end by 24:00, not {part.strip()!r}")
        first, last = DAYS.index(days[0]), DAYS.index(days[1])
        for step in range((last - first) % 7 + 1):
            result.append(((first + step) % 7, start, end))
    return tuple(result)


class Hours:
    """When a door is meant to stand unlocked.

    Args:
        text: As `parse_hours` takes it; empty for never.
        zone: IANA name of the site's zone.
    """

    def __init__(self, text: str, zone: str) -> None:
        self._parts = parse_hours(text) if text else ()
        self._zone = ZoneInfo(zone)

    def holds(self, time_ms: int) -> bool:
        """Whether a moment lies in the hours."""
        if not self._parts:
            return False
        local = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(self._zone)
        minute = local.hour * 60 + local.minute
        return any(day == local.weekday() and start <= minute < end for day, start, end in self._parts)

    def between(self, after_ms: int, upto_ms: int) -> list[int]:
        """Return the times in (after, upto] at which the hours begin or end."""
        if not self._parts:
            return []
        result = set()
        first = datetime.fromtimestamp(after_ms / 1000, UTC).astimezone(self._zone).date() - timedelta(days=1)
        last = datetime.fromtimestamp(upto_ms / 1000, UTC).astimezone(self._zone).date()
        while first <= last:
            for day, start, end in self._parts:
                if day == first.weekday():
                    result |= {self._at(first.isoformat(), minute) for minute in (start, end)}
            first += timedelta(days=1)
        return sorted(time_ms for time_ms in result if after_ms < time_ms <= upto_ms)

    def _at(self, date: str, minute: int) -> int:
        local = datetime.fromisoformat(date).replace(tzinfo=self._zone) + timedelta(minutes=minute)
        return round(local.timestamp() * 1000)
