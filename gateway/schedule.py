"""Whose turn it is on a link: priorities, stagger, and devices that do not answer. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from gateway.planner import Block

BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)
"""Waits between the probes of a silent device, up to the link's own limit; the last one repeats."""
PROBE_SHARE = 4.0
"""After a probe in vain a busy link leaves silent devices alone for so many times as long as the probe took."""
REFUSED_PERIOD_S = 600.0
"""How often a register is asked again that the device says it does not have."""
_PATIENCE_S = 5.0
_STAGGER_S = 1.0
_STARVED = 3.0


@dataclass(slots=True)
class Job:
    """One block and when it is read next, in seconds of the loop's clock."""

    block: Block
    period_s: float
    due_s: float
    urgency: int = 3


@dataclass(slots=True)
class DeviceState:
    """How one device answers.

    Attributes:
        misses: Requests without an answer in a row; 0 is healthy, 2 and more is silent.
        retry_s: When it is probed, if it is not healthy.
        answered_s: When it last answered; negative if never.
        refused: Names of signals the device says it does not have.
    """

    jobs: list[Job]
    misses: int = 0
    retry_s: float = 0.0
    answered_s: float = -1.0
    refused: set[str] = field(default_factory=set)

    @property
    def is_silent(self) -> bool:
        """Whether it counts as not reachable: one lost answer is no outage yet."""
        return self.misses >= 2


@dataclass(frozen=True, slots=True)
class Turn:
    """What to send now."""

    device: str
    job: Job
    is_probe: bool

    @property
    def block(self) -> Block:
        """What is read: a probe asks for one signal only."""
        return self.job.block.first if self.is_probe else self.job.block


class Schedule:
    """Orders the requests of one link.

    Alarms and events go before states, states before telemetry; within one class the block whose next value is due
    first, so short periods come before long ones. What has waited for several of its periods goes before all:
    nothing starves. A silent device is probed with one short request when nobody else is due, and never twice in a row
    while somebody is. After a timeout the device that answered last goes first, because it is the most likely to
    answer again: neighbours wait at most one timeout, even when many devices fall silent together.

    Args:
        plans: Blocks of each device.
        now_s: The loop's clock.
        back_off_s: Longest wait between two probes of a silent device.
        settle_s: A device is left alone so long after a request without an answer.
    """

    def __init__(
        self,
        plans: Mapping[str, Sequence[Block]],
        now_s: float,
        *,
        back_off_s: float = BACK_OFF_S[3],
        settle_s: float = 0.0,
    ) -> None:
        self._back_off_s, self._settle_s = back_off_s, settle_s
        self._probe_s = self._probes_from_s = now_s
        self.devices = {name: DeviceState(list(_staggered(name, blocks, now_s))) for name, blocks in plans.items()}
        self._last_missed = False
        self.overruns = 0

    def pick(self, now_s: float) -> Turn | None:
        """Return the next request, None if nothing is due."""
        due = self._most_urgent(now_s)
        probe = self._next_probe(now_s)
        if probe is not None:
            state = self.devices[probe]
            is_overdue = now_s - state.retry_s > _PATIENCE_S and not self._last_missed
            may_probe = due is None or (is_overdue and now_s >= self._probes_from_s)
            if may_probe:
                self._probe_s = now_s
                return Turn(probe, min(state.jobs, key=lambda job: job.block.count), is_probe=True)
        return due

    def wait_s(self, now_s: float) -> float:
        """Return how long nothing is due, in seconds, at most 60."""
        times = [
            job.due_s if not state.misses else state.retry_s for state in self.devices.values() for job in state.jobs
        ]
        return max(0.0, min(min(times, default=now_s + 60.0) - now_s, 60.0))

    def answered(self, turn: Turn, now_s: float) -> bool:
        """Note an answer, good or refused; returns True if the device had been silent."""
        state = self.devices[turn.device]
        self._last_missed = False
        state.answered_s = now_s
        was_silent = state.is_silent
        if state.misses:
            state.misses = 0
            for job in state.jobs:
                job.due_s = min(job.due_s, now_s)
        if not turn.is_probe:
            self._advance(turn.job, now_s)
        return was_silent

    def missed(self, turn: Turn, now_s: float) -> bool:
        """Note that no answer came; returns True if the device counts as silent from now on."""
        self._last_missed = True
        state = self.devices[turn.device]
        state.misses += 1
        # the second try comes at once: one lost packet must not cost a second of values
        wait_s = 0.0 if state.misses == 1 else BACK_OFF_S[min(state.misses - 2, len(BACK_OFF_S) - 1)]
        state.retry_s = now_s + max(min(wait_s, self._back_off_s), self._settle_s)
        if turn.is_probe:
            self._probes_from_s = now_s + PROBE_SHARE * (now_s - self._probe_s)
        return state.misses == 2

    def split(self, turn: Turn, parts: Sequence[Block], now_s: float) -> None:
        """Read a refused block as several from now on."""
        state = self.devices[turn.device]
        state.jobs = [job for job in state.jobs if job is not turn.job]
        state.jobs += [Job(part, part.period_s, now_s, part.urgency) for part in parts]

    def refuse(self, turn: Turn, now_s: float) -> None:
        """Ask for a block rarely that the device says it does not have."""
        state = self.devices[turn.device]
        state.refused |= {signal.name for signal in turn.job.block.signals}
        turn.job.period_s = REFUSED_PERIOD_S
        turn.job.due_s = now_s + REFUSED_PERIOD_S

    def accept(self, turn: Turn, now_s: float) -> None:
        """Read a block at its own pace again that had been refused."""
        job = turn.job
        if job.period_s != job.block.period_s:
            job.period_s = job.block.period_s
            job.due_s = now_s + job.period_s
            self.devices[turn.device].refused -= {signal.name for signal in job.block.signals}

    def _most_urgent(self, now_s: float) -> Turn | None:
        best: tuple[float, int, float] | None = None
        turn: Turn | None = None
        for name, state in self.devices.items():
            if state.misses:
                continue
            trust = -state.answered_s if self._last_missed else 0.0
            for job in state.jobs:
                has_waited = now_s - job.due_s > _STARVED * job.period_s
                rank = (trust, 0 if has_waited else job.urgency, job.due_s + job.period_s)
                if job.due_s <= now_s and (best is None or rank < best):
                    best, turn = rank, Turn(name, job, is_probe=False)
        return turn

    def _next_probe(self, now_s: float) -> str | None:
        waiting = [
            (state.retry_s, name) for name, state in self.devices.items() if state.misses and state.retry_s <= now_s
        ]
        return min(waiting)[1] if waiting else None

    def _advance(self, job: Job, now_s: float) -> None:
        """Move a job to its next time; times that have passed meanwhile are left out, the phase stays."""
        job.due_s += job.period_s
        if job.due_s <= now_s:
            self.overruns += 1
            job.due_s += ((now_s - job.due_s) // job.period_s + 1) * job.period_s


def _staggered(name: str, blocks: Sequence[Block], now_s: float) -> Iterator[Job]:
    """Yield jobs whose first turns are spread, the same way after every start."""
    for block in blocks:
        share = crc32(f"{name} {block}".encode()) / 2**32
        yield Job(block, block.period_s, now_s + share * min(block.period_s, _STAGGER_S), block.urgency)
