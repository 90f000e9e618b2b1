"""A sink that keeps what it is given, and lets a test wait until something has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.config import GatewayConfig, signals_of
from gateway.sink import Aliases, Qualities, Values
from watchroom.frames import Event


@dataclass(frozen=True)
class Sample:
    """One reported sample."""

    key: str
    time_ms: int
    value: float
    quality: int


@dataclass
class Recorder:
    """Everything the field side reported, in order.

    Attributes:
        keys: Alias -> signal key.
        samples: All samples.
        blocks: How many signals each report held.
        gate: Events are committed only while it is set.
    """

    keys: Mapping[int, str]
    samples: list[Sample] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    is_full: bool = False
    asked: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    def report(self, aliases: Aliases, time_ms: int, values: Values, quality: Qualities) -> None:
        """Keep one block."""
        assert aliases.shape == values.shape == quality.shape
        self.blocks.append(len(aliases))
        for alias, value, code in zip(aliases.tolist(), values.tolist(), quality.tolist(), strict=True):
            self.samples.append(Sample(self.keys[alias], time_ms, value, code))

    async def durable(self) -> None:
        """Return once the gate is open."""
        await self.gate.wait()

    async def event(self, event: Event) -> None:
        """Keep one event once the gate is open."""
        self.asked += 1
        await self.gate.wait()
        self.events.append(event)

    def of(self, key: str) -> list[Sample]:
        """Return the samples of one signal."""
        return [sample for sample in self.samples if sample.key == key]

    def last(self, key: str) -> Sample | None:
        """Return the newest sample of one signal."""
        found = self.of(key)
        return found[-1] if found else None

    def value(self, key: str) -> float | None:
        """Return the newest value of one signal, None before the first."""
        found = self.last(key)
        return None if found is None else found.value

    def quality(self, key: str) -> int | None:
        """Return the newest quality of one signal, None before the first."""
        found = self.last(key)
        return None if found is None else found.quality


def recorder_for(config: GatewayConfig) -> Recorder:
    """Return a recorder that knows a gateway's signals."""
    return Recorder({spec.alias: spec.key for spec in signals_of(config)})


async def until(condition: Callable[[], object], what: str, *, within_s: float = 10.0) -> None:
    """Return as soon as a condition holds.

    Raises:
        AssertionError: If it does not hold in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not condition():
        assert loop.time() < deadline, f"not in {within_s} s: {what}"
        await asyncio.sleep(0.005)
