"""The plant that ``evaluator`` measures: many signals with four limit rules each, and frames made beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alarms.rows import RuleRow
from alarms.rules import RuleSet
from watchroom.births import Birth, BirthStore
from watchroom.frames import Header, encode_samples
from watchroom.journal import Record
from watchroom.signals import Kind, Lane, SignalSpec

SITE = "test-site"  # the plain judge of the tests knows this one
EPOCH = 7
T0 = 1_763_800_000_000
LIMITS = {"HH": 20.0, "H": 10.0, "L": -10.0, "LL": -20.0}
DEADBAND = 1.0
QUIET_SIGMA = 2.0
MOVING_SIGMA = 12.0
BACK = 0.05
"""Share of the signals outside that come back each second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large the plant is.

    Attributes:
        signals: Number of signals; each has four rules.
        per_gateway: Signals of one gateway.
    """

    signals: int = 100_000
    per_gateway: int = 10_000

    @property
    def gateways(self) -> int:
        """How many gateways carry them."""
        return -(-self.signals // self.per_gateway)


def rules(size: Size, *, on_ms: int, off_ms: int) -> RuleSet:
    """Return four rules for each signal, one a level, all with one pair of delays."""
    rows = []
    for number in range(size.signals):
        key = f"E-{number}/v"
        for level, limit in LIMITS.items():
            rows.append(
                RuleRow(
                    key=f"{level}|E-{number}|",
                    rule=level,
                    version="0",
                    equipment=f"E-{number}",
                    kind="limit",
                    class_="equipment",
                    priorities={"": 3},
                    signal=key,
                    signals=(key,),
                    limits={level: limit},
                    deadband=DEADBAND,
                    on_delay_ms=on_ms,
                    off_delay_ms=off_ms,
                )
            )
    return RuleSet(rows=tuple(rows))


def births(size: Size, folder: Path) -> BirthStore:
    """Return a store that knows every gateway of the plant."""
    store = BirthStore(folder)
    for gateway in range(size.gateways):
        first = gateway * size.per_gateway
        signals = tuple(
            SignalSpec(alias=i, key=f"E-{first + i}/v", kind=Kind.MEASURE, lane=Lane.TELEMETRY, max_silence_s=60.0)
            for i in range(min(size.per_gateway, size.signals - first))
        )
        birth = Birth(
            gateway=f"g{gateway}", epoch=EPOCH, schema=1, time_ms=T0, heartbeat_s=1, version="1", signals=signals
        )
        store.put(SITE, birth.to_json())
    return store


class Quiet:
    """A plant where a share of the signals lies outside all bands, each for about twenty seconds, then another one.

    Args:
        size: The plant.
        share: Share of the signals outside at any time.
    """

    def __init__(self, size: Size, *, share: float) -> None:
        self._signals = size.signals
        self._out = np.arange(size.signals) < 0
        self._share = share

    def __call__(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return one value for each signal."""
        missing = int(self._share * self._signals) - int(self._out.sum())
        back = self._out & (rng.random(self._signals) < BACK)
        self._out ^= back
        self._out[rng.integers(0, self._signals, max(0, missing) + int(back.sum()))] = True
        value: NDArray[np.float64] = rng.normal(0.0, QUIET_SIGMA, self._signals).clip(-8.9, 8.9)
        value[self._out] += 30.0
        return value


def moving(size: Size, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return one value for each signal, most of them on another side of a limit than a second ago."""
    return rng.normal(0.0, MOVING_SIGMA, size.signals)


class Stream:
    """Frames of the plant, one sample of each signal a second, a tick after each second.

    Args:
        size: The plant.
        batch: Samples handed to the judge at once.
    """

    def __init__(self, size: Size, *, batch: int) -> None:
        self._size, self._batch = size, batch
        self._seq = [0] * size.gateways
        self._offset = 0
        self.second = 0

    def second_of(self, value: NDArray[np.float64]) -> Iterator[list[Record]]:
        """Yield the batches of one second; the last one ends with a tick."""
        self.second += 1
        waiting: list[Record] = []
        count = 0
        for gateway in range(self._size.gateways):
            first = gateway * self._size.per_gateway
            last = min(first + self._size.per_gateway, self._size.signals)
            step = min(self._batch, self._size.per_gateway)
            for start in range(first, last, step):
                end = min(start + step, last)
                waiting.append(self._frame(gateway, np.arange(start - first, end - first), value[start:end]))
                count += end - start
                if count >= self._batch:
                    yield waiting
                    waiting, count = [], 0
        waiting.append(self._record("", b""))
        yield waiting

    def _record(self, gateway: str, payload: bytes) -> Record:
        self._offset += 1
        return Record(self._offset, T0 + self.second * 1000 + 20, gateway, payload)

    def _frame(self, gateway: int, alias: NDArray[np.int64], value: NDArray[np.float64]) -> Record:
        now_ms = T0 + self.second * 1000
        seq = self._seq[gateway] + 1
        header = Header(
            kind="D",
            lane=1,
            epoch=EPOCH,
            seq=seq,
            prev=self._seq[gateway],
            base_ms=now_ms,
            complete_ms=now_ms - 1,
            schema=1,
        )
        self._seq[gateway] = seq
        time_ms = np.full(len(alias), now_ms)
        payload = encode_samples(
            header, alias=alias, time_ms=time_ms, value=value, quality=np.zeros(len(alias), np.uint8)
        )
        return self._record(f"g{gateway}", payload)
