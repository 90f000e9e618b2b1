"""History in a VictoriaMetrics server: Influx lines in, PromQL and exports out.

The server confirms what it may still lose and what it throws away, so the journal position follows some time later
(``ingest.settling``). It stands in a small local file together with the name of a mark that is kept in the server: a
server without that mark was wiped, and everything the journal still has is sent again.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import structlog

from ingest.settling import FIGURES_AGE_S, SETTLE_S, Settling
from ingest.store import Buckets, Retention, RewoundError, Sample, SampleBatch, Samples
from ingest.victoria_lines import EARLIEST_MS, MARK, encode, mark_line, selector
from ingest.victoria_link import Figures, VictoriaLink
from ingest.victoria_reads import VictoriaReads
from watchroom.disk import Disk, RealDisk, replace_file
from watchroom.errors import StoreError

log = structlog.get_logger(__name__)

MOST_LINES = 20_000
MARK_EVERY_S = 60.0
SAVE_EVERY_S = 1.0
FUTURE_MS = 172_800_000 - 60_000
"""VictoriaMetrics throws away what lies more than two days ahead."""


class VictoriaStore:
    """History of one site in a VictoriaMetrics server (single node).

    The server must run with ``-dedup.minScrapeInterval=1ms``: otherwise a batch that is repeated counts twice.

    Args:
        url: See `VictoriaLink`.
        token: Bearer token, or empty.
        site: Site id, a label of every series.
        position_file: Where position and mark are kept.
        disk: How that file is written.
        settle_s: How long after its answer a killed server may still lose a batch.

    Raises:
        ConfigError: If the URL is not complete.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        site: str,
        position_file: Path,
        disk: Disk | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._link = VictoriaLink(url, token=token)
        self._reads = VictoriaReads(self._link, site)
        self._site, self._file, self._disk = site, position_file, disk or RealDisk()
        self._settle_s = settle_s
        self._settling = Settling(0, settle_s=settle_s)
        self._lock = threading.Lock()
        self._mark = ""
        self._started_s = 0
        self._base = self._inserted = 0
        self._retention_ms = 0
        self._is_sure = False
        self._owed: RewoundError | None = None
        self._posted_s = self._marked_s = self._saved_s = self._figured_s = float("-inf")
        self._saved: tuple[int, str] = (0, "")
        self.refused = 0
        """Samples outside the server's retention, which it would throw away silently."""

    def open(self) -> None:
        """Find the server and the mark in it."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            position, self._mark = self._load()
            self._saved = (position, self._mark)
            self._settling = Settling(position, settle_s=self._settle_s)
            self._is_sure = False
            self._reconnect()

    def position(self) -> int:
        """Return the journal offset after the last record that is surely kept."""
        return self._settling.position

    def write(self, batch: SampleBatch, *, position: int | None) -> None:
        """Send the batch, then look whether the server counted what was sent before.

        Raises:
            RewoundError: If the server lost something; the journal is to be read again from there.
            StoreError: If it is away, refuses, or drops lines.
        """
        kept = self._kept(batch, is_journal=position is not None)
        with self._lock:
            if position is not None and self._owed is not None:
                owed, self._owed = self._owed, None
                raise owed
            try:
                self._write(kept, position)
            except RewoundError as exc:
                if position is not None:
                    raise
                # somebody's import found out: the writer must be told, too
                self._owed = exc
                raise StoreError(f"{exc}; try again") from exc

    def _write(self, batch: SampleBatch, position: int | None) -> None:
        if not self._is_sure:
            self._reconnect()
        points = 0
        try:
            for part in encode(batch, self._site, most=MOST_LINES):
                self._posted_s = time.monotonic()
                self._link.write(part.body)
                points += part.points
            self._posted_s = time.monotonic()
            self._settling.add(points, position=position, now_s=self._posted_s)
            self._verify()
        except RewoundError:
            raise
        except StoreError:
            # what of it arrived is not known: the counters say nothing until they are read anew
            self._is_sure = False
            raise
        self._save()

    def _kept(self, batch: SampleBatch, *, is_journal: bool) -> SampleBatch:
        """Return what the server will not throw away for its time.

        Raises:
            StoreError: If it would throw some away and a person is there to be told.
        """
        now_ms = int(time.time() * 1000)
        fits = batch.time_ms < now_ms + FUTURE_MS
        kept_ms = now_ms - self._retention_ms + 60_000 if self._retention_ms else 0
        fits &= batch.time_ms >= max(EARLIEST_MS, kept_ms)
        if fits.all():
            return batch
        lost = int(len(batch) - np.count_nonzero(fits))
        if not is_journal:
            raise StoreError(f"{lost} samples are older than the -retentionPeriod of {self._link.name}")
        self.refused += lost
        log.warning("samples outside the retention of the history store", count=lost, total=self.refused)
        return batch.only(fits)

    def _verify(self) -> None:
        """Compare the server's counter with what was sent.

        Raises:
            RewoundError: If the server was started anew, or lines are missing.
        """
        now_s = time.monotonic()
        if now_s - self._figured_s < 1.0:
            return
        figures = self._link.figures()
        self._figured_s = now_s
        # its start is told in whole seconds: a counter that went back tells of a start within the same one
        if figures.started_s != self._started_s or figures.inserted < self._inserted:
            self._reconnect(figures)
        self._inserted = figures.inserted
        missing = self._settling.count(figures.inserted - self._base, now_s=now_s)
        if missing:
            raise StoreError(
                f"{self._link.name} confirmed and dropped {missing} numbers; its log or -retentionPeriod, "
                "-storage.maxHourlySeries and relabelling tell why. They are sent again"
            )
        if now_s - self._marked_s >= MARK_EVERY_S:
            if not self._has_mark():
                self._begin_anew()
            self._set_mark()

    def _reconnect(self, figures: Figures | None = None) -> None:
        """Find out which server this is and what it has.

        Raises:
            RewoundError: If it was started anew or wiped since the last look.
            StoreError: If it is away or not usable.
        """
        first = not self._started_s
        if self._posted_s + FIGURES_AGE_S > time.monotonic():
            # its counters must have seen our last lines before we count from them
            threading.Event().wait(self._posted_s + FIGURES_AGE_S - time.monotonic())
            figures = None
        figures = figures or self._link.figures()
        flags = self._link.flags()
        if flags.dedup != "1ms":
            raise StoreError(
                f"{self._link.name} must be started with -dedup.minScrapeInterval=1ms: "
                "otherwise samples that are sent again count twice"
            )
        was_restarted = not first and (figures.started_s != self._started_s or figures.inserted < self._inserted)
        had_sent = self._settling.sent > 0
        self._started_s, self._base, self._retention_ms = figures.started_s, figures.inserted, flags.retention_ms
        self._inserted = figures.inserted
        self._settling.restart()
        self._figured_s = time.monotonic()
        has_mark = self._has_mark()
        self._is_sure = True
        if not has_mark:
            self._begin_anew(is_first=first)
        self._set_mark()
        if not first and (was_restarted or had_sent):
            position = self._settling.position
            raise RewoundError(f"{self._link.name} was interrupted", position=position)

    def _begin_anew(self, *, is_first: bool = False) -> None:
        """Give the server a mark; everything the journal still has is sent to it.

        Raises:
            RewoundError: Unless this is the opening.
        """
        if self._settling.position:
            log.warning("history store was wiped, it is filled again from the journal", store=self._link.name)
        self._mark = uuid.uuid4().hex
        self._settling.rewind(0)
        self._save(at_once=True)
        self._set_mark()
        if not is_first:
            raise RewoundError(f"{self._link.name} was wiped", position=0)

    def _has_mark(self) -> bool:
        return any(labels.get("id") == self._mark for labels in self._link.series(selector((MARK,), self._site)))

    def _set_mark(self) -> None:
        """Write the mark anew, so that the server's retention does not take it."""
        self._posted_s = time.monotonic()
        self._link.write(mark_line(self._mark, self._site, time_ms=int(time.time() * 1000)))
        self._settling.add(1, position=None, now_s=time.monotonic())
        self._link.flush()
        self._marked_s = time.monotonic()

    def _load(self) -> tuple[int, str]:
        try:
            content = json.loads(self._file.read_bytes())
            return int(content["journal"]), str(content["mark"])
        except FileNotFoundError:
            return 0, ""
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise StoreError(f"cannot read {self._file}: {exc}") from exc

    def _save(self, *, at_once: bool = False) -> None:
        now_s, state = time.monotonic(), (self._settling.position, self._mark)
        if state != self._saved and (at_once or now_s - self._saved_s >= SAVE_EVERY_S):
            content = {"journal": state[0], "mark": state[1]}
            replace_file(self._disk, self._file, json.dumps(content).encode())
            self._saved, self._saved_s = state, now_s

    def expire(self, now_ms: int, keep: Retention) -> None:
        """Leave it to the server's ``-retentionPeriod``."""

    def close(self) -> None:
        """Keep the position and close the connections."""
        with self._lock:
            if self._mark:
                self._save(at_once=True)
            self._link.close()

    def range(self, keys: Sequence[str], *, start_ms: int, end_ms: int, buckets: int) -> Mapping[str, Buckets]:
        """Return each signal by buckets."""
        return self._reads.range(keys, start_ms=start_ms, end_ms=end_ms, buckets=buckets)

    def keys(self) -> list[str]:
        """Return every signal that was ever stored, sorted."""
        return self._reads.keys()

    def samples(self, key: str, *, start_ms: int, end_ms: int, limit: int) -> Samples:
        """Return the first samples of a range and where to go on."""
        return self._reads.samples(key, start_ms=start_ms, end_ms=end_ms, limit=limit)

    def last(self, keys: Sequence[str], *, before_ms: int) -> Mapping[str, Sample]:
        """Return the newest sample of each signal before a time."""
        return self._reads.last(keys, before_ms=before_ms)

    def first(self, keys: Sequence[str], *, from_ms: int) -> Mapping[str, Sample]:
        """Return the oldest sample of each signal from a time on."""
        return self._reads.first(keys, from_ms=from_ms)

    def count(self, keys: Sequence[str], *, start_ms: int, end_ms: int) -> Mapping[str, int]:
        """Return how many samples of any quality each signal has."""
        return self._reads.count(keys, start_ms=start_ms, end_ms=end_ms)
