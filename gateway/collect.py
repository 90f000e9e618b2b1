"""The collector: takes what the field side reads, reports by exception, commits, hands on to the uplink."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
import structlog

from gateway.clock import Clock
from gateway.framing import Framer
from gateway.outbox import Committed, Loss, Outbox
from gateway.report import Reporter, Samples, join
from gateway.sink import Aliases, Qualities, Values
from watchroom.errors import StoreError
from watchroom.frames import Event
from watchroom.signals import Lane, Quality

log = structlog.get_logger(__name__)

FLUSH_S = 0.2
RETRY_S = 1.0
LOSS_MS = 5_000
OWN_MS = 5_000
MARGIN_MS = 2
MAX_LAG_MS = 2_000
RECENT = 20_000
"""Events whose ids are remembered, so that a record that comes twice enters once."""
_HALF_WINDOW_MS = 30_000


class Lag:
    """How long after its time a sample arrives here: the largest of the last half to whole minute (pure)."""

    def __init__(self) -> None:
        self._old = self._new = 0
        self._since_ms = 0

    def observe(self, lag_ms: int, now_ms: int) -> None:
        """Take one observation."""
        if not 0 <= now_ms - self._since_ms < _HALF_WINDOW_MS:
            self._old, self._new, self._since_ms = self._new, 0, now_ms
        self._new = max(self._new, min(lag_ms, MAX_LAG_MS))

    @property
    def worst_ms(self) -> int:
        """The largest lag seen lately, at most MAX_LAG_MS."""
        return max(self._old, self._new)


class Collector:
    """The ``Sink`` of one gateway; lives in the event loop, commits in a thread.

    Urgent samples and events are committed at once, together with all that arrives while a commit runs. Telemetry
    waits for at most FLUSH_S so that one frame holds the answers of several devices.

    Args:
        reporter: Which samples matter.
        framer: Makes frames of them.
        outbox: Keeps them.
        clock: The gateway's clock.
        executor: Runs the commits.
        on_commit: Called in the event loop with the frames that are durable now.
        on_heartbeat: Called in the event loop with a lane's heartbeat frame.
        heartbeat_s: Interval of heartbeats.
        own: Alias by name of the gateway's own signals; empty when it has none.
        links_down: Tells how many links do not answer.

    Attributes:
        loss_count: Samples and events given up since the start, as entered in loss events.
    """

    def __init__(
        self,
        reporter: Reporter,
        framer: Framer,
        *,
        outbox: Outbox,
        clock: Clock,
        executor: Executor,
        on_commit: Callable[[list[Committed]], None],
        on_heartbeat: Callable[[Lane, bytes], None],
        heartbeat_s: float = 1.0,
        own: Mapping[str, int] | None = None,
        links_down: Callable[[], int] = lambda: 0,
    ) -> None:
        self._reporter, self._framer, self._outbox, self._clock = reporter, framer, outbox, clock
        self._executor = executor
        self.on_commit, self._on_heartbeat, self._heartbeat_s = on_commit, on_heartbeat, heartbeat_s
        self._own, self._links_down = dict(own or {}), links_down
        self._loop = asyncio.get_running_loop()
        self._buffer: list[Samples] = []
        self._flush_timer: asyncio.TimerHandle | None = None
        self._commit: asyncio.Future[list[Committed]] | None = None
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._recent: dict[str, int] = {}
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._lag = Lag()
        self._is_closed = False
        self._is_skipped = np.zeros(len(reporter.is_urgent), dtype=np.bool_)
        self._skipped = 0
        self._loss_seq: int | None = None
        self._loss_ms = self._own_ms = 0
        self.loss_count = 0

    @property
    def is_full(self) -> bool:
        """Whether the event reserve of the disk is used up."""
        return self._outbox.is_full

    def report(self, aliases: Aliases, time_ms: int, values: Values, quality: Qualities) -> None:
        """Take one block of one poll; never blocks."""
        now_ms = self._clock.now_ms()
        self._lag.observe(now_ms - time_ms, now_ms)
        samples = self._reporter.changed(
            np.asarray(aliases, dtype=np.int64),
            time_ms=min(time_ms, now_ms),
            value=np.asarray(values, dtype=np.float64),
            quality=np.asarray(quality, dtype=np.uint8),
            floor_ms=self._floor(aliases, time_ms),
        )
        if len(samples):
            self._take(samples)

    async def event(self, event: Event) -> None:
        """Take one event; returns after the outbox has committed it. An id that came lately enters once.

        Raises:
            StoreError: If the event reserve is full; the reader must keep its record.
        """
        known = self._recent.get(event.id)
        if known is not None:
            # a reader that was not answered sends its record again; it is answered when the first is durable
            await self._durable_upto(known)
            return
        if self.is_full:
            raise StoreError("the outbox is full; the reader keeps its record")
        self._recent[event.id] = self._append_event(event)
        while len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]
        await self.durable()

    def remember(self, ids: Iterable[str]) -> None:
        """Take events that an earlier run has committed: the same ids do not enter again."""
        self._recent |= dict.fromkeys(ids, 0)

    async def durable(self) -> None:
        """Return when every urgent sample reported so far is on the disk; then its reader may be answered."""
        await self._durable_upto(self._outbox.next_seq - 1)

    async def _durable_upto(self, last: int) -> None:
        if last > self._outbox.committed_seq:
            is_durable = self._waiting.setdefault(last, self._loop.create_future())
            self._start_commit()
            await asyncio.shield(is_durable)

    def new_chain(self) -> int:
        """Begin new chains with a snapshot of everything; return the seq from which frames are live."""
        self._flush()
        boundary = self._outbox.next_seq
        self._framer.new_chain()
        self._snapshot()
        return boundary

    async def run(self) -> None:
        """Send heartbeats, watch the clock and what fell silent, until cancelled; raises what a commit raised."""
        while True:
            self._tick()
            await asyncio.wait([self._failed], timeout=self._heartbeat_s)
            if self._failed.done():
                self._failed.result()

    async def drain(self) -> None:
        """Commit what is still in memory; at the end, after the field side has stopped."""
        self._flush()
        while self._commit is not None and not self.is_full:
            await asyncio.wait([self._commit])
            await asyncio.sleep(0)
        self._is_closed = True

    # samples

    def _floor(self, aliases: Aliases, time_ms: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]] | int:
        urgent, telemetry = self._framer.claimed_ms[Lane.URGENT], self._framer.claimed_ms[Lane.TELEMETRY]
        if time_ms > max(urgent, telemetry):
            return 0
        return np.where(self._reporter.is_urgent[aliases], urgent + 1, telemetry + 1).astype(np.int64)

    def _take(self, samples: Samples) -> None:
        is_urgent = self._reporter.is_urgent[samples.alias]
        if is_urgent.all():
            self._take_urgent(samples)
            return
        if is_urgent.any():
            self._take_urgent(samples.where(is_urgent))
            samples = samples.where(~is_urgent)
        self._buffer.append(samples)
        if self._flush_timer is None:
            self._flush_timer = self._loop.call_later(FLUSH_S, self._flush)

    def _take_urgent(self, samples: Samples) -> None:
        if self.is_full:
            # coalesce: the newest value is reported when there is room again
            self._skipped += int(np.count_nonzero(self._is_skipped[samples.alias]))
            self._is_skipped[samples.alias] = True
            self._reporter.forget_sent(samples.alias)
            return
        self._is_skipped[samples.alias] = False
        self._framer.samples(Lane.URGENT, samples, complete_ms=self._complete_ms())
        self._start_commit()

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self._buffer:
            parts, self._buffer = self._buffer, []
            self._framer.samples(Lane.TELEMETRY, join(parts), complete_ms=self._complete_ms())
            self._start_commit()

    def _snapshot(self) -> None:
        samples = self._reporter.snapshot(now_ms=self._clock.now_ms())
        is_urgent = self._reporter.is_urgent[samples.alias]
        if not is_urgent.any():
            self._framer.repeat_birth(now_ms=self._clock.now_ms())
        for lane, mask in ((Lane.URGENT, is_urgent), (Lane.TELEMETRY, ~is_urgent)):
            if mask.any():
                self._framer.samples(
                    lane,
                    samples.where(mask),
                    complete_ms=self._complete_ms(),
                    is_snapshot=self._reporter.is_complete(lane),
                )
        self._start_commit()

    def _complete_ms(self) -> int:
        """Everything up to here has been reported: answers on their way are no older than the worst lag."""
        return self._clock.now_ms() - self._lag.worst_ms - MARGIN_MS

    def _append_event(self, event: Event) -> int:
        seen_ms = max(event.seen_ms, self._framer.claimed_ms[Lane.URGENT] + 1)
        return self._framer.events([replace(event, seen_ms=seen_ms)], complete_ms=self._complete_ms())

    # commits

    def _start_commit(self) -> None:
        if self._commit is None and self._outbox.has_pending and not (self._is_closed or self._failed.done()):
            self._commit = self._loop.run_in_executor(self._executor, self._outbox.commit)
            self._commit.add_done_callback(self._committed)

    def _committed(self, commit: asyncio.Future[list[Committed]]) -> None:
        self._commit = None
        if commit.cancelled():
            return
        if (error := commit.exception()) is not None:
            if not self._failed.done():
                self._failed.set_exception(error)
            return
        frames = commit.result()
        for seq in [seq for seq in self._waiting if frames and seq <= frames[-1].seq]:
            if not (waiting := self._waiting.pop(seq)).done():
                waiting.set_result(None)
        for frame in frames:
            if frame.seq == self._loss_seq:
                self._loss_seq = None
                self._outbox.settle()
        self.on_commit(frames)
        if frames:
            self._start_commit()
        elif self._outbox.has_pending:
            self._loop.call_later(RETRY_S, self._start_commit)

    # once a heartbeat

    def _tick(self) -> None:
        self._watch_clock()
        now_ms = self._clock.now_ms()
        silent = self._reporter.silent(now_ms=now_ms)
        if len(silent):
            self._take(silent)
        if self._own and now_ms - self._own_ms >= OWN_MS:
            self._own_ms = now_ms
            self._report_own(now_ms)
        self._enter_losses(now_ms)
        self._flush()
        self._start_commit()
        for lane in (Lane.URGENT, Lane.TELEMETRY):
            # while urgent changes are being coalesced the lane claims nothing
            if lane == Lane.TELEMETRY or not self._is_skipped.any():
                self._on_heartbeat(lane, self._framer.heartbeat(lane, complete_ms=self._complete_ms()))

    def _watch_clock(self) -> None:
        step = self._clock.check()
        if step is None:
            return
        log.warning("clock stepped", by_ms=step.by_ms, clock_gen=step.clock_gen)
        self._flush()
        self._reporter.forget_times()
        self._framer.new_clock(step.clock_gen)
        self._framer.new_chain()
        self._outbox.note(clock_gen=step.clock_gen)
        self._loss_ms = self._own_ms = 0
        self._snapshot()

    def _report_own(self, now_ms: int) -> None:
        values = {
            "outbox_frames": self._outbox.frames,
            "outbox_bytes": self._outbox.frame_bytes,
            "links_down": self._links_down(),
            "loss_count": self.loss_count,
        }
        names = [name for name in values if name in self._own]
        self.report(
            np.array([self._own[name] for name in names], dtype=np.uint32),
            now_ms,
            np.array([values[name] for name in names], dtype=np.float64),
            np.full(len(names), Quality.GOOD, dtype=np.uint8),
        )

    def _enter_losses(self, now_ms: int) -> None:
        if self.is_full or self._loss_seq is not None or now_ms - self._loss_ms < LOSS_MS:
            return
        if self._skipped:
            self._outbox.lose(Loss(ranges=[], count=self._skipped, reason="coalesced"))
            self._skipped = 0
        for loss in self._outbox.losses():
            self._loss_ms = now_ms
            self.loss_count += max(loss.count, 1)
            log.warning("data lost", ranges=len(loss.ranges), count=loss.count, reason=loss.reason)
            for at in range(0, max(1, len(loss.ranges)), 4000):
                fields = {"ranges": loss.ranges[at : at + 4000], "count": 0 if at else loss.count}
                self._loss_seq = self._append_event(
                    Event(
                        id=f"loss:{self._outbox.epoch:016x}:{self._outbox.next_seq}",
                        kind="loss",
                        equipment=None,
                        time_ms=now_ms,
                        seen_ms=now_ms,
                        fields=fields | {"reason": loss.reason},
                    )
                )
