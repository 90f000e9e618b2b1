"""First-up: which alarm of a group came first, by the equipment's time. Pure.

A group is a room or a plant whose alarms have one cause: the first one tells it, the others follow. An episode of a
group lasts until all its alarms are NORM. A later-arriving alarm with an earlier time takes the first place, as long
as it lies within the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

WINDOW_MS: Final = 5_000
"""An alarm that arrives late takes the first place only when it came at most this much earlier."""

CASCADE_MS: Final = 120_000
"""What comes later on the same equipment is another fault and gets its own ticket, even while the first stands."""


@dataclass(slots=True, kw_only=True)
class Episode:
    """What a group has gone through since its first alarm.

    Attributes:
        members: Ids of the alarms that are not NORM yet.
        faults: (Equipment, ticket type) -> fault family and time of its first alarm: what follows shortly shares
            that ticket.
    """

    first: str
    first_ms: int
    members: set[str] = field(default_factory=set)
    faults: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)


class FirstUp:
    """The running episodes of a site."""

    def __init__(self) -> None:
        self._episodes: dict[str, Episode] = {}

    def join(self, group: str, alarm: str, *, event_ms: int) -> tuple[str, list[str]]:
        """Take an alarm in; return (id of the first one, ids whose first one is another now)."""
        episode = self._episodes.setdefault(group, Episode(first=alarm, first_ms=event_ms))
        moved: list[str] = []
        if episode.first != alarm and 0 < episode.first_ms - event_ms <= WINDOW_MS:
            moved = sorted(episode.members)
            episode.first, episode.first_ms = alarm, event_ms
        episode.members.add(alarm)
        return episode.first, moved

    def restore(self, group: str, alarm: str, *, cause: str, event_ms: int) -> None:
        """Take in an alarm that stood before a restart; the first one's own time comes with the first one."""
        episode = self._episodes.setdefault(group, Episode(first=cause, first_ms=event_ms))
        episode.first_ms = event_ms if alarm == episode.first else min(episode.first_ms, event_ms)
        episode.members.add(alarm)

    def leave(self, group: str, alarm: str) -> None:
        """An alarm is NORM; with the last one the episode is over."""
        episode = self._episodes.get(group)
        if episode is not None:
            episode.members.discard(alarm)
            if not episode.members:
                del self._episodes[group]

    def fault(self, group: str, equipment: str, *, type_: str, fault: str, event_ms: int) -> str:
        """Return the fault family whose ticket an alarm belongs to: that of its equipment's first in the cascade."""
        episode = self._episodes.get(group)
        if episode is None:
            return fault
        first = episode.faults.get((equipment, type_))
        if first is None or event_ms - first[1] > CASCADE_MS:
            first = episode.faults[equipment, type_] = (fault, event_ms)
        return first[0]
