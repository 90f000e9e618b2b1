"""A reader that was not answered sends its record again: it is answered when the first is durable, and enters once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import _known_events
from gateway.collect import RECENT
from gateway.outbox import Outbox
from tests.gateway.memory_disk import MemoryDisk
from tests.gateway.test_collect import Bench, Gate
from watchroom.frames import EventFrame, decode
from watchroom.intervals import IntervalSet
from watchroom.signals import Lane


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


async def test_a_record_sent_twice_enters_once(gate: Gate) -> None:
    """Before the commit, during it and after it: one record, and both answers after the disk."""
    bench = Bench(gate)
    gate.open.clear()
    first = asyncio.create_task(bench.collector.event(bench.event("card:7")))
    again = asyncio.create_task(bench.collector.event(bench.event("card:7")))
    other = asyncio.create_task(bench.collector.event(bench.event("card:8")))
    done, _ = await asyncio.wait([first, again, other], timeout=0.1)
    assert not done
    gate.open.set()
    await asyncio.wait_for(asyncio.gather(first, again, other), 10)
    await bench.collector.event(bench.event("card:7"))
    assert [event.id for event in bench.events("access")] == ["card:7", "card:8"]


async def test_a_record_of_an_earlier_life_is_known(gate: Gate) -> None:
    """After a kill the gateway reads the ids it had committed, delivered ones too, and takes none of them again."""
    disk = MemoryDisk()
    bench = Bench(gate, disk=disk)
    for name in ("card:1", "card:2"):
        await bench.collector.event(bench.event(name))
    bench.outbox.acknowledge(IntervalSet([(1, bench.outbox.committed_seq)]))
    later = Bench(gate, disk=disk)
    known = list(_known_events(later.outbox))
    assert known == ["card:1", "card:2"]
    later.collector.remember(known)
    for name in ("card:2", "card:3"):
        await later.collector.event(later.event(name))
    assert [event.id for event in later.events("access")] == ["card:3"]


async def test_the_memory_of_ids_is_bounded(gate: Gate) -> None:
    """The oldest ids are forgotten first; what is forgotten would enter again, and the centre knows it by its id."""
    bench = Bench(gate)
    bench.collector.remember(f"old:{number}" for number in range(RECENT))
    await bench.collector.event(bench.event("new"))
    await bench.collector.event(bench.event("old:1"))
    assert [event.id for event in bench.events("access")] == ["new"]
    await bench.collector.event(bench.event("old:0"))
    assert [event.id for event in bench.events("access")] == ["new", "old:0"]


async def test_the_tail_of_an_outbox(gate: Gate) -> None:
    """The last files of a lane give their frames oldest first; an empty outbox gives none."""
    assert Outbox(Path("/empty"), disk=MemoryDisk()).tail(Lane.URGENT) == []
    bench = Bench(gate)
    for number in range(5):
        await bench.collector.event(bench.event(f"card:{number}"))
    frames = [decode(payload) for payload in bench.outbox.tail(Lane.URGENT)]
    events = [event.id for frame in frames if isinstance(frame, EventFrame) for event in frame.events]
    assert events == [f"card:{number}" for number in range(5)]
