"""Doors judged plainly: everything is known, every question is answered by looking at all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

SKEW, UNLOCK, WARN, HELD, RELEASE, UNLOCKED, BOUNCE = 1000, 5000, 8000, 15_000, 4000, 12_000, 500
RATED = {
    "unlock_s": UNLOCK / 1000,
    "held_s": WARN / 1000,
    "held_alarm_s": HELD / 1000,
    "release_s": RELEASE / 1000,
    "unlocked_s": UNLOCKED / 1000,
}
Told = tuple[str, str, int]
"""(rule|door|, kind, time)"""


@dataclass
class World:
    """What really happened: edges of every signal, each (time, value) in order, and swipes."""

    edges: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)
    swipes: list[tuple[int, str, str, str]] = field(default_factory=list)
    """(time, door, card, result)"""

    def at(self, signal: str, time: int) -> bool:
        value = False
        for when, new in self.edges.get(signal, []):
            if when <= time:
                value = new
        return value

    def within(self, signal: str, start: int, end: int) -> bool:
        return self.at(signal, start) or any(new and start < when <= end for when, new in self.edges.get(signal, []))

    def rises(self, signal: str) -> list[int]:
        edges = self.edges.get(signal, [])
        return [when for i, (when, new) in enumerate(edges) if new and i and not edges[i - 1][1]]

    def next_fall(self, signal: str, time: int) -> int | None:
        return next((when for when, new in self.edges.get(signal, []) if when > time and not new), None)

    def grants(self, door: str, start: int, end: int) -> list[int]:
        return sorted(
            t for t, where, _, result in self.swipes if where == door and result == "granted" and start <= t <= end
        )


def spans(world: World, trues: Iterable[str], rights: Iterable[str], end: int) -> Iterator[tuple[int, int | None]]:
    """Yield (start, end or None) of the stretches in which any is true and nothing makes it right."""
    trues, rights = list(trues), list(rights)
    times = sorted({when for signal in (*trues, *rights) for when, _ in world.edges.get(signal, []) if when <= end})
    since: int | None = None
    for time in times:
        runs = any(world.at(s, time) for s in trues) and not any(world.at(s, time) for s in rights)
        if runs and since is None:
            since = time
        elif not runs and since is not None:
            yield since, time
            since = None
    if since is not None:
        yield since, None


def lasting(key: str, found: Iterator[tuple[int, int | None]], delays: list[int], known: int) -> Iterator[Told]:
    for start, end in found:
        told = False
        for i, delay in enumerate(delays):
            when = start + delay
            if when <= known and (end is None or when < end):
                told = True
                yield key, "ESCALATE" if i else "RAISE", when
        if told and end is not None:
            yield key, "CLEAR", end


def judge(world: World, doors: Iterable[str], fire: str, complete: int) -> list[Told]:
    """Return what must be told when everything up to ``complete`` was measured."""
    result: list[Told] = []
    known = complete - SKEW - 1
    for door in doors:
        contact, lock, button = f"{door}/contact", f"{door}/lock", f"{door}/exit_button"
        for time in world.rises(contact):
            if time > known:
                continue
            by_state = any(world.within(s, time - UNLOCK, time + SKEW) for s in (lock, button, fire))
            grants = world.grants(door, time - UNLOCK, time + SKEW)
            if not by_state and not grants:
                result.append((f"door.forced|{door}|", "RAISE", time))
                fall = world.next_fall(contact, time)
                if fall is not None:
                    result.append((f"door.forced|{door}|", "CLEAR", fall))
            if not by_state and grants:
                own = [t for t in world.rises(contact) if is_own(world, contact, t)]
                entered = [t for t in own if grants[0] - SKEW <= t <= time]
                if time in own and len(entered) > len(grants):
                    result += [(f"door.tailgating|{door}|", kind, time) for kind in ("RAISE", "CLEAR")]
        held = spans(world, [contact], [lock, fire], known)
        result += lasting(f"door.held|{door}|", held, [WARN, HELD], known)
        result += lasting(f"door.release_failed|{door}|", spans(world, [fire], [lock], known), [RELEASE], known)
        result += lasting(f"door.unlocked|{door}|", spans(world, [lock], [fire], known), [UNLOCKED], known)
        refused = sorted(
            t for t, where, _, result_ in world.swipes if where == door and result_ == "denied" and t <= known
        )
        for i, time in enumerate(refused):
            if i >= 4 and time - refused[i - 4] <= 60_000:
                result += [(f"access.denials_door|{door}|", kind, time) for kind in ("RAISE", "CLEAR")]
    for card in {card for _, _, card, _ in world.swipes}:
        mine = sorted(
            (t, door) for t, door, c, result_ in world.swipes if (c, result_) == (card, "denied") and t <= known
        )
        for i, (time, door) in enumerate(mine):
            if i >= 2 and time - mine[i - 2][0] <= 60_000:
                result += [(f"access.denials|{door}|", kind, time) for kind in ("RAISE", "CLEAR")]
    return sorted(result)


def is_own(world: World, contact: str, time: int) -> bool:
    """Whether an opening is no bounce of the contact."""
    falls = [when for when, new in world.edges[contact] if when < time and not new]
    return not falls or time - falls[-1] >= BOUNCE
