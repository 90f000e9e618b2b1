"""Performance measures of an alarm system over a period: rates, floods, bad actors, times to acknowledge. Pure.

Source: the measures are those of ISA-18.2 / IEC 62682 clause 16 and EEMUA 191 as collected in the design notes:
a flood starts above 10 alarms in 10 minutes and ends below 5, an alarm chatters with 3 activations in one minute,
stands when it has been active for 24 hours, and is fleeting when it goes by itself within seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alarms.flood import CHATTER_MS, CHATTER_TIMES, ENDS_BELOW, STARTS_ABOVE, WINDOW_MS

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
FLEETING_MS: Final = 5_000
STANDING_MS: Final = DAY_MS
TARGET_PER_WINDOW: Final = 1
TOP: Final = 10
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """One time that an alarm sounded.

    Attributes:
        row: Key of its rule row.
        raised_ms: When, UTC ms.
        cleared_ms: When its condition was gone, None while it is true.
        acked_ms: When somebody acknowledged it, None if nobody did.
        realarms: Times it has sounded again.
    """

    row: str
    priority: int
    raised_ms: int
    cleared_ms: int | None = None
    acked_ms: int | None = None
    realarms: int = 0


def measure(activations: Sequence[Activation], *, start_ms: int, end_ms: int) -> dict[str, Any]:
    """Return all measures of a period as JSON values.

    Args:
        activations: Those raised within the period; in any order.
        start_ms: Begin of the period.
        end_ms: Its end, or now for a period that is not over; > start_ms.
    """
    ordered = sorted(activations, key=lambda item: (item.raised_ms, item.row))
    times = np.array([item.raised_ms for item in ordered], np.int64)
    span_ms = end_ms - start_ms
    flooded = floods(times, end_ms=end_ms)
    return {
        "start_ms": start_ms,
        "end_ms": end_ms,
        "alarms": len(ordered),
        "per_hour": round(len(ordered) * HOUR_MS / span_ms, 3),
        "per_day": round(len(ordered) * DAY_MS / span_ms, 2),
        "peak_10_min": _peak(times, WINDOW_MS),
        "peak_hour": _peak(times, HOUR_MS),
        "above_target_share": _above_target(times, start_ms, end_ms),
        "floods": flooded,
        "flood_share": round(sum(item["end_ms"] - item["start_ms"] for item in flooded) / span_ms, 5),
        "priorities": _priorities(ordered),
        "chattering": chattering(ordered),
        "fleeting": sum(_is_fleeting(item) for item in ordered),
        "bad_actors": _bad_actors(ordered),
        "acknowledged": _acknowledged(ordered),
        "never_acknowledged": sum(item.acked_ms is None for item in ordered),
        "realarms": sum(item.realarms for item in ordered),
    }


def floods(times: I64, *, end_ms: int) -> list[dict[str, int]]:
    """Return the floods: begin, end (of the period if it is not over), alarms in it, most in ten minutes.

    Args:
        times: Activations in rising order, UTC ms, shape (n,).
        end_ms: End of the period.
    """
    # how many lie in the ten minutes before each moment changes only when one comes and when one leaves
    moments = np.concatenate([times, times + WINDOW_MS])
    steps = np.concatenate([np.ones(len(times), np.int64), -np.ones(len(times), np.int64)])
    order = np.lexsort((steps, moments))
    moments, counts = moments[order], np.cumsum(steps[order])
    found: list[dict[str, int]] = []
    begin: int | None = None
    peak = 0
    for at in np.flatnonzero((counts > STARTS_ABOVE) | (counts < ENDS_BELOW)).tolist():
        count, moment = int(counts[at]), int(moments[at])
        if count > STARTS_ABOVE:
            begin, peak = (moment, count) if begin is None else (begin, max(peak, count))
        elif begin is not None:
            found.append(_flood(times, begin, min(moment, end_ms), peak))
            begin = None
    if begin is not None:
        found.append(_flood(times, begin, end_ms, peak))
    return found


def _flood(times: I64, begin_ms: int, end_ms: int, peak: int) -> dict[str, int]:
    first, last = np.searchsorted(times, [begin_ms - WINDOW_MS, end_ms], side="right").tolist()
    return {"start_ms": begin_ms, "end_ms": end_ms, "alarms": last - first, "peak": peak}


def chattering(activations: Sequence[Activation]) -> list[dict[str, Any]]:
    """Return the rows that came three times within a minute, with how often that was; most first."""
    by_row: dict[str, list[int]] = {}
    for item in activations:
        by_row.setdefault(item.row, []).append(item.raised_ms)
    found = []
    for row, raised in by_row.items():
        times = np.sort(np.array(raised, np.int64))
        spans = times[CHATTER_TIMES - 1 :] - times[: 1 - CHATTER_TIMES]
        times_three = int((spans <= CHATTER_MS).sum())
        if times_three:
            found.append({"row": row, "bursts": times_three, "alarms": len(times)})
    return sorted(found, key=lambda item: (-item["bursts"], item["row"]))


def standing(activations: Sequence[Activation], *, now_ms: int) -> list[Activation]:
    """Return the alarms whose condition has been true for a day, longest first."""
    old = [item for item in activations if item.cleared_ms is None and now_ms - item.raised_ms > STANDING_MS]
    return sorted(old, key=lambda item: item.raised_ms)


def _is_fleeting(item: Activation) -> bool:
    if item.cleared_ms is None or item.cleared_ms - item.raised_ms >= FLEETING_MS:
        return False
    return item.acked_ms is None or item.acked_ms > item.cleared_ms


def _peak(times: I64, span_ms: int) -> dict[str, int | None]:
    if not len(times):
        return {"alarms": 0, "end_ms": None}
    counts = np.arange(1, len(times) + 1) - np.searchsorted(times, times - span_ms, side="right")
    at = int(counts.argmax())
    return {"alarms": int(counts[at]), "end_ms": int(times[at])}


def _above_target(times: I64, start_ms: int, end_ms: int) -> float:
    """Share of the whole ten-minute stretches with more than the manageable one alarm."""
    stretches = -(-(end_ms - start_ms) // WINDOW_MS)
    counts = np.bincount((times - start_ms) // WINDOW_MS, minlength=stretches) if len(times) else np.zeros(stretches)
    return round(float((counts > TARGET_PER_WINDOW).sum()) / stretches, 4)


def _priorities(items: Sequence[Activation]) -> dict[str, dict[str, float]]:
    counts = {priority: sum(item.priority == priority for item in items) for priority in (1, 2, 3, 4)}
    total = max(1, len(items))
    return {str(key): {"alarms": count, "share": round(count / total, 4)} for key, count in counts.items()}


def _bad_actors(items: Sequence[Activation]) -> list[dict[str, Any]]:
    counts: dict[str, int] = {}
    for item in items:
        counts[item.row] = counts.get(item.row, 0) + 1
    top = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP]
    return [{"row": row, "alarms": count, "share": round(count / len(items), 4)} for row, count in top]


def _acknowledged(items: Sequence[Activation]) -> dict[str, dict[str, float | int | None]]:
    result: dict[str, dict[str, float | int | None]] = {}
    for priority in (1, 2, 3, 4):
        waits = [
            (item.acked_ms - item.raised_ms) / 1000
            for item in items
            if item.priority == priority and item.acked_ms is not None
        ]
        p50, p95 = np.percentile(np.array(waits), [50, 95]).round(1).tolist() if waits else (None, None)
        result[str(priority)] = {"alarms": len(waits), "p50_s": p50, "p95_s": p95}
    return result


def titled(found: Mapping[str, Any], words: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return measures with equipment and title at each row that is named in them.

    Args:
        found: What `measure` returned.
        words: Row key -> ``equipment`` and ``title``.
    """
    named = {
        key: [{**item, **words.get(item["row"], {})} for item in found[key]] for key in ("chattering", "bad_actors")
    }
    return {**found, **named}
