"""The judge: journal records in, transitions of alarm rows out. Pure but for the birth store it reads.

The journal is judged in *chunks* that end at ticks (where health is judged), where a gateway's clock steps, where a
gateway becomes simulated or real, and when they are large. What comes out depends on the journal alone, not on how it
was fed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from alarms.checkpoint import pack, unpack
from alarms.chunk import Chunk, Samples
from alarms.conditions import Conditions
from alarms.derived import Derivations
from alarms.doors.judge import DoorJudge
from alarms.explain import explain_row, explain_signal
from alarms.health_rules import HealthJudge
from alarms.intake import Intake
from alarms.judged import Change, Judged, JudgedEvent, Latest, Transition
from alarms.lanes import Lanes
from alarms.late import LateLane
from alarms.levels import RowChange, RowLevels
from alarms.rows import RuleRow
from alarms.rules import RuleSet
from alarms.sequences import SequenceJudge
from alarms.sifting import Sieve
from alarms.signal_table import NEVER, SignalTable
from alarms.steps import DEEP, Steps
from watchroom.births import BirthStore
from watchroom.errors import StateError
from watchroom.journal import Record, is_tick
from watchroom.site import Site

CHUNK_SAMPLES: Final = 30_000
"""Samples judged at once: enough to hide the cost of a call, few enough for the processor's cache."""


class Evaluator:
    """Judges the records of one site in journal order.

    Attributes:
        judging_s: Seconds the last `evaluate` spent on judging samples, without decoding frames and without ticks.

    Args:
        ruleset: The site's rules.
        births: Explains the aliases of frames.
        site_id: The site.
        deep: Samples of one signal in a chunk from which whole runs are judged instead of step by step.
        site: Its places, for rules of access control; None for none.
    """

    def __init__(
        self, ruleset: RuleSet, births: BirthStore, site_id: str, *, deep: int = DEEP, site: Site | None = None
    ) -> None:
        self._ruleset = ruleset
        self._table = SignalTable(key for row in ruleset.rows for key in row.signals)
        for row in ruleset.rows:
            for test in row.sequence.states if row.sequence else ():
                self._table.number(test.signal)
        self._lanes = Lanes()
        self._conditions = Conditions(ruleset.rows, self._table)
        self._levels = RowLevels(self._conditions)
        self._steps = Steps(self._conditions, self._table, self._lanes, deep=deep)
        self._late = LateLane(self._conditions)
        self._health = HealthJudge(
            ruleset.rows,
            expected=ruleset.expected,
            gateways=ruleset.gateways,
            table=self._table,
            lanes=self._lanes,
        )
        self._derivations = Derivations(ruleset.rows, table=self._table, lanes=self._lanes)
        self._sequences = SequenceJudge(ruleset.rows, table=self._table, lanes=self._lanes)
        self.doors = DoorJudge(ruleset.rows, table=self._table, lanes=self._lanes, site=site)
        self._table.is_clean &= ~self._table.is_tracked
        self._sieve = Sieve(self._table)
        self._intake = Intake(births, site_id, table=self._table, lanes=self._lanes)
        self._order = {row.key: i for i, row in enumerate(ruleset.rows)}
        self._records: list[Record] = []
        self._offset = -1
        self._is_changed = False
        self.judging_s = 0.0

    @property
    def counters(self) -> dict[str, int]:
        """Frames, samples, duplicates, late samples and unreadable frames since the start, for metrics."""
        return dict(self._intake.counters)

    def feed(self, record: Record) -> None:
        """Take one record; it is judged by the next `evaluate`."""
        self._records.append(record)

    def evaluate(self) -> Judged:
        """Judge everything fed since the last call."""
        judged = Judged()
        self.judging_s = 0.0
        records, self._records = self._records, []
        if records and self._is_changed:
            self._mend(records[0], judged)
        chunk = self._new_chunk()
        for record in records:
            self._offset = record.offset
            if is_tick(record):
                self._judge(chunk, judged)
                self._tick(record, judged)
                chunk = self._new_chunk()
                continue
            frame = self._intake.read(record)
            if frame is None:
                continue
            if self._intake.breaks(record.gateway, frame.header):
                self._judge(chunk, judged)
                self._restart_clock(self._intake.turn(record.gateway, frame.header), frame.header.complete_ms)
                chunk = self._new_chunk()
            self._intake.add(chunk, record, frame)
            if chunk.count >= CHUNK_SAMPLES:
                self._judge(chunk, judged)
                chunk = self._new_chunk()
        self._judge(chunk, judged)
        return judged

    def _mend(self, record: Record, judged: Judged) -> None:
        """After a change of rules: what stands at a level that is gone goes to the one it has, at the next record."""
        self._is_changed = False
        for number, kind, level in self._levels.mend():
            change = RowChange(number, kind, level, record.arrived_ms, 0, float("nan"), 0)
            row = self._conditions.rows[number]
            judged.transitions.append(self._transition(change, row, offset=record.offset, arrived_ms=record.arrived_ms))

    def _new_chunk(self) -> Chunk:
        chunk = Chunk()
        chunk.start(self._lanes.complete_ms)
        return chunk

    def _judge(self, chunk: Chunk, judged: Judged) -> None:
        """Judge one chunk and append what comes out."""
        if not chunk.offset:
            return
        started = time.perf_counter()
        samples = chunk.samples()
        fresh, late = (_no_samples(), _no_samples()) if samples is None else self._sieve.sift(samples)
        events = self._intake.events(chunk)
        changes = self._judge_conditions(chunk, self._derivations.derive(chunk, fresh, events))
        rows = self._conditions.rows
        # these come in order; the order of rows among the conditions is that of the rule set
        found = [(change, rows[change.row]) for change in changes]
        if len(late.signal):
            self._intake.counters["late"] += len(late.signal)
            self._late.take(late)
        sequences = self._sequences.judge(chunk, fresh=fresh, late=late, events=events)
        found += [(change, self._sequences.rows[change.row]) for change in sequences]
        doors = self.doors.judge(chunk, fresh=fresh, late=late, events=events)
        found += [(change, self.doors.rows[change.row]) for change in doors]
        judged.events += events
        for change, row in self._sorted(found) if sequences or doors else found:
            offset, arrived_ms = chunk.offset[change.record], chunk.arrived_ms[change.record]
            told = self._transition(change, row, offset=offset, arrived_ms=arrived_ms, cause=change.cause)
            judged.transitions.append(told)
        self.judging_s += time.perf_counter() - started

    def _judge_conditions(self, chunk: Chunk, fresh: Samples) -> list[RowChange]:
        matured = self._steps.judge(chunk, fresh)
        return list(self._levels.apply(matured)) if matured is not None else []

    def _tick(self, record: Record, judged: Judged) -> None:
        changes: list[tuple[RowChange, RuleRow, tuple[str, ...]]] = []
        for change in self._health.tick(record.arrived_ms):
            causes = self._health.causes(change.row) if change.kind is Change.RAISE else ()
            changes.append((change, self._health.rows[change.row], causes))
        for change in self._late.tell(record.arrived_ms):
            changes.append((change, self._conditions.rows[change.row], ()))
        for change in self._sequences.tick(0, record.arrived_ms):
            changes.append((change, self._sequences.rows[change.row], ()))
        for change in self.doors.tick(0, record.arrived_ms):
            changes.append((change, self.doors.rows[change.row], change.cause))
        causes_of = {id(change): causes for change, _, causes in changes}
        for change, row in self._sorted((change, row) for change, row, _ in changes):
            judged.transitions.append(
                self._transition(
                    change,
                    row,
                    offset=record.offset,
                    arrived_ms=record.arrived_ms,
                    cause=causes_of[id(change)],
                )
            )

    def _sorted(self, found: Iterable[tuple[RowChange, RuleRow]]) -> list[tuple[RowChange, RuleRow]]:
        return sorted(found, key=lambda item: (item[0].record, item[0].event_ms, self._order[item[1].key]))

    def _transition(
        self, change: RowChange, row: RuleRow, *, offset: int, arrived_ms: int, cause: tuple[str, ...] = ()
    ) -> Transition:
        if row.kind == "health":
            gateway = self._health.gateway_of(change.row)
        elif row.derived is not None:
            gateway = int(self._table.gateway[self._table.number(row.derived.key)])
        else:
            gateway = -1 if row.signal is None else int(self._table.gateway[self._table.number(row.signal)])
        return Transition(
            row=row,
            kind=change.kind,
            event_ms=change.event_ms,
            arrived_ms=arrived_ms,
            value=change.value,
            quality=change.quality,
            level=change.level,
            limit=row.limits.get(change.level, float("nan")),
            is_late=change.is_late,
            is_simulated=gateway >= 0 and self._lanes.states[gateway].is_simulated,
            offset=offset,
            cause=cause,
        )

    def _restart_clock(self, gateway: int, now_ms: int) -> None:
        """After a step of a gateway's clock nothing it said before can be compared with what it says now."""
        if gateway < 0:
            return
        table, state = self._table, self._conditions
        was_ms = max((int(self._lanes.complete_ms[lane]) for lane in self._lanes.lanes_of(gateway)), default=NEVER)
        if was_ms > NEVER:
            self.doors.restart_clock(gateway, now_ms - was_ms)
        mine = np.flatnonzero(table.gateway[: len(table)] == gateway)
        table.time_ms[mine] = np.where(table.time_ms[mine] == NEVER, NEVER, NEVER + 1)
        for lane in self._lanes.lanes_of(gateway):
            self._lanes.complete_ms[lane] = NEVER
        is_mine = np.isin(state.signal, mine)
        state.since[is_mine & (state.cond != state.act)] = now_ms
        state.item_ms[is_mine] = NEVER
        state.usable_ms[is_mine] = NEVER
        self._derivations.restart(gateway)
        self._steps.reload()

    def checkpoint(self) -> bytes:
        """Return the whole state.

        Raises:
            StateError: If records were fed that `evaluate` has not judged.
        """
        if self._records:
            raise StateError("evaluator.busy", "evaluate before taking a checkpoint")
        content: dict[str, Any] = {
            "offset": self._offset,
            "rules": self._ruleset.version,
            "keys": self._table.keys,
            "conditions": self._conditions.names(),
            "levels": dict(zip((row.key for row in self._conditions.rows), self._conditions.row_level, strict=True)),
            "lanes": self._lanes.to_json(),
            "late": self._late.to_json(),
            "health": self._health.to_json(),
            "sequences": self._sequences.to_json(),
            "doors": self.doors.to_json(),
            "derived": self._derivations.to_json(),
        }
        columns = {f"signal.{name}": column for name, column in self._table.columns().items()}
        columns |= {f"condition.{name}": column for name, column in self._conditions.columns().items()}
        return pack(content, columns)

    def restore(self, state: bytes) -> None:
        """Take over the state of a checkpoint; rows whose key is unchanged keep their state.

        Raises:
            ContractError: ``checkpoint`` if the bytes are damaged.
        """
        content, columns = unpack(state)
        parts = {"signal": {}, "condition": {}}  # type: dict[str, dict[str, Any]]
        for name, column in columns.items():
            part, _, short = name.partition(".")
            parts[part][short] = column
        self._table.load(content["keys"], parts["signal"])
        self._conditions.load(content["conditions"], parts["condition"], content["levels"])
        self._lanes.load(content["lanes"])
        for gateway in self._ruleset.gateways:
            self._lanes.gateway(gateway)
        self._late.load(content["late"])
        self._health.load(content["health"])
        self._sequences.load(content["sequences"])
        self.doors.load(content.get("doors"))
        self._derivations.load(content.get("derived", {"windows": {}, "waiting": {}}))
        self._levels.reload()
        self._steps.reload()
        self._intake.forget()
        self._offset = content["offset"]
        if content["rules"] != self._ruleset.version:
            # a band may have moved: every signal is looked at once more
            self._table.is_clean[:] = False
            self._is_changed = True

    def explain(self, key: str) -> dict[str, Any]:
        """Return ``signal`` and ``rules``: what every rule that looks at a signal sees now, as JSON can hold it."""
        number_of = {row.key: number for number, row in enumerate(self._conditions.rows)}
        rules = []
        for row in self._ruleset.rows:
            if key not in row.signals and key != row.signal:
                continue
            if row.key in number_of:
                told = explain_row(
                    row, number_of[row.key], state=self._conditions, table=self._table, lanes=self._lanes
                )
            else:
                told = {"row": row.key, "rule": row.rule, "kind": row.kind, "version": row.version, "unit": row.unit}
            rules.append(told)
        return {"signal": explain_signal(key, self._table, self._lanes), "offset": self._offset, "rules": rules}

    @property
    def offset(self) -> int:
        """Journal offset of the newest record judged, -1 before the first."""
        return self._offset

    def latest(self) -> Latest:
        """Return the newest sample of every signal."""
        table = self._table
        names = [*self._lanes.gateways, ""]
        keys, which = table.keys, np.arange(len(table))
        if any(row.derived is not None for row in self._ruleset.rows):
            which = np.array([number for number, key in enumerate(keys) if key[0] != "~"], np.intp)
            keys = [keys[number] for number in which.tolist()]
        time_ms = table.time_ms[which]
        return Latest(
            keys=list(keys),
            time_ms=np.where(time_ms < 0, 0, time_ms),
            value=table.value[which],
            quality=table.quality[which],
            gateway=[names[number] for number in table.gateway[which].tolist()],
            is_stale=table.is_stale[which],
        )


def _no_samples() -> Samples:
    none = np.zeros(0, np.int64)
    return Samples(
        signal=none.astype(np.intp), record=none, time_ms=none, value=none.astype(float), quality=none.astype(np.uint8)
    )


__all__ = ["Evaluator", "Judged", "JudgedEvent", "Latest", "Transition"]
