"""Heartbeat strips: how regularly each gateway was heard in the last ten minutes. Pure."""

from __future__ import annotations

CELLS = 40
CELL_MS = 15_000
MISSING, LATE, GOOD = 0, 1, 2
SLACK_MS = 3_000
"""A pause in a cell longer than this makes the cell late."""


class Heartbeats:
    """The strip of one gateway; times are the centre's, in ms, and need not come in order of cells."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._pause: dict[int, int] = {}
        self.last_ms: int | None = None

    def heard(self, at_ms: int) -> None:
        """Note one frame of the gateway."""
        cell = at_ms // CELL_MS
        last = self._last.get(cell)
        if last is None:
            self._first[cell] = at_ms
            self._forget(cell - CELLS - 1)
        else:
            self._pause[cell] = max(self._pause.get(cell, 0), at_ms - last)
        self._last[cell] = at_ms
        self.last_ms = at_ms if self.last_ms is None else max(self.last_ms, at_ms)

    def strip(self, now_ms: int) -> list[int]:
        """Return 40 cells, oldest first; the last one is still running and judged by what there was so far."""
        now = now_ms // CELL_MS
        return [self._judge(cell, min(now_ms, (cell + 1) * CELL_MS)) for cell in range(now - CELLS + 1, now + 1)]

    def _judge(self, cell: int, end_ms: int) -> int:
        first = self._first.get(cell)
        if first is None:
            # a cell that has just begun is not missing yet
            running = end_ms - cell * CELL_MS < SLACK_MS
            return self._judge(cell - 1, cell * CELL_MS) if running and cell - 1 in self._first else MISSING
        pause = max(first - cell * CELL_MS, self._pause.get(cell, 0), end_ms - self._last[cell])
        return GOOD if pause <= SLACK_MS else LATE

    def _forget(self, before: int) -> None:
        for cells in (self._first, self._last, self._pause):
            for cell in [cell for cell in cells if cell < before]:
                del cells[cell]
