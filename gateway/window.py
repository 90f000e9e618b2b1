"""Which frame goes out next, on which topic, and when it goes out again (pure; time comes in)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from watchroom.signals import Lane

LEAF = {Lane.URGENT: "u", Lane.TELEMETRY: "d"}
URGENT_ROOM = 8
"""Places of the window that only urgent live frames may use, so that an alarm never waits for telemetry."""


class Shelf(Protocol):
    """What the outbox still has to deliver: committed and not acknowledged."""

    def after(self, lane: int, seq: int) -> int | None:
        """Return the lane's first such frame beyond ``seq``, None when there is none."""

    def lane_of(self, seq: int) -> int | None:
        """Return the lane of such a frame, None when it is not (or no longer) held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """How much may be under way, and the patience of the sender.

    Attributes:
        size: Frames sent and not acknowledged, at most.
        backlog_size: How many of them may be backlog.
        backlog_per_s: Backlog frames sent a second, at most, while live frames go beside them.
        stale_ms: After an interruption longer than this, old frames become backlog and a snapshot starts a new chain.
        first_retry_ms: The same wait right after connecting, until something was acknowledged: the centre may not have
            subscribed yet, and a broker drops what nobody subscribed to.
        retry_ms: Frames without any progress for so long are sent again; doubles each time ...
        retry_max_ms: ... up to this.
        settle_ms: A frame sent less than this ago is not sent again because the centre asks for it; one overtaken by
            this much is.
    """

    size: int = 64
    backlog_size: int = 32
    backlog_per_s: float = 200.0
    stale_ms: int = 60_000
    first_retry_ms: int = 1_000
    retry_ms: int = 10_000
    retry_max_ms: int = 60_000
    settle_ms: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A frame that may be sent now, with the last part of its topic: ``u``, ``d`` or ``b``."""

    seq: int
    leaf: str


class Window:
    """The sending half of the acknowledgement protocol.

    Call ``take`` until it returns None after everything that may have changed: a commit, an acknowledgement, the
    link coming up, time passing. When ``up`` or ``acknowledge`` return True the interruption was longer than the stale
    limit: call ``cut`` with the seq of the snapshot frame that comes next.

    Args:
        shelf: What is to be delivered.
        now_ms: Monotonic milliseconds.
        limits: Sizes and times.
        ok_ms: When this gateway last delivered, on the same clock; earlier than now after a restart.
    """

    def __init__(
        self, shelf: Shelf, *, now_ms: int, limits: WindowLimits | None = None, ok_ms: int | None = None
    ) -> None:
        self._shelf, self._limits = shelf, limits or WindowLimits()
        self._is_up = False
        self._boundary = 1
        self._live = {Lane.URGENT: 0, Lane.TELEMETRY: 0}
        self._back = {Lane.URGENT: 0, Lane.TELEMETRY: 0}
        self._out: dict[int, int] = {}  # seq -> when it was sent last
        self._again: dict[int, None] = {}
        self._ok_ms = now_ms if ok_ms is None else ok_ms
        self._timer_ms = now_ms
        self._retry_ms = self._limits.retry_ms
        self._tokens, self._tokens_ms = 1.0, now_ms

    @property
    def is_up(self) -> bool:
        """Whether the broker can be reached."""
        return self._is_up

    @property
    def outstanding(self) -> int:
        """Frames sent and not acknowledged."""
        return len(self._out)

    def up(self, now_ms: int) -> bool:
        """The link is there. Returns True when a cut is due."""
        self._is_up = True
        self._timer_ms, self._retry_ms = now_ms, min(self._limits.first_retry_ms, self._limits.retry_ms)
        return self._is_late(now_ms)

    def down(self, now_ms: int) -> None:
        """The link is gone: what was under way is to be sent again."""
        if self._is_up and not self._out:
            self._ok_ms = now_ms
        self._is_up = False
        self._out.clear()
        self._again.clear()
        self._live = dict.fromkeys(self._live, self._boundary - 1)
        self._back = dict.fromkeys(self._back, 0)

    def cut(self, boundary: int, *, now_ms: int) -> None:
        """Everything before seq ``boundary`` is backlog from now on; live frames begin there."""
        self._boundary = boundary
        self._live = dict.fromkeys(self._live, boundary - 1)
        self._ok_ms = now_ms

    def acknowledge(self, now_ms: int) -> bool:
        """The shelf holds less: forget what the centre has. True when a cut is due (it was away for long)."""
        done = {seq: sent_ms for seq, sent_ms in self._out.items() if self._shelf.lane_of(seq) is None}
        for seq in done:
            del self._out[seq]
            self._again.pop(seq, None)
        if not done:
            return False
        self._repeat_overtaken(max(done.values()))
        self._timer_ms, self._retry_ms = now_ms, self._limits.retry_ms
        is_late = self._is_late(now_ms)
        self._ok_ms = now_ms
        return is_late

    def _repeat_overtaken(self, newest_ms: int) -> None:
        """What was sent clearly before a frame that has arrived is lost: else it would hold its place for long."""
        for seq, sent_ms in self._out.items():
            if newest_ms - sent_ms >= self._limits.settle_ms:
                self._again[seq] = None

    def want(self, seqs: Iterable[int], *, now_ms: int) -> None:
        """The centre asks for frames; those just sent are still under way and not repeated."""
        for seq in seqs:
            if now_ms - self._out.get(seq, now_ms - self._limits.settle_ms) >= self._limits.settle_ms:
                self._again[seq] = None

    def take(self, now_ms: int) -> Ready | None:
        """Return the next frame to send, None when there is nothing or no room now."""
        if not self._is_up:
            return None
        self._retry(now_ms)
        ready = self._take_again() or self._take_live() or self._take_backlog(now_ms)
        if ready is not None:
            if not self._out:
                self._timer_ms = self._ok_ms = now_ms
            self._out[ready.seq] = now_ms
        return ready

    def wake_ms(self, now_ms: int) -> int:
        """Return in how many milliseconds ``take`` may have something although nothing else happened."""
        if not self._is_up:
            return self._limits.retry_max_ms
        wait = self._timer_ms + self._retry_ms - now_ms if self._out else self._limits.retry_max_ms
        if self._next_backlog() is not None:
            wait = min(wait, round(1000 / self._limits.backlog_per_s))
        return max(1, wait)

    def _is_late(self, now_ms: int) -> bool:
        return now_ms - self._ok_ms > self._limits.stale_ms

    def _retry(self, now_ms: int) -> None:
        if self._out and now_ms - self._timer_ms >= self._retry_ms:
            self._again.update(dict.fromkeys(sorted(self._out)))
            self._timer_ms = now_ms
            self._retry_ms = min(2 * self._retry_ms, self._limits.retry_max_ms)

    def _take_again(self) -> Ready | None:
        for seq in list(self._again):
            lane = self._shelf.lane_of(seq)
            if lane is None:
                del self._again[seq]
                self._out.pop(seq, None)
            elif seq in self._out or len(self._out) < self._limits.size:
                del self._again[seq]
                return Ready(seq=seq, leaf="b" if seq < self._boundary else LEAF[Lane(lane)])
        return None

    def _take_live(self) -> Ready | None:
        for lane, room in ((Lane.URGENT, 0), (Lane.TELEMETRY, URGENT_ROOM)):
            if len(self._out) >= self._limits.size - room:
                continue
            seq = self._unsent(lane, self._live[lane])
            if seq is not None:
                self._live[lane] = seq
                return Ready(seq=seq, leaf=LEAF[lane])
        return None

    def _take_backlog(self, now_ms: int) -> Ready | None:
        # integer seqs below the boundary are backlog; events and alarms of yesterday before telemetry of yesterday
        rate = self._limits.backlog_per_s
        self._tokens = min(max(1.0, rate / 10), self._tokens + (now_ms - self._tokens_ms) * rate / 1000)
        self._tokens_ms = now_ms
        under_way = sum(seq < self._boundary for seq in self._out)
        if self._tokens < 1 or under_way >= self._limits.backlog_size:
            return None
        if len(self._out) >= self._limits.size - URGENT_ROOM:
            return None
        found = self._next_backlog()
        if found is None:
            return None
        lane, seq = found
        self._back[lane] = seq
        self._tokens -= 1
        return Ready(seq=seq, leaf="b")

    def _next_backlog(self) -> tuple[Lane, int] | None:
        for lane in (Lane.URGENT, Lane.TELEMETRY):
            if self._back[lane] >= self._boundary - 1:
                continue
            seq = self._unsent(lane, self._back[lane])
            if seq is not None and seq < self._boundary:
                return lane, seq
            self._back[lane] = self._boundary - 1
        return None

    def _unsent(self, lane: Lane, after: int) -> int | None:
        seq = self._shelf.after(lane, after)
        while seq is not None and seq in self._out:
            seq = self._shelf.after(lane, seq)
        return seq
