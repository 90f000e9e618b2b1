"""The collector over a real outbox: what becomes a frame, when, and what it claims."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.collect import Collector
from gateway.framing import Framer
from gateway.outbox import Committed, Outbox
from gateway.report import Reporter
from tests.gateway.memory_disk import MemoryDisk
from tests.gateway.test_clock import START, Times
from watchroom.disk import Disk, RealDisk
from watchroom.errors import StoreError
from watchroom.frames import BirthFrame, Event, EventFrame, Frame, SampleFrame, decode
from watchroom.signals import Kind, Lane, SignalSpec

DOOR, FLOW, LEVEL, FRAMES, LOST = range(5)
SPECS = (
    SignalSpec(alias=DOOR, key="DR-S1/contact", kind=Kind.STATE, lane=Lane.URGENT),
    SignalSpec(alias=FLOW, key="WP-01/flow", kind=Kind.MEASURE),
    SignalSpec(alias=LEVEL, key="TK-01/level", kind=Kind.MEASURE),
    SignalSpec(alias=FRAMES, key="GW-03/outbox_frames", kind=Kind.MEASURE),
    SignalSpec(alias=LOST, key="GW-03/loss_count", kind=Kind.MEASURE),
)
BIRTH: dict[str, Any] = {"signals": [{}] * len(SPECS)}


class Bench:
    """A collector with everything around it but the uplink."""

    def __init__(
        self, executor: Executor, *, disk: Disk | None = None, folder: Path = Path("/outbox"), capacity: int = 1 << 20
    ) -> None:
        self.times = Times()
        self.clock = self.times.clock()
        self.outbox = Outbox(folder, disk=disk or MemoryDisk(), capacity_bytes=capacity)
        self.framer = Framer(self.outbox, is_simulated=False, clock_gen=self.clock.clock_gen)
        self.frames: list[Frame] = []
        self.beats: list[Frame] = []
        self.batches: list[int] = []
        self._changed = asyncio.Event()
        self.framer.birth(BIRTH, schema=1, now_ms=START)
        self.collector = Collector(
            Reporter(SPECS),
            self.framer,
            outbox=self.outbox,
            clock=self.clock,
            executor=executor,
            on_commit=self._committed,
            on_heartbeat=lambda _lane, payload: self.beats.append(decode(payload)),
            heartbeat_s=0.01,
            own={"outbox_frames": FRAMES, "loss_count": LOST},
        )

    def report(self, *rows: tuple[int, float], late_ms: int = 0) -> None:
        self.collector.report(
            np.array([row[0] for row in rows], np.uint32),
            self.clock.now_ms() - late_ms,
            np.array([row[1] for row in rows], np.float64),
            np.zeros(len(rows), np.uint8),
        )

    def event(self, name: str) -> Event:
        now_ms = self.clock.now_ms()
        return Event(id=name, kind="access", equipment="DR-S1", time_ms=now_ms, seen_ms=now_ms, fields={})

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._changed.wait()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.collector.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def samples(self, alias: int) -> list[float]:
        found = [frame for frame in self.frames if isinstance(frame, SampleFrame)]
        return [value for frame in found for value in frame.value[frame.alias == alias].tolist()]

    def events(self, kind: str) -> list[Event]:
        found = [frame for frame in self.frames if isinstance(frame, EventFrame)]
        return [event for frame in found for event in frame.events if event.kind == kind]

    def _committed(self, frames: list[Committed]) -> None:
        if frames:
            self.batches.append(len(frames))
        self.frames += [decode(frame.payload) for frame in frames]
        self._changed.set()


class Gate(Executor):
    """Runs commits in a thread, but only while it is open."""

    def __init__(self) -> None:
        self._pool, self.open = ThreadPoolExecutor(1), threading.Event()
        self.open.set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._pool.submit(self._pass, fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.open.set()
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def _pass(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.open.wait(10)
        return fn(*args, **kwargs)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


async def test_urgent_does_not_wait_for_telemetry(gate: Gate) -> None:
    """A door contact goes to disk and out at once; the flow of the same poll waits for its companions."""
    bench = Bench(gate)
    bench.report((DOOR, 1.0), (FLOW, 2.0))
    await bench.until(lambda: bench.samples(DOOR))
    assert bench.samples(FLOW) == []
    bench.report((LEVEL, 3.0))
    await bench.until(lambda: bench.samples(FLOW))
    last = bench.frames[-1]
    assert isinstance(last, SampleFrame)
    assert last.alias.tolist() == [FLOW, LEVEL]
    assert last.header.lane == Lane.TELEMETRY


async def test_nothing_changed_is_nothing_sent(gate: Gate) -> None:
    """A thousand polls of the same value are one sample."""
    bench = Bench(gate)
    for _ in range(1000):
        bench.report((DOOR, 1.0))
        bench.times.run(20)
    await bench.until(lambda: bench.samples(DOOR))
    await bench.collector.drain()
    assert bench.samples(DOOR) == [1.0]


async def test_event_waits_for_the_disk(gate: Gate) -> None:
    """A reader is answered only when its record is durable, not when it was taken."""
    bench = Bench(gate)
    gate.open.clear()
    task = asyncio.create_task(bench.collector.event(bench.event("card-1")))
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    gate.open.set()
    await task
    assert bench.outbox.frames == 2
    assert [event.id for event in bench.events("access")] == ["card-1"]


async def test_state_waits_for_the_disk(gate: Gate) -> None:
    """A reader that sends states can be answered when they are durable; one that gives up disturbs nobody."""
    bench = Bench(gate)
    gate.open.clear()
    bench.report((DOOR, 1.0))
    tasks = [asyncio.create_task(bench.collector.durable()) for _ in range(2)]
    done, _ = await asyncio.wait(tasks, timeout=0.05)
    assert not done
    tasks[0].cancel()
    gate.open.set()
    await tasks[1]
    assert bench.samples(DOOR) == [1.0]
    await bench.collector.durable()


async def test_group_commit(gate: Gate) -> None:
    """What arrives while a sync runs goes to disk together with the next one."""
    bench = Bench(gate)
    gate.open.clear()
    bench.report((DOOR, 1.0))
    tasks = [asyncio.create_task(bench.collector.event(bench.event(f"card-{i}"))) for i in range(50)]
    await asyncio.wait(tasks, timeout=0.05)
    gate.open.set()
    await asyncio.gather(*tasks)
    assert bench.outbox.committed_seq == 52
    assert len(bench.batches) <= 2


async def test_chains(gate: Gate) -> None:
    """Each lane's frames and heartbeats name the one before; urgent and telemetry are chains of their own."""
    bench = Bench(gate)
    async with bench.running():
        for i in range(6):
            bench.report((DOOR, i % 2), (FLOW, i))
            await bench.until(lambda i=i: len(bench.samples(FLOW)) > i)  # type: ignore[misc]
        await bench.until(lambda: bench.beats[-1].header.lane == Lane.TELEMETRY)
    for lane in Lane:
        headers = [frame.header for frame in bench.frames if frame.header.lane == lane]
        assert [header.prev for header in headers] == [0, *(header.seq for header in headers[:-1])]
        beats = [frame.header for frame in bench.beats if frame.header.lane == lane]
        assert beats[-1].prev == headers[-1].seq


async def test_clock_step_begins_anew(gate: Gate) -> None:
    """After the system's clock was set back, frames of a new generation begin with a snapshot and a new chain."""
    bench = Bench(gate)
    async with bench.running():
        bench.report((DOOR, 1.0), (FLOW, 2.0), (LEVEL, 3.0))
        await bench.until(lambda: bench.samples(LEVEL))
        bench.times.run(10, wall_ms=-3_600_000)
        await bench.until(lambda: len(bench.samples(LEVEL)) > 1)
    new = [frame for frame in bench.frames if frame.header.clock_gen == 2]
    assert {frame.header.lane: frame.header.prev for frame in reversed(new)} == {0: 0, 1: 0}
    assert [(frame.header.is_snapshot, frame.header.n) for frame in new[:2]] == [(True, 1), (True, 4)]
    for frame in new:
        assert isinstance(frame, SampleFrame)
        assert frame.header.complete_ms < START - 3_500_000
        assert (frame.time_ms < START - 3_500_000).all()
    assert bench.outbox.notes["clock_gen"] == 2


async def test_silence_is_broken(gate: Gate) -> None:
    """A door that stays closed is confirmed before its max_silence_s is over, without any poll."""
    bench = Bench(gate)
    async with bench.running():
        bench.report((DOOR, 1.0))
        await bench.until(lambda: bench.samples(DOOR) == [1.0])
        bench.times.run(58_000)
        await bench.until(lambda: bench.samples(DOOR) == [1.0, 1.0])


async def test_own_signals(gate: Gate) -> None:
    """The gateway reports how full its outbox is."""
    bench = Bench(gate)
    async with bench.running():
        await bench.until(lambda: bench.samples(FRAMES))
        bench.times.run(5_000)
        await bench.until(lambda: len(bench.samples(FRAMES)) > 1)
    assert bench.samples(FRAMES)[1] >= 2
    assert bench.samples(LOST) == [0.0]


async def test_new_chain_without_states(gate: Gate) -> None:
    """A gateway that has no states begins the urgent chain with its birth, so that its heartbeats count."""
    bench = Bench(gate)
    bench.report((FLOW, 1.0))
    boundary = bench.collector.new_chain()
    await bench.collector.drain()
    urgent = [f for f in bench.frames if f.header.lane == Lane.URGENT and f.header.seq >= boundary]
    assert isinstance(urgent[0], BirthFrame)
    assert urgent[0].header.prev == 0
    telemetry = [f for f in bench.frames if f.header.lane == Lane.TELEMETRY]
    assert [f.header.seq < boundary for f in telemetry] == [True, False]
    assert telemetry[1].header.prev == 0


async def test_full_reserve(gate: Gate) -> None:
    """With a full reserve readers are refused, states are coalesced, and the loss is told when there is room."""
    bench = Bench(gate, capacity=4_000)
    async with bench.running():
        names: list[str] = []
        while not bench.collector.is_full:
            names.append(f"card-{len(names)}")
            await bench.collector.event(bench.event(names[-1]))
        assert len(names) > 5
        with pytest.raises(StoreError):
            await bench.collector.event(bench.event("refused"))
        for value in (1.0, 0.0, 1.0, 0.0, 5.0):
            bench.report((DOOR, value))
        assert [event.id for event in bench.events("access")] == names
        bench.outbox.acknowledge([(1, bench.outbox.committed_seq)])
        assert not bench.collector.is_full
        bench.report((DOOR, 5.0))
        bench.times.run(6_000)
        await bench.until(lambda: bench.events("loss"))
        await bench.until(lambda: bench.samples(DOOR))
        assert bench.samples(DOOR) == [5.0]
        (loss,) = bench.events("loss")
        assert loss.fields["reason"] == "coalesced"
        assert loss.fields["count"] >= 4
        await bench.collector.event(bench.event("card-after"))


async def test_disk_full_while_running(gate: Gate) -> None:
    """A disk without space stops nothing; alarms go out when there is space, lost telemetry is told as loss."""
    disk = MemoryDisk()
    bench = Bench(gate, disk=disk)
    async with bench.running():
        bench.report((DOOR, 0.0), (FLOW, 0.0))
        await bench.until(lambda: bench.samples(FLOW))
        disk.capacity = 0
        bench.report((DOOR, 1.0))
        await bench.until(lambda: bench.collector.is_full)
        bench.report((FLOW, 10.0))
        await bench.until(lambda: bench.outbox.has_losses)
        with pytest.raises(StoreError):
            await bench.collector.event(bench.event("refused"))
        disk.capacity = 1 << 20
        await bench.until(lambda: 1.0 in bench.samples(DOOR))
        bench.times.run(6_000)
        await bench.until(lambda: bench.events("loss") and bench.collector.loss_count)
    told = {seq for loss in bench.events("loss") for a, b in loss.fields["ranges"] for seq in range(a, b + 1)}
    here = {frame.header.seq for frame in bench.frames}
    assert told | here >= set(range(1, max(here) + 1))
    assert not told & here


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("this machine does not allow mounting")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_small_real_disk(gate: Gate, small_disk: Path) -> None:
    """On a real file system of 256 KiB the gateway runs full, refuses, and recovers when space is made."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 150_000)
    bench = Bench(gate, disk=RealDisk(), folder=small_disk / "outbox")
    async with bench.running():
        events: list[asyncio.Task[None]] = []
        while not bench.collector.is_full:
            bench.report((FLOW, float(len(events))))
            events.append(asyncio.create_task(bench.collector.event(bench.event(f"card-{len(events)}"))))
            await bench.until(lambda: events[-1].done() or bench.collector.is_full)
        assert len(events) > 50
        with pytest.raises(StoreError):
            await bench.collector.event(bench.event("refused"))
        ballast.unlink()
        await asyncio.gather(*events)
    bench.outbox.close()
    again = Outbox(small_disk / "outbox", disk=RealDisk())
    kept = [frame.header.seq for frame in bench.frames if frame.header.lane == Lane.URGENT]
    assert all(again.read(seq) is not None for seq in kept)
    assert [event.id for event in bench.events("access")] == [f"card-{i}" for i in range(len(events))]


async def test_a_bug_in_a_commit_ends_the_gateway(gate: Gate) -> None:
    """An error nobody thought of is not swallowed: the process ends and is started again."""

    class Wrong(MemoryDisk):
        def open_append(self, path: Path) -> Any:
            raise ZeroDivisionError

    bench = Bench(gate, disk=Wrong())
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(10):
            await bench.collector.run()


REPORTS = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.integers(0, 2), st.integers(0, 2500)),
        st.tuples(st.just("time"), st.integers(0, 1500), st.just(0)),
        st.tuples(st.just("tick"), st.just(0), st.just(0)),
        st.tuples(st.just("event"), st.just(0), st.integers(0, 500)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(REPORTS)
def test_no_sample_is_older_than_the_claim(steps: list[tuple[str, int, int]]) -> None:
    """What a lane has claimed as complete stays true: no later frame has an older sample or event."""

    async def play() -> Bench:
        with ThreadPoolExecutor(1) as executor:
            bench = Bench(executor)
            for i, (name, a, late_ms) in enumerate(steps):
                if name == "report":
                    bench.report((a, float(i)), late_ms=late_ms)
                elif name == "time":
                    bench.times.run(a)
                elif name == "event":
                    event = bench.event(f"card-{i}")
                    seen_ms = event.seen_ms - late_ms
                    late = Event(
                        id=event.id, kind="access", equipment=None, time_ms=seen_ms, seen_ms=seen_ms, fields={}
                    )
                    await bench.collector.event(late)
                else:
                    async with bench.running():
                        await asyncio.sleep(0)
            await bench.collector.drain()
            return bench

    bench = asyncio.run(play())
    beats = {(beat.header.lane, beat.header.prev): beat.header.complete_ms for beat in bench.beats}
    for lane in Lane:
        claim = 0
        for frame in (frame for frame in bench.frames if frame.header.lane == lane):
            if isinstance(frame, SampleFrame) and len(frame.time_ms):
                assert frame.time_ms.min() > claim
            if isinstance(frame, EventFrame):
                assert min(event.seen_ms for event in frame.events) > claim
            assert frame.header.complete_ms >= claim
            claim = max(frame.header.complete_ms, beats.get((lane, frame.header.seq), 0))
