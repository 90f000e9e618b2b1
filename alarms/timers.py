"""When time alone changes an alarm: end of a shelf, sounding again, nobody has come. Pure.

Defaults of alarms.md 1.2: priority 1 sounds again 10 min after its acknowledgement, 2 after 30 min, 3 with the next
shift, 4 never; after the last repeat people are told by message instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from alarms.lifecycle import State
from alarms.overlays import Shelf, Standing

MINUTE_MS: Final = 60_000
REALARM_MS: Final[Mapping[int, int]] = {1: 10 * MINUTE_MS, 2: 30 * MINUTE_MS, 3: 480 * MINUTE_MS}
REALARMS: Final = 3
UNATTENDED_MS: Final = 15_000
"""A priority 1 that nobody has acknowledged for so long is told to people who are not in front of a screen."""


def timer_ms(
    row: Mapping[str, Any], standing: Standing, *, at_ms: int, annunciated: bool, until_ms: int | None
) -> int | None:
    """Return when the housekeeping has to look at an alarm, UTC ms, None for never.

    Args:
        row: The alarm's columns after the event.
        standing: Where it stands after the event.
        at_ms: The engine's time of the event.
        annunciated: Whether the event sounded.
        until_ms: End of a timed shelf.
    """
    if standing.is_hidden:
        return until_ms if standing.shelf is Shelf.TIMED else None
    if annunciated:
        return at_ms + UNATTENDED_MS if row["priority"] == 1 else None
    if standing.core is State.ACKED:
        wait_ms = REALARM_MS.get(row["priority"])
        return None if wait_ms is None or row["realarms"] > REALARMS else at_ms + wait_ms
    # an easier level or the end of the condition of a latched alarm: somebody has still to come
    is_waiting = standing.core in (State.UNACK, State.LUNACK)
    return row["timer_ms"] if is_waiting else None
