"""Where the field side puts what it read: the collector implements it, tests record it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from watchroom.errors import StoreError

if TYPE_CHECKING:
    from watchroom.frames import Event

Aliases = npt.NDArray[np.uint32]
Values = npt.NDArray[np.float64]
Qualities = npt.NDArray[np.uint8]
TRY_AGAIN_S = 0.5

log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Takes samples and events of one gateway."""

    @property
    def is_full(self) -> bool:
        """Whether the event reserve of the disk is used up: readers are not acknowledged any more."""
        ...

    def report(self, aliases: Aliases, time_ms: int, values: Values, quality: Qualities) -> None:
        """Take one block of one poll; never blocks.

        Args:
            aliases: Aliases of ``signals_of``, shape (n,).
            time_ms: When the device was read, the same for the whole block.
            values: In each signal's unit, shape (n,); NaN where there is none.
            quality: ``watchroom.signals.Quality``, shape (n,).
        """
        ...

    async def durable(self) -> None:
        """Return when every urgent sample reported so far is on the disk; then its reader may be answered."""
        ...

    async def event(self, event: Event) -> None:
        """Take one event; returns after the outbox has committed it."""
        ...


async def keep(sink: Sink, events: Sequence[Event]) -> None:
    """Return when events, and every sample reported before, are on the disk; waits as long as there is no room."""
    while events:
        try:
            if not sink.is_full:
                await asyncio.gather(*(sink.event(event) for event in events))
                break
        except StoreError as exc:
            log.error("event not stored, trying again", reason=str(exc))
        await asyncio.sleep(TRY_AGAIN_S)
    await sink.durable()
