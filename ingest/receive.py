"""Ingest: frames from the broker into the journal, acknowledged only when they are durable there."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ingest.answers import AckPacer, GapWatch
from ingest.aside import Aside
from ingest.batch import Batch
from ingest.centre import CentreReport
from ingest.disk_watch import DiskWatch
from ingest.inbox import Inbox
from ingest.ledger import Ledger
from ingest.limits import RateLimit
from ingest.quarantine import Quarantine
from watchroom.births import BirthStore, format_epoch
from watchroom.centre import CENTRE_GATEWAY
from watchroom.disk import Disk
from watchroom.errors import LinkError, StoreError
from watchroom.journal import Journal
from watchroom.mqtt import Message, MqttLink
from watchroom.settings import MqttSettings
from watchroom.topics import FROM_GATEWAY, Topic, subscription

log = structlog.get_logger(__name__)

RECEIVE_MAXIMUM = 256
LAZY_SYNC_S = 0.2
TICK_S = 1.0
SNAPSHOT_S = 30.0
TRIM_S = 60.0
RETRY_S = 0.5
HAVE_LIMIT = 200
KEEP_BYTES, KEEP_MS = 4 << 30, 3 * 24 * 3600 * 1000


class Receiver:
    """Take in what the gateways of one site send.

    `run` is the one thread that writes the journal; the MQTT link has its own.

    Args:
        site_id: The site.
        journal: Where frames go.
        births: Gets every birth before its frame is journalled.
        settings: The broker.
        folder: Snapshot of received numbers, waiting frames, quarantine.
        disk: File operations.
        now_ms: The centre's clock, UTC ms.
        registry: Gets the figures.
        free_share: Share of the disk that is free, 0 .. 1.
        limit: How much one gateway may send.
        readings: What else the centre says about itself, by name (`ingest.centre.NAMES`); None: it says nothing.
    """

    def __init__(
        self,
        site_id: str,
        journal: Journal,
        *,
        births: BirthStore,
        settings: MqttSettings,
        folder: Path,
        disk: Disk,
        now_ms: Callable[[], int],
        registry: CollectorRegistry,
        free_share: Callable[[], float] | None = None,
        limit: RateLimit | None = None,
        readings: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self._site, self._journal, self._now_ms = site_id, journal, now_ms
        self._folder = folder
        self._disk_watch = DiskWatch(self._measure_free if free_share is None else free_share)
        disk.make_folder(folder)
        self._ledger = Ledger(folder / "received.json", disk=disk)
        self._quarantine = Quarantine(folder / "quarantine", disk=disk, registry=registry)
        self._aside = Aside(folder / "waiting", disk=disk)
        self._births = births
        self._batch = Batch(
            site_id, journal, births=births, ledger=self._ledger, aside=self._aside, quarantine=self._quarantine
        )
        self._pacer, self._gaps = AckPacer(), GapWatch()
        self._limit = RateLimit() if limit is None else limit
        self._inbox = Inbox(self._limit)
        self._readings = readings
        self._report: CentreReport | None = None
        self._make_report = partial(CentreReport, site_id, births=births, folder=folder, disk=disk, now_ms=now_ms)
        self._is_refused = False
        self._is_new_connection = False
        self._lazy_s = self._tick_s = self._snapshot_s = self._trim_s = 0.0
        self._link = MqttLink(
            settings,
            f"ingest-{site_id}",
            manual_ack=True,
            clean=False,
            receive_maximum=RECEIVE_MAXIMUM,
            on_message=self._arrived,
            on_up=self._subscribe,
        )
        self._make_metrics(registry)

    def run(self, stop: threading.Event) -> None:
        """Receive until told to stop.

        Raises:
            StoreError: If the journal cannot be read at the start.
        """
        read = self._ledger.load(self._journal, self._site)
        log.info("ingest started", site=self._site, journal_end=self._journal.end(self._site), replayed=read)
        # the first tick stands before the first frame: readers then know how long the centre was away
        self._keep_time(time.monotonic())
        self._batch.release_waiting(self._now_ms())
        self._process([], stop)
        self._link.start()
        try:
            while not stop.is_set():
                messages = self._next_batch()
                self._process(messages, stop)
                now_s = time.monotonic()
                self._keep_time(now_s)
                self._answer(now_s)
        finally:
            self._finish()

    def status(self) -> dict[str, Any]:
        """Return how ingest and each gateway are; may be called from any thread."""
        gateways = {}
        newest = self._ledger.newest()
        for gateway, source in list(self._batch.sources.items()):
            facts = source.to_json()
            epoch = newest.get(gateway)
            received = None if epoch is None else self._ledger.of(gateway, epoch)
            facts["gaps"] = 0 if received is None else received.gap_count
            facts["backlog"] = 0 if received is None else received.top - len(received)
            facts["waiting"] = self._aside.count(gateway)
            facts["thinned"] = self._limit.dropped(gateway)
            gateways[gateway] = facts
        return {
            "broker": self._link.is_up,
            "problems": self._problems(),
            "queue": len(self._inbox),
            "left_out": self._inbox.left_out,
            "limited": self._limit.held(time.monotonic()),
            "is_full": self._disk_watch.is_full,
            "disk_free": self._disk_watch.free,
            "journal": {
                "begin": self._journal.begin(self._site),
                "end": self._journal.end(self._site),
                "lost": self._journal.lost(self._site),
            },
            "quarantined": dict(self._quarantine.counts),
            "gateways": gateways,
        }

    def _problems(self) -> list[str]:
        """Return what people should mend, as words that both languages translate."""
        found = {
            "disk.full": self._disk_watch.is_full,
            "disk.high": self._disk_watch.is_high and not self._disk_watch.is_full,
            "journal.refuses": self._is_refused,
            "journal.damaged": self._journal.lost(self._site) > 0,
            "gateways.limited": bool(self._limit.held(time.monotonic())),
        }
        return [name for name, is_so in found.items() if is_so]

    def _arrived(self, message: Message) -> None:
        """Queue a message (link's thread)."""
        if not self._inbox.put(message) and message.qos:
            self._link.ack(message)

    def _subscribe(self) -> None:
        """Ask for the site's topics (link's thread)."""
        self._link.subscribe(*(subscription(self._site, leaf) for leaf in FROM_GATEWAY))
        self._is_new_connection = True

    def _next_batch(self) -> list[Message]:
        """Return what has arrived; waits for it at most until something else is due."""
        now_s = time.monotonic()
        until = min(self._tick_s, self._pacer.next_s(), self._lazy_s or float("inf"))
        wait_s = min(max(until - now_s, 0.0), 0.25)
        if self._disk_watch.is_full:
            time.sleep(wait_s)
            return []
        return self._inbox.take(wait_s)

    def _process(self, messages: list[Message], stop: threading.Event) -> None:
        """Bring messages into the journal and acknowledge them; tries again while the disk refuses."""
        todo = messages
        while not self._commit(todo):
            if stop.wait(RETRY_S):
                return
            self._disk_watch.look()

    def _commit(self, todo: list[Message]) -> bool:
        """Take in and commit; return whether nothing is left of todo."""
        taken, problem = 0, None
        now_ms = self._now_ms()
        try:
            for message in todo:
                self._batch.take(message.topic, message.payload, now_ms)
                taken += 1
        except StoreError as exc:
            problem = exc
        if todo and not self._lazy_s:
            self._lazy_s = time.monotonic() + LAZY_SYNC_S
        if self._batch.must_sync or (self._lazy_s and time.monotonic() >= self._lazy_s):
            try:
                self._sync()
            except StoreError as exc:
                problem, taken = exc, 0
        for message in todo[:taken]:
            if message.qos:
                self._link.ack(message)
        del todo[:taken]
        if problem is not None and not self._is_refused:
            log.error("journal refuses, trying again", error=str(problem), waiting=len(todo))
        elif problem is None and self._is_refused:
            log.info("journal writes again")
        self._is_refused = problem is not None
        return problem is None

    def _sync(self) -> None:
        begun = time.perf_counter()
        touched = self._batch.commit()
        self._lazy_s = 0.0
        self._sync_seconds.observe(time.perf_counter() - begun)
        for (gateway, epoch), frames in touched.items():
            self._frames.labels(gateway).inc(frames)
            self._pacer.note(gateway, epoch, frames)

    def _answer(self, now_s: float) -> None:
        """Publish the acknowledgements that are due."""
        if self._is_new_connection:
            # a broker that lost its disk has lost the retained acknowledgements too
            self._is_new_connection = False
            for gateway, epoch in self._ledger.newest().items():
                self._pacer.note(gateway, epoch, 1)
        for gateway, epoch in self._pacer.due(now_s):
            received = self._ledger.of(gateway, epoch)
            recent = self._batch.recent(gateway, epoch)
            content = {"epoch": format_epoch(epoch), **received.to_json(HAVE_LIMIT, near=recent)}
            if self._publish(gateway, "ack", content, retain=True):
                self._batch.answered(gateway)
                self._pacer.sent(gateway, now_s)
            else:
                self._pacer.postpone(gateway, now_s)

    def _ask_for_gaps(self, now_s: float) -> None:
        for gateway, epoch in self._ledger.newest().items():
            ranges = self._gaps.wanted(gateway, epoch, self._ledger.of(gateway, epoch), now_s)
            if ranges:
                self._publish(gateway, "want", {"epoch": format_epoch(epoch), "ranges": ranges}, retain=False)

    def _publish(self, gateway: str, leaf: str, content: dict[str, Any], *, retain: bool) -> bool:
        topic = str(Topic(self._site, gateway, leaf))
        try:
            self._link.publish(topic, json.dumps(content, separators=(",", ":")).encode(), qos=1, retain=retain)
        except LinkError:
            return False
        return True

    def _keep_time(self, now_s: float) -> None:
        """Do what is done every second, half minute and minute."""
        if now_s < self._tick_s:
            return
        # a late tick is not made up for: the next one is a second from now
        self._tick_s = now_s + TICK_S
        is_full = self._disk_watch.look()
        # the centre's clock and its own samples use the reserve: a full disk must be told by an alarm
        self._tell(now_s)
        self._journal.append(self._site, "", b"", arrived_ms=self._now_ms())
        self._lazy_s = self._lazy_s or now_s + LAZY_SYNC_S
        if not is_full:
            self._ask_for_gaps(now_s)
        try:
            if not is_full:
                self._retry_refused()
            if now_s >= self._snapshot_s and not is_full:
                self._snapshot_s = now_s + SNAPSHOT_S
                self._snapshot()
            if now_s >= self._trim_s:
                self._trim_s = now_s + TRIM_S
                self._journal.trim(self._site, now_ms=self._now_ms(), keep_bytes=KEEP_BYTES, keep_ms=KEEP_MS)
        except StoreError as exc:
            log.error("journal housekeeping failed", error=str(exc))

    def _retry_refused(self) -> None:
        """Try again what a person asked for with ``watchroom quarantine retry``."""
        asked = self._quarantine.asked()
        if not asked:
            return
        now_ms = self._now_ms()
        taken = [self._batch.retry(content.topic, content.payload, now_ms) for _, content in asked]
        self._sync()
        for (item, _), is_taken in zip(asked, taken, strict=True):
            if is_taken:
                self._quarantine.release(item)
            else:
                self._quarantine.keep(item)
        log.info("quarantine tried again", messages=len(asked), taken=sum(taken))

    def _tell(self, now_s: float) -> None:
        """Append what the centre says about itself, if that is due."""
        if self._readings is None:
            return
        try:
            if self._report is None:
                self._report = self._make_report()
            frame = self._report.frame(now_s, {**self._readings(), **self._own_readings(now_s)})
        except StoreError as exc:
            log.error("the centre cannot report on itself", error=str(exc))
            return
        if frame is not None:
            self._journal.append(self._site, CENTRE_GATEWAY, frame, arrived_ms=self._now_ms())

    def _own_readings(self, now_s: float) -> dict[str, float]:
        unread = self._journal.unread(self._site)
        age_ms = 0 if unread.since_ms is None else max(0, self._now_ms() - unread.since_ms)
        return {
            "disk_use": round(100.0 * (1.0 - self._disk_watch.free), 1),
            "intake": 0.0 if self._disk_watch.is_full else 1.0,
            "refused": float(sum(self._quarantine.counts.values())),
            "limited": float(len(self._limit.held(now_s))),
            "journal_held": round(100.0 * max(unread.size / KEEP_BYTES, age_ms / KEEP_MS), 1),
            "journal_lost": float(self._journal.lost(self._site)),
        }

    def _snapshot(self) -> None:
        """Keep the sets of received numbers, so that a start reads little of the journal."""
        self._sync()
        self._ledger.save(self._journal.end(self._site))
        self._journal.checkpoint(self._site, "ingest", self._ledger.offset)

    def _finish(self) -> None:
        try:
            self._snapshot()
            self._answer(float("inf"))
        except StoreError as exc:
            log.error("journal refuses at the end", error=str(exc))
        finally:
            self._link.stop()

    def _measure_free(self) -> float:
        usage = shutil.disk_usage(self._folder)
        # as df tells it: blocks kept for root count neither as used nor as free
        return usage.free / (usage.used + usage.free)

    def _make_metrics(self, registry: CollectorRegistry) -> None:
        self._frames = Counter(
            "watchroom_ingest_frames", "Frames acknowledged, repetitions included", ["gateway"], registry=registry
        )
        self._sync_seconds = Histogram(
            "watchroom_journal_sync_seconds",
            "Time to make a batch durable",
            registry=registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2),
        )
        waiting = Gauge("watchroom_ingest_queue", "Messages waiting for the journal", registry=registry)
        waiting.set_function(self._inbox.__len__)
