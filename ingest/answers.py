"""When each gateway gets its acknowledgement, and when it is asked for gaps. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from watchroom.intervals import IntervalSet, Range

ACK_EVERY_S = 0.2
HALF_WINDOW = 32
WANT_AFTER_S = 15.0
WANT_MOST_S = 300.0
WANT_RANGES = 32


@dataclass(slots=True)
class _Ack:
    epoch: int
    frames: int = 0
    sent_s: float = float("-inf")


class AckPacer:
    """Decide when to acknowledge: at once after a pause or half a window, else five times a second."""

    def __init__(self) -> None:
        self._open: dict[str, _Ack] = {}
        self._sent_s: dict[str, float] = {}

    def note(self, gateway: str, epoch: int, frames: int) -> None:
        """Say that so many frames of a gateway are durable, or were repeated, since the last call."""
        ack = self._open.get(gateway)
        if ack is None or ack.epoch != epoch:
            ack = self._open[gateway] = _Ack(epoch, sent_s=self._sent_s.get(gateway, float("-inf")))
        ack.frames += frames

    def due(self, now_s: float) -> list[tuple[str, int]]:
        """Return (gateway, epoch) of what must be sent now."""
        return [(gateway, ack.epoch) for gateway, ack in self._open.items() if self._due_s(ack) <= now_s]

    def sent(self, gateway: str, now_s: float) -> None:
        """Say that an acknowledgement went out."""
        self._open.pop(gateway, None)
        self._sent_s[gateway] = now_s

    def postpone(self, gateway: str, now_s: float) -> None:
        """Say that an acknowledgement could not be sent: it will be due again soon."""
        ack = self._open[gateway]
        ack.frames, ack.sent_s = 0, now_s

    def next_s(self) -> float:
        """Return when the next one will be due; infinite if none is open."""
        return min((self._due_s(ack) for ack in self._open.values()), default=float("inf"))

    @staticmethod
    def _due_s(ack: _Ack) -> float:
        return float("-inf") if ack.frames >= HALF_WINDOW else ack.sent_s + ACK_EVERY_S


@dataclass(slots=True)
class _Gap:
    first: int
    since_s: float
    wait_s: float = WANT_AFTER_S


class GapWatch:
    """Ask for gaps that stay: live frames pass the backlog, so a young gap is nothing to ask about."""

    def __init__(self) -> None:
        self._gaps: dict[tuple[str, int], _Gap] = {}

    def wanted(self, gateway: str, epoch: int, received: IntervalSet, now_s: float) -> list[Range]:
        """Return the ranges to ask for now, mostly none."""
        missing = received.missing(WANT_RANGES)
        key = (gateway, epoch)
        if not missing:
            self._gaps.pop(key, None)
            return []
        gap = self._gaps.get(key)
        if gap is None or gap.first != missing[0][0]:
            self._gaps[key] = _Gap(missing[0][0], now_s)
            return []
        if now_s - gap.since_s < gap.wait_s:
            return []
        gap.since_s, gap.wait_s = now_s, min(gap.wait_s * 2, WANT_MOST_S)
        return missing
