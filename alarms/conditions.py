"""The single-signal conditions of all rows as columns, and their carried state. Pure.

One *condition* is one level of a limit row, or a state row. A row with HH and H has two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alarms.rows import Op, RuleRow, StateTest
from alarms.signal_table import F64, I64, NEVER, U8, Bools, Ints, SignalTable

I8 = NDArray[np.int8]
LEVELS = ("LL", "HH", "L", "H", "")
"""In the order in which an active one stands for its row."""
_ABOVE = {"HH", "H"}
JUDGED = ("limit", "state", "count", "logic")
"""Kinds that are judged as conditions of one signal, measured or derived."""
_BITS, _IN = int(Op.BITS), int(Op.IN)


def conditions_of(row: RuleRow) -> list[tuple[str, StateTest]]:
    """Return (level, test) of each condition of a row; those of count and logic rows are states of a derived value."""
    if row.state is not None:
        return [("", row.state)]
    tests = []
    for level in (level for level in LEVELS if level in row.limits):
        op = Op.ABOVE if level in _ABOVE else Op.BELOW
        key = row.derived.key if row.derived is not None else row.signal or ""
        test = StateTest(signal=key, op=op, limit=row.limits[level], deadband=row.deadband)
        tests.append((level, test))
    return tests


class Comparisons:
    """Comparisons as columns: `verdicts` judges many values at once, as `StateTest.verdict` does one."""

    def __init__(self, tests: Sequence[StateTest]) -> None:
        width = max([len(test.values) for test in tests], default=0) or 1
        self._op: NDArray[np.int8] = np.array([test.op for test in tests], np.int8)
        # turned over for BELOW, so that one comparison serves both
        self._sign: F64 = np.array([-1.0 if test.op is Op.BELOW else 1.0 for test in tests])
        self._limit: F64 = self._sign * np.array([test.limit for test in tests], float)
        self._inside: F64 = self._sign * np.array([_inside(test) for test in tests], float)
        self._is_discrete: Bools = np.array([test.op >= Op.BITS for test in tests], bool)
        self._mask: I64 = np.array([test.mask for test in tests], np.int64)
        self._values: F64 = np.full((len(tests), width), np.nan)
        for i, test in enumerate(tests):
            self._values[i, : len(test.values)] = test.values

    def verdicts(self, test: Ints, value: F64) -> I8:
        """Return 1 pass, -1 fail, 0 in the deadband or NaN; shape (n,) as both inputs."""
        signed = value * self._sign[test]
        passed, failed = signed > self._limit[test], signed <= self._inside[test]
        rest = self._is_discrete[test].nonzero()[0]
        if len(rest):
            hit = self._discrete(self._op[test[rest]], test[rest], value[rest])
            passed[rest], failed[rest] = hit, ~hit
        verdict: I8 = passed.view(np.int8) - failed.view(np.int8)
        is_nan = value != value
        if is_nan.any():
            verdict[is_nan] = 0
        return verdict

    def _discrete(self, op: I8, test: Ints, value: F64) -> Bools:
        whole = np.where(np.abs(value) < 2.0**62, value, 0.0)
        whole[np.isnan(whole)] = 0.0
        bits = (whole.astype(np.int64) & self._mask[test]) != 0
        member = (value[:, None] == self._values[test]).any(axis=1)
        result: Bools = np.where(op == _BITS, bits, member == (op == _IN))
        return result


def _inside(test: StateTest) -> float:
    return test.limit - test.deadband if test.op is Op.ABOVE else test.limit + test.deadband


def clear_band(test: StateTest) -> tuple[float, float]:
    """Return (low, high): values between them, both included, certainly fail the test."""
    if test.op is Op.ABOVE:
        return -np.inf, _inside(test)
    if test.op is Op.BELOW:
        return _inside(test), np.inf
    if test.op is Op.BITS:
        return 0.0, float(np.nextafter(test.mask & -test.mask, 0))
    if test.op is Op.NOT_IN:
        one = 0.0 if 0.0 in test.values else test.values[0]
        return one, one
    if min(test.values) > 0:
        return -np.inf, float(np.nextafter(min(test.values), -np.inf))
    return float(np.nextafter(max(test.values), np.inf)), np.inf


class Conditions:
    """Columns of shape (m,), one entry for each condition.

    Attributes:
        row: Number of the row among ``rows``.
        signal: Number of the main signal.
        guard_signal: Number of the guard's signal, -1 without one.
        hyst: Last verdict that was not 0: 1 or -1.
        guard: The same of the guard; 1 without one.
        cond: The condition with its guard, before delays.
        act: The condition after delays.
        since: When ``cond`` took its value, event time.
        is_known: The main signal's newest sample was usable.
        item_ms: Time of the newest sample that was looked at, main or guard.
        usable_ms: Time of the newest usable sample of the main signal.
        value: Its value.
        quality: Its quality.
        raised_ms: When ``act`` became true last, event time; kept where a minimum on holds it.
    """

    _STATE = (
        "hyst",
        "guard",
        "cond",
        "act",
        "since",
        "is_known",
        "item_ms",
        "usable_ms",
        "value",
        "quality",
        "raised_ms",
    )

    def __init__(self, rows: Sequence[RuleRow], signals: SignalTable) -> None:
        self.rows = [row for row in rows if row.kind in JUDGED]
        pairs = [(number, level, test) for number, row in enumerate(self.rows) for level, test in conditions_of(row)]
        guards = [self.rows[number].guard for number, _, _ in pairs]
        m = self.m = len(pairs)
        self.row: Ints = np.array([number for number, _, _ in pairs], np.intp)
        self.level = [level for _, level, _ in pairs]
        self.signal: Ints = np.array([signals.number(test.signal) for _, _, test in pairs], np.intp)
        self.guard_signal: Ints = np.array([signals.number(g.signal) if g else -1 for g in guards], np.intp)
        self.on_ms: I64 = np.array([self.rows[number].on_delay_ms for number in self.row], np.int64)
        self.off_ms: I64 = np.array([self.rows[number].off_delay_ms for number in self.row], np.int64)
        self.least_on_ms: I64 = np.array([self.rows[number].minimum_on_ms for number in self.row], np.int64)
        self.holds_on = bool(self.least_on_ms.any())
        self.raised_ms: I64 = np.full(m, NEVER, np.int64)
        self.test = [test for _, _, test in pairs]
        # a condition without a guard never asks its second test
        self.tests = Comparisons(self.test + [g or t for g, (_, _, t) in zip(guards, pairs, strict=True)])
        self.hyst: I8 = np.full(m, -1, np.int8)
        self.guard: I8 = np.where(self.guard_signal < 0, 1, -1).astype(np.int8)
        self.cond: Bools = np.zeros(m, bool)
        self.act: Bools = np.zeros(m, bool)
        self.since: I64 = np.full(m, NEVER, np.int64)
        self.is_known: Bools = np.ones(m, bool)
        self.item_ms: I64 = np.full(m, NEVER, np.int64)
        self.usable_ms: I64 = np.full(m, NEVER, np.int64)
        self.value: F64 = np.full(m, np.nan)
        self.quality: U8 = np.zeros(m, np.uint8)
        self.row_level = ["-"] * len(self.rows)
        self._link(signals)
        for _, _, test in pairs:
            number = signals.number(test.signal)
            low, high = clear_band(test)
            signals.low[number] = max(signals.low[number], low)
            signals.high[number] = min(signals.high[number], high)
        signals.is_tracked[self.guard_signal[self.guard_signal >= 0]] = True

    def _link(self, signals: SignalTable) -> None:
        """Make the lists signal -> conditions, main and guard in one: shape (pairs,) sorted by signal."""
        guarded = np.flatnonzero(self.guard_signal >= 0)
        signal = np.concatenate([self.signal, self.guard_signal[guarded]])
        condition = np.concatenate([np.arange(self.m), guarded])
        is_guard = np.concatenate([np.zeros(self.m, bool), np.ones(len(guarded), bool)])
        order = np.argsort(signal, kind="stable")
        self._linked: Ints = condition[order].astype(np.intp)
        self._linked_guard: Bools = is_guard[order]
        self._start: Ints = np.searchsorted(signal[order], np.arange(len(signals) + 1)).astype(np.intp)

    def users(self, signal: Ints) -> tuple[Ints, Ints, Bools]:
        """Return for many signals every (position in the input, condition, used as guard)."""
        known = signal < len(self._start) - 1
        low = np.where(known, self._start[np.where(known, signal, 0)], 0)
        high = np.where(known, self._start[np.where(known, signal, -1) + 1], 0)
        counts = high - low
        position = np.repeat(np.arange(len(signal)), counts)
        ends = np.cumsum(counts)
        flat = np.arange(len(position)) - np.repeat(ends - counts, counts) + np.repeat(low, counts)
        return position, self._linked[flat], self._linked_guard[flat]

    def delay_ms(self, condition: Ints, is_on: Bools, since_ms: I64) -> I64:
        """Return how long runs of some conditions must last: on delay, or off delay lengthened by the minimum on."""
        off = self.off_ms[condition]
        if self.holds_on:
            off = np.maximum(off, self.raised_ms[condition] + self.least_on_ms[condition] - since_ms)
        return np.where(is_on, self.on_ms[condition], off)

    def names(self) -> list[str]:
        """Return ``row key#level`` of each condition."""
        return [f"{self.rows[row].key}#{level}" for row, level in zip(self.row, self.level, strict=True)]

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the carried state."""
        return {name: getattr(self, name) for name in self._STATE}

    def load(self, names: list[str], columns: dict[str, NDArray[Any]], levels: dict[str, str]) -> None:
        """Take over state saved under names; conditions that are new keep their first state."""
        here = {name: i for i, name in enumerate(self.names())}
        pairs = [(old, here[name]) for old, name in enumerate(names) if name in here]
        source = np.array([old for old, _ in pairs], np.intp)
        target = np.array([new for _, new in pairs], np.intp)
        for name, column in columns.items():
            getattr(self, name)[target] = column[source]
        # a guard that was removed must not keep its row quiet
        self.guard[self.guard_signal < 0] = 1
        for number, row in enumerate(self.rows):
            self.row_level[number] = levels.get(row.key, "-")
