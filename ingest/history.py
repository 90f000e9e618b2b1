"""The history writer: a durable reader of the journal that fills the store, however slow or absent the store is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge

from ingest.store import HistoryStore, Retention, RewoundError, SampleBatch, Tended
from watchroom.births import Birth, BirthStore
from watchroom.errors import ContractError, StoreError
from watchroom.frames import SampleFrame, decode
from watchroom.journal import Journal, Record

log = structlog.get_logger(__name__)

READER = "history"
FLUSH_S = 0.5
MOST_SAMPLES = 200_000
MOST_BYTES = 4 << 20
RETRY_S = (0.5, 1.0, 2.0, 5.0, 15.0)
EXPIRE_EVERY_S = 3600.0
TEND_EVERY_S = 5.0
TEND_NICE = 10


@dataclass(slots=True)
class Collected:
    """Samples of several frames, before they become one batch."""

    keys: dict[str, int] = field(default_factory=dict)
    series: list[NDArray[np.uint32]] = field(default_factory=list)
    time_ms: list[NDArray[np.int64]] = field(default_factory=list)
    value: list[NDArray[np.float64]] = field(default_factory=list)
    quality: list[NDArray[np.uint8]] = field(default_factory=list)
    size: int = 0

    def add(self, frame: SampleFrame, keys: tuple[str, ...]) -> None:
        """Take the samples of one frame; ``keys`` are the signals of its birth by alias."""
        alias = frame.alias
        known = alias < len(keys)
        if not known.all():
            raise ContractError("alias", f"alias {int(alias.max())} is not in a birth of {len(keys)} signals")
        present, where = np.unique(alias, return_inverse=True)
        numbers = np.fromiter(
            (self.keys.setdefault(keys[a], len(self.keys)) for a in present.tolist()), np.uint32, len(present)
        )
        self.series.append(numbers[where])
        self.time_ms.append(frame.time_ms)
        self.value.append(frame.value)
        self.quality.append(frame.quality)
        self.size += len(alias)

    def batch(self) -> SampleBatch:
        """Return everything as columns."""
        if not self.series:
            none = np.zeros(0)
            return SampleBatch(
                keys=(),
                series=none.astype(np.uint32),
                time_ms=none.astype(np.int64),
                value=none,
                quality=none.astype(np.uint8),
            )
        return SampleBatch(
            keys=tuple(self.keys),
            series=np.concatenate(self.series),
            time_ms=np.concatenate(self.time_ms),
            value=np.concatenate(self.value),
            quality=np.concatenate(self.quality),
        )


class HistoryWriter:
    """Copy samples from the journal to the store.

    The store may be slow, full or away: the writer tries again from the journal, the alarms do not wait for it,
    and the journal keeps everything until it is stored.

    Args:
        site_id: Site, the partition of the journal.
        journal: Where frames come from.
        births: What their aliases mean.
        store: Where samples go; opened by ``run``.
        registry: Where the metrics are registered.
        keep: How long samples and roll-ups are kept.
    """

    def __init__(
        self,
        site_id: str,
        journal: Journal,
        *,
        births: BirthStore,
        store: HistoryStore,
        registry: CollectorRegistry,
        keep: Retention | None = None,
    ) -> None:
        self._site, self._journal, self._births, self._store = site_id, journal, births, store
        self._keep = Retention() if keep is None else keep
        self._position = 0
        self._problem = ""
        self._keys: dict[tuple[str, int, int], tuple[str, ...]] = {}
        self._stored = Counter("watchroom_history_samples", "Samples stored", registry=registry)
        self._failed = Counter(
            "watchroom_history_failures", "Batches the store refused, to be repeated", registry=registry
        )
        self._unknown = Counter("watchroom_history_unknown", "Frames whose birth is not known", registry=registry)
        lag = Gauge("watchroom_history_lag", "Journal records not yet stored", registry=registry)
        lag.set_function(lambda: self._journal.end(self._site) - max(self._position, self._journal.begin(self._site)))

    def status(self) -> dict[str, object]:
        """Return position, lag in records, and the present problem, empty if none."""
        return {
            "position": self._position,
            "lag": self._journal.end(self._site) - max(self._position, self._journal.begin(self._site)),
            "problem": self._problem,
        }

    def run(self, stop: threading.Event) -> None:
        """Copy until told to stop; returns after the last whole batch."""
        try:
            if self._insist(stop, self._open):
                tender = threading.Thread(target=self._tend, args=(stop,), name="history-tend")
                tender.start()
                while not stop.is_set():
                    self._copy(stop)
                tender.join()
        finally:
            self._store.close()

    def _open(self) -> None:
        self._store.open()
        position = self._store.position()
        begin, end = self._journal.begin(self._site), self._journal.end(self._site)
        if not begin <= position <= end:
            # a new journal beside an old store, or the reverse: start at what there is, and say so
            if position:
                log.warning("history position outside the journal", position=position, begin=begin, end=end)
            position = begin
        self._position = position

    def _copy(self, stop: threading.Event) -> None:
        if not self._journal.wait(self._site, self._position, FLUSH_S):
            return
        collected, position = Collected(), self._position
        deadline = time.monotonic() + FLUSH_S
        while collected.size < MOST_SAMPLES:
            records = self._journal.read(self._site, position, max_bytes=MOST_BYTES)
            for record in records:
                self._take(record, collected)
            if records:
                position = records[-1].offset + 1
            left = deadline - time.monotonic()
            if left <= 0 or stop.wait(min(left, 0.1)):
                break
        batch = collected.batch()
        self._insist(stop, lambda: self._write(batch, position))

    def _write(self, batch: SampleBatch, position: int) -> None:
        try:
            self._store.write(batch, position=position)
            # a store that confirms late may still tell the position of an older journal
            kept = min(position, self._store.position())
        except RewoundError as exc:
            self._position = max(exc.position, self._journal.begin(self._site))
            log.warning("history store lost samples, they are sent again", problem=str(exc), position=self._position)
            return
        self._stored.inc(len(batch))
        self._position = position
        self._journal.checkpoint(self._site, READER, kept)

    def _take(self, record: Record, collected: Collected) -> None:
        if not record.payload:
            return
        try:
            frame = decode(record.payload)
            if not isinstance(frame, SampleFrame) or not len(frame.alias):
                return
            head = frame.header
            birth = self._births.get(self._site, record.gateway, head.epoch, head.schema)
            if birth is None:
                raise ContractError("birth", f"{record.gateway} epoch {head.epoch:016x} schema {head.schema}")
            collected.add(frame, self._keys_of(birth))
        except ContractError as exc:
            # ingest lets only sound frames into the journal; whatever still is wrong must not stop the rest
            self._unknown.inc()
            log.warning("frame not stored", gateway=record.gateway, offset=record.offset, reason=str(exc))

    def _keys_of(self, birth: Birth) -> tuple[str, ...]:
        name = (birth.gateway, birth.epoch, birth.schema)
        if name not in self._keys:
            self._keys[name] = tuple(signal.key for signal in birth.signals)
        return self._keys[name]

    def _insist(self, stop: threading.Event, action: Callable[[], None]) -> bool:
        """Run an action until it succeeds; False when told to stop first."""
        attempt = 0
        while True:
            try:
                action()
            except StoreError as exc:
                self._failed.inc()
                if not self._problem:
                    log.warning("history store away, the journal keeps the samples", problem=str(exc))
                self._problem = str(exc)
            else:
                if self._problem:
                    log.info("history store restored")
                self._problem = ""
                return True
            if stop.wait(RETRY_S[min(attempt, len(RETRY_S) - 1)]):
                return False
            attempt += 1

    def _tend(self, stop: threading.Event) -> None:
        """Let the store do its background work, ranked below everything that is waited for."""
        with suppress(OSError, AttributeError):
            # Linux alone gives each thread its own rank
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), TEND_NICE)
        expire_at, problem = 0.0, ""
        while not stop.wait(TEND_EVERY_S):
            now_ms = int(time.time() * 1000)
            try:
                if isinstance(self._store, Tended):
                    self._store.tend(now_ms, should_stop=stop.is_set)
                if time.monotonic() >= expire_at:
                    expire_at = time.monotonic() + EXPIRE_EVERY_S
                    self._store.expire(now_ms, self._keep)
            except StoreError as exc:
                if str(exc) != problem:
                    log.warning("history background work failed, to be repeated", problem=str(exc))
                problem = str(exc)
            else:
                problem = ""
