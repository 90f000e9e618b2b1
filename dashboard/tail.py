"""Follow the journal from now on: newest values and heartbeats, read-only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from dashboard.catalog import Catalog
from dashboard.heartbeats import CELL_MS, CELLS, Heartbeats
from dashboard.projection import Indices, Projection
from watchroom.births import Birth, BirthStore
from watchroom.centre import CENTRE_GATEWAY
from watchroom.errors import ContractError, StoreError
from watchroom.frames import Header, SampleFrame, decode
from watchroom.journal import Journal, Record

log = structlog.get_logger(__name__)

POLL_S = 0.25
PACE_S = 0.04
"""Shortest time between two reads: screens are told ten times a second at most."""

LOOK_BACK_MS = 60_000
"""How much of the journal is read at the start for newest values: the default of ``max_silence_s``."""

Heard = tuple[str, int, Header | None, SampleFrame | None]


class Tail:
    """Keeps a projection and the heartbeats of all gateways up to date.

    Args:
        site: Id of the site.
        journal: Opened read-only.
        births: What the aliases mean.
        catalog: Learns which gateway sends what.
        projection: Newest values.
        now_ms: The clock.
        on_reset: Called when signals were added, so that indices mean something new.
    """

    def __init__(
        self,
        site: str,
        journal: Journal,
        *,
        births: BirthStore,
        catalog: Catalog,
        projection: Projection,
        now_ms: Callable[[], int],
        on_reset: Callable[[], None],
    ) -> None:
        self._site, self._journal, self._births = site, journal, births
        self._catalog, self._projection = catalog, projection
        self._now_ms, self._on_reset = now_ms, on_reset
        self._maps: dict[tuple[str, int, int], Indices] = {}
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tail")
        self.beats: dict[str, Heartbeats] = {name: Heartbeats() for name in catalog.gateways}
        self.heartbeat_s: dict[str, float] = {}
        self.epochs: dict[str, int] = {}
        self.latency_ms: dict[str, int] = {}
        self.last_data_ms: int | None = None

    def wake(self) -> None:
        """Read soon: the journal has grown."""
        self._wake.set()

    def learn(self, birth: Birth) -> None:
        """Take in a birth."""
        self._catalog.learn(birth)
        if self._projection.add_keys(spec.key for spec in birth.signals):
            self._on_reset()
        self._maps[birth.gateway, birth.epoch, birth.schema] = self._projection.indices_of(birth)
        self.heartbeat_s[birth.gateway] = birth.heartbeat_s
        self.epochs[birth.gateway] = birth.epoch

    def merge(self, latest: Mapping[str, Any]) -> None:
        """Take in the engine's newest values."""
        if self._projection.merge(latest, now_ms=self._now_ms()):
            self._on_reset()

    async def run(self) -> None:
        """Follow until cancelled; a journal that cannot be read is tried again."""
        loop = asyncio.get_running_loop()
        is_away = False
        offset: int | None = None
        try:
            while True:
                is_behind = False
                heard: list[Heard] = []
                try:
                    if offset is None:
                        offset = await loop.run_in_executor(self._thread, self._start)
                    offset, heard, is_behind = await loop.run_in_executor(self._thread, self._read, offset)
                except (StoreError, OSError) as exc:
                    if not is_away:
                        log.warning("journal cannot be read", problem=str(exc))
                    is_away = True
                else:
                    if is_away:
                        log.info("journal restored")
                    is_away = False
                for item in heard:
                    self._take(*item)
                await asyncio.sleep(PACE_S)
                if not is_behind:
                    await self._pause()
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _start(self) -> int:
        """Return where to begin: a minute back, because every signal is sent again within its longest silence.

        The ten minutes before that are looked through for heartbeats alone.
        """
        now_ms = self._now_ms()
        low, begin = self._offset_at(now_ms - CELLS * CELL_MS), self._offset_at(now_ms - LOOK_BACK_MS)
        while low < begin and (records := self._journal.read(self._site, low)):
            for record in records:
                if record.gateway and record.offset < begin:
                    self.beats.setdefault(record.gateway, Heartbeats()).heard(record.arrived_ms)
            low = records[-1].offset + 1
        return begin

    def _offset_at(self, time_ms: int) -> int:
        """Return the first offset whose record did not arrive before a time."""
        low, high = self._journal.begin(self._site), self._journal.end(self._site)
        while low < high:
            middle = (low + high) // 2
            found = self._journal.read(self._site, middle, max_bytes=1)
            if found and found[0].arrived_ms < time_ms:
                low = middle + 1
            else:
                high = middle
        return low

    def _read(self, offset: int) -> tuple[int, list[Heard], bool]:
        """Return (next offset, what was heard, whether there is more); in the tail's thread."""
        if offset > self._journal.end(self._site):
            # the journal was emptied under us: begin with the new one
            offset = self._start()
        records = self._journal.read(self._site, offset)
        heard = [_decoded(record) for record in records if record.gateway]
        following = records[-1].offset + 1 if records else offset
        return following, heard, bool(records) and following < self._journal.end(self._site)

    def _take(self, gateway: str, arrived_ms: int, header: Header | None, frame: SampleFrame | None) -> None:
        self.beats.setdefault(gateway, Heartbeats()).heard(arrived_ms)
        if gateway != CENTRE_GATEWAY:
            self.last_data_ms = arrived_ms
        if header is None:
            return
        self.epochs[gateway] = header.epoch
        if header.is_heartbeat:
            self.latency_ms[gateway] = max(0, arrived_ms - header.complete_ms)
        if frame is None:
            return
        places = self._places(gateway, header)
        if places is not None:
            self._projection.apply(gateway, places, frame, arrived_ms=arrived_ms)

    def _places(self, gateway: str, header: Header) -> Indices | None:
        key = (gateway, header.epoch, header.schema)
        if key not in self._maps:
            birth = self._births.get(self._site, *key)
            if birth is None:
                return None
            self.learn(birth)
        return self._maps[key]


def _decoded(record: Record) -> Heard:
    try:
        frame = decode(record.payload)
    except ContractError:
        # ingest has checked the frame; one from a newer version still counts as a sign of life
        return record.gateway, record.arrived_ms, None, None
    if isinstance(frame, SampleFrame) and frame.header.n:
        return record.gateway, record.arrived_ms, frame.header, frame
    return record.gateway, record.arrived_ms, frame.header, None
