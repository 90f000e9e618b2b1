"""Newest value of every signal as columns, and what changed since a browser was told. No I/O."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchroom.births import Birth
from watchroom.frames import SampleFrame
from watchroom.signals import Quality

DEFAULT_SILENCE_MS = 60_000
SILENCE_SLACK_MS = 5_000
"""A signal is stale this long after it should have been sent again: frames need time to travel."""
RATE_WINDOW_MS = 5_000
_GROWTH = 256

Indices = NDArray[np.int64]


class Projection:
    """Newest values; one thread uses it.

    Args:
        keys: Signals known from the start, in the order of their indices.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys: list[str] = []
        self.index: dict[str, int] = {}
        self.epoch = 0
        self.gateways: list[str] = []
        self._gateway_numbers: dict[str, int] = {}
        self._value: NDArray[np.float64] = np.empty(0)
        self._time_ms: NDArray[np.int64] = np.empty(0, np.int64)
        self._quality: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._heard_ms: NDArray[np.int64] = np.empty(0, np.int64)
        self._silence_ms: NDArray[np.int64] = np.empty(0, np.int64)
        self._gateway: NDArray[np.int32] = np.empty(0, np.int32)
        self._version: NDArray[np.int64] = np.empty(0, np.int64)
        self._is_stale: NDArray[np.bool_] = np.empty(0, np.bool_)
        self.version = 0
        self._clock_gen: dict[str, tuple[int, int]] = {}
        self._counts: deque[tuple[int, int]] = deque()
        self.add_keys(keys)

    def add_keys(self, keys: Iterable[str]) -> bool:
        """Give indices to keys not known yet, after the old ones; return whether the index epoch changed."""
        new = [key for key in dict.fromkeys(keys) if key not in self.index]
        for key in new:
            self.index[key] = len(self.keys)
            self.keys.append(key)
        if len(self.keys) > len(self._value):
            self._grow(len(self.keys) + _GROWTH)
        # the same keys in the same order have the same epoch, also after a restart
        self.epoch = zlib.crc32("\n".join(self.keys).encode())
        return bool(new)

    def indices_of(self, birth: Birth) -> Indices:
        """Return the index of each alias of a birth; all its keys must be known."""
        places = np.array([self.index[spec.key] for spec in birth.signals], dtype=np.int64)
        self._silence_ms[places] = [round(spec.max_silence_s * 1000) for spec in birth.signals]
        self._gateway[places] = self._number(birth.gateway)
        return places

    def apply(self, gateway: str, places: Indices, frame: SampleFrame, *, arrived_ms: int) -> None:
        """Take in one frame; samples older than what is shown are left out."""
        header = frame.header
        known = frame.alias < len(places)
        at = places[frame.alias[known]]
        time_ms = frame.time_ms[known]
        generation = (header.epoch, header.clock_gen)
        if self._clock_gen.get(gateway, generation) == generation:
            newer = time_ms >= self._time_ms[at]
        else:
            # the gateway's clock was set: its old times mean nothing any more
            newer = np.ones(len(at), np.bool_)
        self._clock_gen[gateway] = generation
        at = at[newer]
        self.version += 1
        self._value[at] = frame.value[known][newer]
        self._time_ms[at] = time_ms[newer]
        self._quality[at] = frame.quality[known][newer]
        self._heard_ms[at] = arrived_ms
        self._gateway[at] = self._number(gateway)
        self._is_stale[at] = False
        self._version[at] = self.version
        self._counts.append((arrived_ms, header.n))

    def merge(self, latest: Mapping[str, Any], *, now_ms: int) -> bool:
        """Take in the engine's newest values where they are newer; return whether the index epoch changed."""
        changed = self.add_keys(latest["keys"])
        at = np.array([self.index[key] for key in latest["keys"]], dtype=np.int64)
        time_ms = np.array(latest["time_ms"], dtype=np.int64)
        newer = (time_ms > self._time_ms[at]) & (time_ms > 0)
        where = at[newer]
        self.version += 1
        self._value[where] = np.array(latest["value"], dtype=np.float64)[newer]
        self._time_ms[where] = time_ms[newer]
        self._quality[where] = np.array(latest["quality"], dtype=np.uint8)[newer]
        numbers = [self._number(name) if name else -1 for name in latest["gateway"]]
        self._gateway[where] = np.array(numbers, dtype=np.int32)[newer]
        stale = np.array(latest["is_stale"], dtype=np.bool_)[newer]
        self._is_stale[where] = stale
        self._heard_ms[where] = np.where(stale, 0, now_ms)
        self._version[where] = self.version
        return changed

    def judge(self, *, now_ms: int, online: Iterable[str]) -> None:
        """Mark as stale what is silent for too long, and everything of a gateway that is not online."""
        n = len(self.keys)
        alive = np.zeros(len(self.gateways) + 1, np.bool_)
        for name in online:
            if name in self._gateway_numbers:
                alive[self._gateway_numbers[name]] = True
        silent = now_ms - self._heard_ms[:n] > self._silence_ms[:n] + SILENCE_SLACK_MS
        stale = silent | ~alive[self._gateway[:n]] | (self._time_ms[:n] == 0)
        turned = np.flatnonzero(stale != self._is_stale[:n])
        if len(turned):
            self.version += 1
            self._is_stale[turned] = stale[turned]
            self._version[turned] = self.version

    def changed(self, view: Indices | None, since: int) -> Indices:
        """Return which signals of a view (None: all) changed after a version."""
        if view is None:
            return np.flatnonzero(self._version[: len(self.keys)] > since)
        return view[self._version[view] > since]

    def frame(self, at: Indices, *, server_ms: int) -> bytes:
        """Return the binary frame with the newest values of some signals."""
        from dashboard.signal_frames import encode_signals

        return encode_signals(
            at.astype(np.uint32),
            epoch=self.epoch,
            server_ms=server_ms,
            value=self._value,
            time_ms=self._time_ms,
            quality=self._quality,
            is_stale=self._is_stale,
        )

    def samples(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """Return the newest values for JSON; a value that is none is null."""
        return [self._sample(key, self.index[key]) for key in keys]

    def value_of(self, key: str) -> float | None:
        """Return one newest value, None when there is none or it is stale."""
        at = self.index.get(key)
        if at is None or self._is_stale[at] or np.isnan(self._value[at]):
            return None
        return float(self._value[at])

    def counts(self) -> tuple[int, int]:
        """Return (good and fresh signals, stale ones) among those that were ever seen."""
        n = len(self.keys)
        seen, stale = self._time_ms[:n] > 0, self._is_stale[:n]
        good = seen & ~stale & (self._quality[:n] == Quality.GOOD)
        return int(good.sum()), int((seen & stale).sum())

    def counts_of(self, gateway: str) -> tuple[int, int]:
        """Return (signals, stale ones) of one gateway."""
        number = self._gateway_numbers.get(gateway)
        if number is None:
            return 0, 0
        own = self._gateway[: len(self.keys)] == number
        return int(own.sum()), int((own & self._is_stale[: len(self.keys)]).sum())

    def samples_per_s(self, now_ms: int) -> float:
        """Return how many samples arrive a second, over the last five."""
        while self._counts and self._counts[0][0] < now_ms - RATE_WINDOW_MS:
            self._counts.popleft()
        return sum(n for _, n in self._counts) * 1000 / RATE_WINDOW_MS

    def _sample(self, key: str, at: int) -> dict[str, Any]:
        value, gateway = float(self._value[at]), int(self._gateway[at])
        return {
            "key": key,
            "index": at,
            "value": None if np.isnan(value) else value,
            "time_ms": int(self._time_ms[at]) or None,
            "quality": int(self._quality[at]),
            "gateway": self.gateways[gateway] if gateway >= 0 else None,
            "is_stale": bool(self._is_stale[at]),
        }

    def _number(self, gateway: str) -> int:
        number = self._gateway_numbers.get(gateway)
        if number is None:
            number = self._gateway_numbers[gateway] = len(self.gateways)
            self.gateways.append(gateway)
        return number

    def _grow(self, size: int) -> None:
        more = size - len(self._value)
        self._value = np.append(self._value, np.full(more, np.nan))
        self._time_ms = np.append(self._time_ms, np.zeros(more, np.int64))
        self._quality = np.append(self._quality, np.full(more, Quality.NO_COMMUNICATION, np.uint8))
        self._heard_ms = np.append(self._heard_ms, np.zeros(more, np.int64))
        self._silence_ms = np.append(self._silence_ms, np.full(more, DEFAULT_SILENCE_MS, np.int64))
        self._gateway = np.append(self._gateway, np.full(more, -1, np.int32))
        self._version = np.append(self._version, np.zeros(more, np.int64))
        self._is_stale = np.append(self._is_stale, np.ones(more, np.bool_))
