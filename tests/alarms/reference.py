"""A plain judge, one sample at a time: what the vectorised evaluator must agree with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from alarms.conditions import LEVELS, conditions_of
from alarms.rows import RuleRow, StateTest
from alarms.signal_table import NEVER
from watchroom.births import BirthStore
from watchroom.frames import SampleFrame, decode
from watchroom.journal import Record

from .plant import SITE

USABLE = {0, 4, 5, 6}
RANK = {"LL": 2, "HH": 2, "L": 1, "H": 1, "": 1}
Told = tuple[int, int, str, str, str, float]
"""(offset, event_ms, row key, kind, level, value)"""


@dataclass
class One:
    """One condition."""

    row: RuleRow
    level: str
    test: StateTest
    hyst: int = -1
    guard: int = 1
    cond: bool = False
    act: bool = False
    since: int = NEVER
    known: bool = True
    item_ms: int = NEVER
    usable_ms: int = NEVER
    value: float = math.nan
    born: int = -1
    number: int = -1
    matured: list[tuple[int, bool]] = field(default_factory=list)

    def due(self) -> int:
        return self.since + (self.row.on_delay_ms if self.cond else self.row.off_delay_ms)

    def mature(self, event_ms: int) -> None:
        self.act = self.cond
        self.matured.append((event_ms, self.act))

    def sample(self, time_ms: int, value: float, quality: int, *, is_guard: bool, offset: int) -> None:
        time_ms = max(time_ms, self.item_ms)
        self.item_ms = time_ms
        usable = quality in USABLE and not math.isnan(value)
        verdict = 0
        if usable:
            verdict = (self.row.guard if is_guard and self.row.guard else self.test).verdict(value)
        hyst, guard = self.hyst, self.guard
        if is_guard:
            guard = verdict or guard
        else:
            hyst = verdict or hyst
        cond = hyst > 0 and guard > 0
        due, was_known = self.due(), self.known
        pending = self.cond != self.act
        if cond == self.cond:
            if pending and time_ms > due and (was_known or (usable and not is_guard)):
                self.mature(due)
        else:
            if pending and time_ms > due and was_known:
                self.mature(due)
            self.cond, self.since, self.born = cond, time_ms, offset
            delay = self.row.on_delay_ms if cond else self.row.off_delay_ms
            if delay == 0 and cond != self.act:
                self.mature(time_ms)
        self.hyst, self.guard = hyst, guard
        if not is_guard:
            self.known = usable
            if usable:
                self.usable_ms, self.value = time_ms, value

    def watermark(self, before: int, after: int, stale_ms: int, offset: int) -> None:
        due = self.due()
        if self.cond == self.act or after <= due or not (before <= due or self.born == offset):
            return
        if self.known and self.usable_ms + stale_ms > due:
            self.mature(due)


class Reference:
    """Judges limit and state rows; understands one lane order without gaps, duplicates, late samples, bad quality."""

    def __init__(self, rows: list[RuleRow], births: BirthStore) -> None:
        self.rows = rows
        self.births = births
        self.conditions: list[One] = []
        keys: list[str] = []
        for row in rows:
            keys += [key for key in row.signals if key not in keys]
            for level, test in conditions_of(row):
                self.conditions.append(One(row, level, test, guard=-1 if row.guard else 1))
        self.number = {key: i for i, key in enumerate(keys)}
        self.row_number = {row.key: i for i, row in enumerate(rows)}
        self.users: dict[str, list[One]] = {}
        self.of_row: dict[str, list[One]] = {}
        for at, one in enumerate(self.conditions):
            one.number = at
            self.of_row.setdefault(one.row.key, []).append(one)
            for key in {one.test.signal} | ({one.row.guard.signal} if one.row.guard else set()):
                self.users.setdefault(key, []).append(one)
        self.last: dict[str, int] = {}
        self.complete: dict[tuple[str, int], int] = {}
        self.lane_of: dict[str, tuple[str, int]] = {}
        self.stale: dict[str, int] = {}
        self.seen: set[tuple[str, int]] = set()
        self.births_seen: set[tuple[str, int, int]] = set()
        self.level: dict[str, str] = {row.key: "" for row in rows}
        self.is_active: dict[str, bool] = {row.key: False for row in rows}
        self.told: list[Told] = []

    def feed(self, record: Record) -> None:
        if not record.payload:
            return
        frame = decode(record.payload)
        assert isinstance(frame, SampleFrame)
        header = frame.header
        if header.seq and (record.gateway, header.seq) in self.seen:
            return
        self.seen.add((record.gateway, header.seq))
        birth = self.births.get(SITE, record.gateway, header.epoch, header.schema)
        assert birth is not None
        if (record.gateway, header.epoch, header.schema) not in self.births_seen:
            self.births_seen.add((record.gateway, header.epoch, header.schema))
            for spec in birth.signals:
                self.lane_of[spec.key] = (record.gateway, int(spec.lane))
                self.stale[spec.key] = round(spec.max_silence_s * 1500)
        rows = [
            (int(t), birth.signals[int(a)].key, float(v), int(q))
            for a, t, v, q in zip(frame.alias, frame.time_ms, frame.value, frame.quality, strict=True)
        ]
        accepted = []
        for time_ms, key, value, quality in sorted(rows, key=lambda row: row[0]):
            if time_ms > self.last.get(key, NEVER):
                self.last[key] = time_ms
                accepted.append((time_ms, self.number.get(key, -1), key, value, quality))
        for time_ms, _, key, value, quality in sorted(accepted, key=lambda item: item[:2]):
            for one in self.users.get(key, ()):
                if one.test.signal == key:
                    one.sample(time_ms, value, quality, is_guard=False, offset=record.offset)
                if one.row.guard is not None and one.row.guard.signal == key:
                    one.sample(time_ms, value, quality, is_guard=True, offset=record.offset)
        lane = (record.gateway, header.lane)
        befores = [self._complete(one) for one in self.conditions]
        self.complete[lane] = max(self.complete.get(lane, NEVER), header.complete_ms)
        for one, old in zip(self.conditions, befores, strict=True):
            one.watermark(old, self._complete(one), self.stale.get(one.test.signal, 90_000), record.offset)
        self._tell(record.offset)

    def _complete(self, one: One) -> int:
        keys = [one.test.signal] + ([one.row.guard.signal] if one.row.guard else [])
        return min(self.complete.get(self.lane_of.get(key, ("", -1)), NEVER) for key in keys)

    def _tell(self, offset: int) -> None:
        changes = [
            (event_ms, self.row_number[one.row.key], i, is_active)
            for i, one in enumerate(self.conditions)
            for event_ms, is_active in one.matured
        ]
        changes.sort(key=lambda item: item[:3])
        if not changes:
            return
        state = {i: self._before(one) for i, one in enumerate(self.conditions)}
        for at, (event_ms, row_number, i, is_active) in enumerate(changes):
            state[i] = is_active
            if at + 1 < len(changes) and changes[at + 1][:2] == (event_ms, row_number):
                continue
            row = self.rows[row_number]
            active = [one.level for one in self.of_row[row.key] if state[one.number]]
            new = next((level for level in LEVELS if level in active), None)
            old = self.level[row.key] if self.is_active[row.key] else None
            if new == old:
                continue
            self.is_active[row.key] = new is not None
            kind = "RAISE" if old is None else "CLEAR" if new is None else "?"
            if kind == "?" and new is not None and old is not None:
                kind = "EASE" if RANK[new] < RANK[old] else "ESCALATE"
            level = new if new is not None else old or ""
            self.level[row.key] = level
            self.told.append((offset, event_ms, row.key, kind, level, self.conditions[i].value))
        for one in self.conditions:
            one.matured.clear()

    @staticmethod
    def _before(one: One) -> bool:
        return one.act if not one.matured else not one.matured[0][1]
