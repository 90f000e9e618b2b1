"""Which requests read a device: signals merged into few reads, and what each read costs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.addresses import Table
from gateway.eventlog import LogSource, TextSource
from gateway.model import Hole, Model, ModelSignal

MAX_REGS = 120
MAX_GAP = {"tcp": 8, "serial": 16, "listen": 16}
"""Unused registers worth reading to save a request; a serial or mobile line pays more for a request than for one."""
_MAX_BITS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One read request.

    Attributes:
        start: First register or bit, as on the wire.
        count: How many are read.
        group: Polling group all its signals belong to.
        signals: What is decoded from it, in order of address; none for a log or a text.
        log: The event log or text it belongs to.
    """

    table: Table
    start: int
    count: int
    group: str
    period_s: float
    signals: tuple[ModelSignal, ...]
    log: LogSource | TextSource | None = None

    @property
    def unused(self) -> int:
        """How many registers or bits are read for nothing."""
        if self.log is not None:
            return 0
        used = {place for signal in self.signals for place in range(signal.offset, signal.last + 1)}
        return self.count - len(used)

    @property
    def urgency(self) -> int:
        """Of its most urgent signal: 1 alarms and events, 2 states, 3 telemetry."""
        return min((signal.urgency for signal in self.signals), default=1)

    @property
    def first(self) -> Block:
        """The shortest read that shows whether the device answers: its first signal alone."""
        if self.log is not None:
            return replace(self, count=1)
        return _block(self.table, self.group, self.period_s, [self.signals[0]])

    def __str__(self) -> str:
        what = "bits" if self.table.is_bits else "regs"
        unused = f", {self.unused} unused" if self.unused else ""
        return f"FC{self.table.function} {self.start}..{self.start + self.count - 1}, {self.count} {what}{unused}"


def plan_reads(model: Model, *, link_kind: str = "tcp") -> tuple[Block, ...]:
    """Return the requests that read every polled signal of a model once.

    Signals of one table and group share a request where the gap between them is at most ``max_gap`` registers,
    the request stays within ``max_regs``, and no hole lies in the gap. For coils and discrete inputs a register
    counts as 16 bits.

    Args:
        model: The device model.
        link_kind: ``tcp`` or ``serial``; the default gap depends on it.
    """
    max_regs = model.max_regs or MAX_REGS
    max_gap = MAX_GAP.get(link_kind, MAX_GAP["tcp"]) if model.max_gap is None else model.max_gap
    sets: dict[tuple[Table, str], list[ModelSignal]] = {}
    for signal in model.polled:
        if signal.table is not None:
            sets.setdefault((signal.table, signal.group), []).append(signal)
    blocks: list[Block] = []
    for (table, group), signals in sets.items():
        limit = min(_MAX_BITS, max_regs * 16) if table.is_bits else max_regs
        gap = max_gap * 16 if table.is_bits else max_gap
        holes = [hole for hole in model.holes if hole[0] is table]
        for run in _runs(signals, limit=limit, gap=gap, holes=holes):
            blocks.append(_block(table, group, model.groups[group], run))
    blocks += [_log_block(log, model.groups[log.group]) for log in model.logs]
    return tuple(blocks)


def _log_block(log: LogSource | TextSource, period_s: float) -> Block:
    if isinstance(log, LogSource):
        (table, start), count = log.counter, 1
    else:
        table, start, count = log.table, log.offset, log.registers
    return Block(table=table, start=start, count=count, group=log.group, period_s=period_s, signals=(), log=log)


def halves(block: Block) -> tuple[Block, Block] | None:
    """Return a refused block as two, cut at its widest gap; None if it cannot be cut.

    Signals that share registers stay together.
    """
    spans = _spans(block.signals)
    if len(spans) < 2:
        return None
    cuts = range(1, len(spans))
    middle = len(spans) / 2

    def badness(cut: int) -> tuple[int, float]:
        gap = spans[cut][0].offset - max(signal.last for signal in spans[cut - 1])
        return (-gap, abs(cut - middle))

    cut = min(cuts, key=badness)
    parts = [[signal for span in half for signal in span] for half in (spans[:cut], spans[cut:])]
    left, right = (_block(block.table, block.group, block.period_s, part) for part in parts)
    return left, right


def describe(unit: int, blocks: Iterable[Block]) -> Iterator[str]:
    """Yield one line a request, as ``watchroom plan`` prints it: ``unit 1 FC3 0..41, 42 regs, 3 unused``."""
    for block in blocks:
        what = f"{len(block.signals)} signals" if block.log is None else f"{block.log.name}"
        yield f"unit {unit} {block}, every {period_text(block.period_s)}, {what}"


def requests_per_second(blocks: Iterable[Block]) -> float:
    """Return how often a device is asked."""
    return sum(1 / block.period_s for block in blocks)


def period_text(period_s: float) -> str:
    """Return a period as people write it."""
    return f"{period_s * 1000:g}ms" if period_s < 1 else f"{period_s:g}s"


def _runs(
    signals: Iterable[ModelSignal], *, limit: int, gap: int, holes: Sequence[Hole]
) -> Iterator[list[ModelSignal]]:
    run: list[ModelSignal] = []
    end = -1
    for signal in sorted(signals, key=lambda item: (item.offset, item.last)):
        if run:
            too_far = signal.offset - end - 1 > gap
            too_long = max(end, signal.last) - run[0].offset + 1 > limit
            crosses = any(first < signal.offset and last > end for _, first, last in holes)
            if too_far or too_long or crosses:
                yield run
                run = []
        end = max(end, signal.last) if run else signal.last
        run.append(signal)
    if run:
        yield run


def _spans(signals: Sequence[ModelSignal]) -> list[list[ModelSignal]]:
    """Signals in groups that share registers."""
    spans: list[list[ModelSignal]] = []
    end = -1
    for signal in signals:
        if spans and signal.offset <= end:
            spans[-1].append(signal)
        else:
            spans.append([signal])
        end = max(end, signal.last)
    return spans


def _block(table: Table, group: str, period_s: float, signals: Sequence[ModelSignal]) -> Block:
    start = signals[0].offset
    count = max(signal.last for signal in signals) - start + 1
    return Block(table=table, start=start, count=count, group=group, period_s=period_s, signals=tuple(signals))
