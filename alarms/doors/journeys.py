"""Journeys: one credential at several doors - too soon, the same way twice, or refused again and again. Pure.

Swipes are judged in order of event time, once every gateway with a door has measured beyond them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from alarms.doors.kernels import last_of, repeats, shifted, starts
from alarms.doors.logs import Log
from alarms.rows import AccessTest, RuleRow
from alarms.signal_table import F64, I64, NEVER, Bools

TWICE_MS = 5_000
"""A credential shown again at the same door within this time was read twice."""
NIGHT_H = 4
"""Anti-passback starts anew each night at this hour."""
KEYS_KEPT = 200_000
"""Credentials remembered; beyond it those not seen for a day are forgotten, then all."""
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One rule broken: ``row`` is the number of the row, ``key`` the credential."""

    row: int
    time_ms: int
    at: int
    key: str


class Journeys:
    """Judges pairs and counts of swipes.

    Args:
        cards: (number, row, test) of the rules about credentials.
        doors: Ids of all doors.
        areas: Door -> area it leads into, for anti-passback.
        points: Door -> position in metres, for travel.
        zone: Zone of the site.
        fires: State slots of fire: a fire starts anti-passback anew.
    """

    def __init__(
        self,
        cards: Sequence[tuple[int, RuleRow, AccessTest]],
        *,
        doors: Sequence[str],
        areas: Mapping[str, str],
        points: Mapping[str, tuple[float, float]],
        zone: str,
        fires: Sequence[int],
    ) -> None:
        self._doors = {door: i for i, door in enumerate(doors)}
        self._zone, self._fires = ZoneInfo(zone), fires
        names = sorted(set(areas.values()))
        self._area = np.array([names.index(areas[door]) if door in areas else -1 for door in doors], np.int64)
        place = np.array([points.get(door, (np.nan, np.nan)) for door in doors], float).reshape(-1, 2)
        gap = place[:, None, :] - place[None, :, :]
        self._distance: F64 = np.nan_to_num(np.hypot(gap[..., 0], gap[..., 1]))
        self._of: dict[str, dict[tuple[object, ...], I64]] = {}
        for number, row, test in cards:
            if row.equipment in self._doors:
                shape = (test.count, test.within_ms, test.per, test.speed_mps, test.skew_ms)
                column = self._of.setdefault(test.of, {}).setdefault(shape, np.full(len(doors), -1, np.int64))
                column[self._doors[row.equipment]] = number
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._last = np.full((0, 3), NEVER, np.int64)
        self._carried: dict[tuple[str, int, int, str], I64] = {}

    @property
    def door_numbers(self) -> Mapping[str, int]:
        """Door -> its number."""
        return self._doors

    def door(self, name: str) -> int:
        """Return the number of a door, -1 for what is none."""
        return self._doors.get(name, -1)

    def key(self, name: str) -> int:
        """Return the number of a credential, -1 for one that was not told."""
        if not name:
            return -1  # nobody can tell it from others
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._names)
            self._names.append(name)
        return number

    def judge(self, *, key: I64, door: I64, time_ms: I64, direction: I64, what: I64, states: Log) -> list[Found]:
        """Judge swipes that are complete.

        Args:
            key: Numbers of credentials, -1 unknown; shape (n,).
            door: Numbers of doors.
            time_ms: Later than all judged before.
            direction: 1 in, 2 out, 0 not told.
            what: Bits of `BITS`.
            states: Edges of states, for fires.
        """
        order = np.lexsort((direction, door, time_ms, key))
        columns = {"key": key, "door": door, "time_ms": time_ms, "direction": direction, "what": what}
        columns = {name: column[order] for name, column in columns.items()} | {"at": order.astype(np.int64)}
        again = _is_again(columns)
        columns = {name: column[~again] for name, column in columns.items()}
        found = self._pairs({name: column[_granted(columns)] for name, column in columns.items()}, states)
        for of, bit in BITS.items():
            for shape, rows in self._of.get(of, {}).items():
                if isinstance(shape[0], int) and isinstance(shape[1], int) and shape[0] > 1:
                    part = {name: column[(columns["what"] & bit) > 0] for name, column in columns.items()}
                    found += self._counts(of, part, count=shape[0], within_ms=shape[1], per=str(shape[2]), rows=rows)
        return sorted(found, key=lambda item: (item.at, item.row))

    def _counts(self, of: str, part: dict[str, I64], *, count: int, within_ms: int, per: str, rows: I64) -> list[Found]:
        if not len(part["key"]):
            return []
        key = part["door"] if per == "door" else part["key"]
        known = np.flatnonzero(key >= 0)
        known = known[np.lexsort((part["time_ms"][known], key[known]))]
        if not len(known):
            return []
        name, size = (of, count, within_ms, per), len(self._doors) if per == "door" else len(self._names)
        carried = _grown(self._carried.get(name, np.full((0, count - 1), NEVER, np.int64)), size)
        is_found, self._carried[name] = repeats(
            key[known], part["time_ms"][known], count=count, within_ms=within_ms, carried=carried
        )
        return self._told(part, known[is_found], rows)

    def _pairs(self, part: dict[str, I64], states: Log) -> list[Found]:
        known = part["key"] >= 0
        part = {name: column[known] for name, column in part.items()}
        key, time_ms, door, way = part["key"], part["time_ms"], part["door"], part["direction"]
        if not len(key):
            return []
        self._last = _grown(self._last, len(self._names))
        is_first = starts(key)
        before_ms = shifted(time_ms, is_first=is_first, carried=self._last[key, 0])
        before = shifted(door, is_first=is_first, carried=self._last[key, 1])
        came = shifted(way, is_first=is_first, carried=self._last[key, 2])
        tail = last_of(key)
        self._last[key[tail]] = np.stack([time_ms[tail], door[tail], way[tail]], axis=1)
        has = before_ms > NEVER
        found: list[Found] = []
        safe = np.where(has, before, 0)
        for shape, rows in self._of.get("travel", {}).items():
            speed, skew = float(str(shape[3])), int(str(shape[4]))
            needed = self._distance[safe, door] / speed * 1000 - skew
            found += self._told(part, np.flatnonzero(has & (time_ms - before_ms < needed)), rows)
        for shape, rows in self._of.get("antipassback", {}).items():
            same = has & (way > 0) & (way == came) & (self._area[door] >= 0) & (self._area[door] == self._area[safe])
            same &= (time_ms - before_ms <= int(str(shape[1]))) & ((door != safe) | (time_ms - before_ms > TWICE_MS))
            kept = [
                at for at in np.flatnonzero(same).tolist() if self._counts_still(before_ms[at], time_ms[at], states)
            ]
            found += self._told(part, np.array(kept, np.int64), rows)
        return found

    def _counts_still(self, before_ms: int, time_ms: int, states: Log) -> bool:
        """Whether neither a night nor a fire lies between two passages."""
        if self._night(int(before_ms)) != self._night(int(time_ms)):
            return False
        if not self._fires:
            return True
        fires, n = np.array(self._fires, np.int64), len(self._fires)
        return not states.holds_within(fires, np.full(n, before_ms), np.full(n, time_ms)).any()

    def _night(self, time_ms: int) -> object:
        local = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(self._zone)
        return (local - timedelta(hours=NIGHT_H)).date()

    def _told(self, part: dict[str, I64], which: Any, rows: I64) -> list[Found]:
        result = []
        for at in which.tolist():
            row, key = int(rows[part["door"][at]]), int(part["key"][at])
            if row >= 0:
                name = self._names[key] if key >= 0 else ""
                result.append(Found(row=row, time_ms=int(part["time_ms"][at]), at=int(part["at"][at]), key=name))
        return result

    def trim(self, now_ms: int) -> None:
        """Forget credentials when there are too many."""
        if len(self._names) <= KEYS_KEPT:
            return
        fresh = {self._names[i] for i, row in enumerate(self._last) if row[0] > now_ms - DAY_MS}
        self._rename([name for name in self._names if name in fresh] if len(fresh) <= KEYS_KEPT else [])

    def _rename(self, names: list[str]) -> None:
        old = np.array([self._numbers[name] for name in names], np.int64)
        self._last = _grown(self._last, len(self._names))[old]
        for name, carried in self._carried.items():
            if name[3] == "card":
                self._carried[name] = _grown(carried, len(self._names))[old]
        self._names, self._numbers = list(names), {name: i for i, name in enumerate(names)}

    def to_json(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        last = _grown(self._last, len(self._names)).tolist()
        return {
            "doors": list(self._doors),
            "names": self._names,
            "last": last,
            "carried": [[*name, carried.tolist()] for name, carried in self._carried.items()],
        }

    def load(self, content: dict[str, Any]) -> None:
        """Take over a checkpoint; doors that are gone are forgotten."""
        renumber = np.array([self._doors.get(door, -1) for door in content["doors"]], np.int64)
        self._names = list(content["names"])
        self._numbers = {name: i for i, name in enumerate(self._names)}
        self._last = np.array(content["last"], np.int64).reshape(-1, 3)
        had = np.flatnonzero(self._last[:, 0] > NEVER)
        self._last[had, 1] = renumber[self._last[had, 1]]
        self._last[had[self._last[had, 1] < 0]] = NEVER
        self._carried = {}
        for of, count, within_ms, per, rows in content["carried"]:
            carried = np.array(rows, np.int64).reshape(-1, count - 1)
            if per == "door":
                mine = np.full((len(self._doors), count - 1), NEVER, np.int64)
                for old, new in enumerate(renumber[: len(carried)].tolist()):
                    if new >= 0:
                        mine[new] = carried[old]
                carried = mine
            self._carried[of, count, within_ms, per] = carried


BITS = {
    "granted": 1,
    "denials": 2,
    "unknown": 4,
    "liveness": 8,
    "blacklisted": 16,
    "lost": 32,
    "expired": 64,
    "duress": 128,
}
"""Bit of each thing that a swipe can tell."""


def _granted(columns: dict[str, I64]) -> Bools:
    result: Bools = (columns["what"] & BITS["granted"]) > 0
    return result


def _is_again(columns: dict[str, I64]) -> Bools:
    """Return which swipes are the same as the one before: a reader that repeats itself until it is answered."""
    same = np.ones(len(columns["key"]), bool)
    if len(same):
        same[0] = False
    for name in ("key", "door", "time_ms", "direction", "what"):
        same[1:] &= columns[name][1:] == columns[name][:-1]
    return same & (columns["key"] >= 0)


def _grown(rows: I64, size: int) -> I64:
    if len(rows) >= size:
        return rows
    return np.concatenate([rows, np.full((max(size, 2 * len(rows)) - len(rows), rows.shape[1]), NEVER, np.int64)])


__all__ = ["BITS", "Found", "Journeys"]
