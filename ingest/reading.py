"""Samples, figures over samples, and imports, as operations of the engine's local API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ingest.packed import pack, unpack_batch
from ingest.spans import CounterTally, Digest, StateClock
from ingest.store import (
    MOST_COUNTED,
    HistoryStore,
    Sample,
    Samples,
    TooBigError,
    check_page,
    check_span,
)
from watchroom.errors import ContractError, StateError
from watchroom.signals import split_key

T = TypeVar("T")
PAGE = 50_000
MOST_IMPORTED = 50_000
"""Samples of one import request."""


class HistoryReading:
    """Answer queries over samples beside the writer, a few at a time.

    Args:
        store: The open store.
        slots: Queries that may run at once; more wait, so that memory stays bounded.
    """

    def __init__(self, store: HistoryStore, *, slots: asyncio.Semaphore) -> None:
        self._store, self._slots = store, slots

    def operations(self) -> dict[str, Any]:
        """Return what the local API offers, by name."""
        return {
            "history.keys": self.keys,
            "history.samples": self.samples,
            "history.count": self.count,
            "history.ends": self.ends,
            "history.states": self.states,
            "history.increase": self.increase,
            "history.digest": self.digest,
            "history.import": self.take,
        }

    async def keys(self, _: dict[str, Any]) -> dict[str, Any]:
        """Return ``{"keys": [...]}``: every signal ever stored."""
        return {"keys": await self._run(self._store.keys)}

    async def samples(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return one page of samples, packed (`ingest.packed`).

        Args:
            args: ``key``, ``start_ms``, ``end_ms``, ``limit``.

        Raises:
            TooBigError: If the page is too big.
            StateError: If the range is empty.
        """
        key, start_ms, end_ms = _span(args)
        limit = int(args.get("limit", PAGE))
        check_page(limit)
        return pack(await self._run(lambda: self._store.samples(key, start_ms=start_ms, end_ms=end_ms, limit=limit)))

    async def count(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return ``{"count": {key: samples}}`` of ``keys`` between ``start_ms`` and ``end_ms``."""
        keys = [str(key) for key in args["keys"]]
        span = {"start_ms": int(args["start_ms"]), "end_ms": int(args["end_ms"])}
        check_span(keys, **span)
        return {"count": dict(await self._run(lambda: self._store.count(keys, **span)))}

    async def ends(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return the samples beside a time: ``{"before": {key: sample}, "from": {key: sample}}``.

        Args:
            args: ``keys``, ``at_ms``; a key without such a sample is left out.
        """
        keys, at_ms = [str(key) for key in args["keys"]], int(args["at_ms"])
        check_span(keys, start_ms=at_ms, end_ms=at_ms + 1)
        before = await self._run(lambda: self._store.last(keys, before_ms=at_ms))
        after = await self._run(lambda: self._store.first(keys, from_ms=at_ms))
        return {
            "before": {key: _plain(sample) for key, sample in before.items()},
            "from": {key: _plain(sample) for key, sample in after.items()},
        }

    async def states(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return how long a signal stood at each value.

        Args:
            args: ``key``, ``start_ms``, ``end_ms``, ``hold_ms`` (longest silence a sample stands for; may be left out).

        Returns:
            ``{"states": [{"value", "ms"}], "bad_ms", "unknown_ms", "changes"}``, longest first.

        Raises:
            StateError: If the signal has too many values for a state.
            TooBigError: If the range holds too many samples.
        """
        key, start_ms, end_ms = _span(args)
        hold = args.get("hold_ms")
        clock = StateClock(start_ms=start_ms, end_ms=end_ms, hold_ms=None if hold is None else int(hold))

        def work() -> None:
            for page in self._pages(key, start_ms=start_ms, end_ms=end_ms, with_before=True):
                clock.feed(page.time_ms, page.value, page.quality)
            clock.finish()

        try:
            await self._run(work)
        except ValueError as exc:
            raise StateError("history.states", str(exc)) from exc
        states = sorted(clock.by_value.items(), key=lambda item: -item[1])
        return {
            "states": [{"value": value, "ms": length} for value, length in states],
            "bad_ms": clock.bad_ms,
            "unknown_ms": clock.unknown_ms,
            "changes": clock.changes,
        }

    async def increase(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return how much a counter grew: ``{"increase", "restarts", "roll_overs", "count"}``.

        Args:
            args: ``key``, ``start_ms``, ``end_ms``, ``modulus`` (value after the largest; may be left out).

        Raises:
            TooBigError: If the range holds too many samples.
        """
        key, start_ms, end_ms = _span(args)
        modulus = args.get("modulus")
        tally = CounterTally(modulus=None if modulus is None else float(modulus))

        def work() -> None:
            for page in self._pages(key, start_ms=start_ms, end_ms=end_ms, with_before=True):
                tally.feed(page.value, page.quality)

        await self._run(work)
        return {name: getattr(tally, name) for name in ("increase", "restarts", "roll_overs", "count")}

    async def digest(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return ``{"count", "checksum"}`` of the samples of ``key`` in a range, the checksum as hexadecimal text."""
        key, start_ms, end_ms = _span(args)
        digest = Digest()

        def work() -> None:
            for page in self._pages(key, start_ms=start_ms, end_ms=end_ms, with_before=False):
                digest.feed(page.time_ms, page.value, page.quality)

        await self._run(work)
        return {"count": digest.count, "checksum": f"{digest.checksum:016x}"}

    async def take(self, args: dict[str, Any]) -> dict[str, Any]:
        """Store samples that did not come by the journal; storing them again changes nothing.

        Args:
            args: A packed batch (`ingest.packed.pack_batch`).

        Returns:
            ``{"stored": n}``.

        Raises:
            StateError: If a key or the batch is wrong.
            TooBigError: If it is too big.
            StoreError: If the store refuses.
        """
        batch = unpack_batch(args)
        if len(batch) > MOST_IMPORTED:
            raise TooBigError("samples", asked=len(batch), most=MOST_IMPORTED, hint="send them in several requests")
        for key in batch.keys:
            try:
                split_key(key)
            except ContractError as exc:
                raise StateError("history.key", exc.detail) from exc
        await self._run(lambda: self._store.write(batch, position=None))
        return {"stored": len(batch)}

    def _pages(self, key: str, *, start_ms: int, end_ms: int, with_before: bool) -> Iterator[Samples]:
        """Yield all samples of a range, after the last one before it."""
        number = self._store.count([key], start_ms=start_ms, end_ms=end_ms)[key]
        if number > MOST_COUNTED:
            raise TooBigError("samples", asked=number, most=MOST_COUNTED, hint="ask for a shorter time")
        if with_before and (found := self._store.last([key], before_ms=start_ms).get(key)):
            yield self._store.samples(key, start_ms=found.time_ms, end_ms=start_ms, limit=1)
        at: int | None = start_ms
        while at is not None:
            page = self._store.samples(key, start_ms=at, end_ms=end_ms, limit=PAGE)
            yield page
            at = page.next_ms

    async def _run(self, work: Callable[[], T]) -> T:
        async with self._slots:
            return await asyncio.to_thread(work)


def _span(args: dict[str, Any]) -> tuple[str, int, int]:
    key, start_ms, end_ms = str(args["key"]), int(args["start_ms"]), int(args["end_ms"])
    check_span([key], start_ms=start_ms, end_ms=end_ms)
    return key, start_ms, end_ms


def _plain(sample: Sample) -> dict[str, Any]:
    value = None if sample.value != sample.value else sample.value
    return {"time_ms": sample.time_ms, "value": value, "quality": sample.quality}
