"""What other rules would have said: a stretch of journal judged by two rule sets, alarms counted by rule. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from alarms.evaluator import Evaluator
from alarms.judged import Change, Transition
from alarms.signal_table import NEVER
from watchroom.journal import Record

BATCH = 256
"""Records judged at once."""


@dataclass(slots=True)
class Count:
    """What one rule said.

    Attributes:
        alarms: How often it raised.
        rows: Keys of the rows that did.
        active_ms: Time in alarm, all rows together, within the stretch.
    """

    alarms: int = 0
    rows: set[str] = field(default_factory=set)
    active_ms: int = 0


class Tally:
    """Counts the alarms of one rule set.

    Args:
        start_ms: Begin of the stretch by event time; what was raised before is known but not counted.
        end_ms: Its end, not included.
    """

    def __init__(self, start_ms: int, end_ms: int) -> None:
        self._start_ms, self._end_ms = start_ms, end_ms
        self.rules: dict[str, Count] = {}
        self._open: dict[str, tuple[str, int]] = {}

    def take(self, transitions: Iterable[Transition]) -> None:
        """Count transitions, in journal order."""
        for transition in transitions:
            key, rule = transition.row.key, transition.row.rule
            if transition.kind is Change.RAISE:
                if not transition.is_late:
                    self._open[key] = rule, transition.event_ms
                if self._start_ms <= transition.event_ms < self._end_ms:
                    count = self.rules.setdefault(rule, Count())
                    count.alarms += 1
                    count.rows.add(key)
            elif transition.kind is Change.CLEAR and not transition.is_late:
                self._close(key, transition.event_ms)

    def finish(self) -> None:
        """Count what is still active up to the end."""
        for key in list(self._open):
            self._close(key, self._end_ms)

    def _close(self, key: str, time_ms: int) -> None:
        rule, raised_ms = self._open.pop(key, ("", NEVER))
        lasted_ms = min(time_ms, self._end_ms) - max(raised_ms, self._start_ms)
        if raised_ms > NEVER and lasted_ms > 0:
            self.rules.setdefault(rule, Count()).active_ms += lasted_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One rule before and after; times in ms."""

    rule: str
    before: int
    after: int
    rows_before: int
    rows_after: int
    active_before_ms: int
    active_after_ms: int


def compare(
    records: Iterable[Record], before: Evaluator, after: Evaluator, *, start_ms: int, end_ms: int
) -> tuple[list[Line], int]:
    """Judge records by both, and return (one line for each rule that raised, samples judged).

    Args:
        records: In journal order; those before the stretch bring both judges into the state they had then.
        before: Judge of the rules in force.
        after: Judge of the other rules.
        start_ms: Begin of the stretch, event time.
        end_ms: Its end, not included.
    """
    tallies = Tally(start_ms, end_ms), Tally(start_ms, end_ms)
    waiting: list[Record] = []

    def judge() -> None:
        for judge_, tally in zip((before, after), tallies, strict=True):
            for record in waiting:
                judge_.feed(record)
            tally.take(judge_.evaluate().transitions)
        waiting.clear()

    for record in records:
        waiting.append(record)
        if len(waiting) >= BATCH:
            judge()
    judge()
    for tally in tallies:
        tally.finish()
    return _lines(*tallies), before.counters["samples"]


def _lines(before: Tally, after: Tally) -> list[Line]:
    lines = []
    for rule in sorted(before.rules.keys() | after.rules.keys()):
        old, new = before.rules.get(rule, Count()), after.rules.get(rule, Count())
        lines.append(
            Line(
                rule=rule,
                before=old.alarms,
                after=new.alarms,
                rows_before=len(old.rows),
                rows_after=len(new.rows),
                active_before_ms=old.active_ms,
                active_after_ms=new.active_ms,
            )
        )
    return sorted(lines, key=lambda line: (-abs(line.after - line.before), line.rule))


HEADS = ("rule", "alarms before", "after", "change", "rows before", "after", "min active before", "after")


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.rule,
        str(line.before),
        str(line.after),
        f"{line.after - line.before:+d}" if line.after != line.before else "=",
        str(line.rows_before),
        str(line.rows_after),
        f"{line.active_before_ms / 60_000:.1f}",
        f"{line.active_after_ms / 60_000:.1f}",
    )


def table(lines: Sequence[Line]) -> str:
    """Return the lines and their sum as a table for a terminal."""
    rows = [HEADS, *(_cells(line) for line in (*lines, _sum(lines)))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    return "\n".join(
        "  ".join(cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)).rstrip()
        for row in rows
    )


def page(lines: Sequence[Line], *, title: str) -> str:
    """Return the lines as one HTML page that needs nothing else."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in HEADS)
    body = "\n".join(
        "<tr"
        + (' class="changed"' if line.after != line.before else "")
        + ">"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(line))
        + "</tr>"
        for line in (*lines, _sum(lines))
    )
    style = (
        "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{padding:.3em .8em;"
        "border-bottom:1px solid #ccc;text-align:right}td:first-child,th:first-child{text-align:left}"
        ".changed td{font-weight:bold}tr:last-child td{border-top:2px solid #333}"
    )
    name = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{name}</title><style>{style}</style>\n'
        f"<h1>{name}</h1>\n<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></html>\n"
    )


def _sum(lines: Sequence[Line]) -> Line:
    return Line(
        rule="all",
        before=sum(line.before for line in lines),
        after=sum(line.after for line in lines),
        rows_before=sum(line.rows_before for line in lines),
        rows_after=sum(line.rows_after for line in lines),
        active_before_ms=sum(line.active_before_ms for line in lines),
        active_after_ms=sum(line.active_after_ms for line in lines),
    )
