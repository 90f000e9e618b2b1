"""The alarm engine of one site: the only judge. Journal in, alarms and tickets in SQL out.

One thread reads and judges; a second applies operators' actions and the tickets' due times, so that an
acknowledgement never waits for the journal. Both write through one `Committer`, one transaction at a time.
While SQL is away the engine goes on judging and keeps the results in memory; the journal keeps them for good.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from alarms.checkpoint_file import CheckpointFile
from alarms.committer import Committer
from alarms.evaluator import Evaluator
from alarms.figures import Figures
from alarms.judged import Judged, Latest, Transition
from alarms.notify import active_channels
from alarms.retention import Keep
from alarms.row_log import rows_log
from alarms.rules import RuleSet
from alarms.set_aside import SetAside
from watchroom.births import BirthStore
from watchroom.database.connect import migrate
from watchroom.disk import Disk
from watchroom.errors import ContractError, StateError, StoreError
from watchroom.journal import Journal, Record
from watchroom.site import Site

T = TypeVar("T")
log = structlog.get_logger(__name__)

WAIT_S: Final = 0.2
POSITION_S: Final = 1.0
CHECKPOINT_S: Final = 5.0
TRIM_S: Final = 600.0
BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
BACKLOG: Final = 20_000
"""Transitions and events held while SQL is away; beyond it the engine stops reading and the journal holds them."""


class Judge(Protocol):
    """What the engine asks of an evaluator: the same records give the same results, however they are split."""

    def feed(self, record: Record) -> None:
        """Take one record."""
        ...

    def evaluate(self) -> Judged:
        """Judge everything fed since the last call."""
        ...

    def checkpoint(self) -> bytes:
        """Return the whole state."""
        ...

    def restore(self, state: bytes) -> None:
        """Take over the state of a checkpoint."""
        ...

    def latest(self) -> Latest:
        """Return the newest sample of every signal."""
        ...

    def explain(self, key: str) -> dict[str, Any]:
        """Return what the rules of a signal see now."""
        ...


class AlarmEngine:
    """Judges one site.

    Args:
        site: The site.
        ruleset: Its rules.
        journal: Where its frames are.
        births: Explains them.
        database: Alarms and tickets.
        folder: For the checkpoint.
        disk: File operations.
        on_commit: Called with the last sequence of the change feed after each commit, from the engine's threads.
        now_ms: The wall clock, for commands and clocks; conditions are judged by the journal's times alone.
        registry: For the metrics.
        make_judge: Makes what judges the records; default the `Evaluator` of these rules.
        keep: How long records of people and doings are kept.
    """

    def __init__(
        self,
        site: Site,
        ruleset: RuleSet,
        *,
        journal: Journal,
        births: BirthStore,
        database: Engine,
        folder: Path,
        disk: Disk,
        on_commit: Callable[[int], None],
        now_ms: Callable[[], int],
        registry: CollectorRegistry,
        make_judge: Callable[[], Judge] | None = None,
        keep: Keep | None = None,
    ) -> None:
        self._site, self._ruleset, self._journal, self._database = site, ruleset, journal, database
        self._on_commit, self._keep = on_commit, keep or Keep()
        self._make_judge = make_judge or (lambda: Evaluator(self._ruleset, births, site.id, site=site))
        self._next_rules: RuleSet | None = None
        self._evaluator = self._make_judge()
        channels = active_channels(site.channels, os.environ)
        feeds = _feeds_of(births, site.id)
        self._committer = Committer(site, database, channels=channels, now_ms=now_ms, ruleset=ruleset, feeds=feeds)
        self._set_aside = SetAside(self._committer, folder, disk)
        self._checkpoint = CheckpointFile(folder / f"{site.id}.checkpoint", disk)
        self._figures = Figures(registry)
        self._judging, self._writing = threading.Lock(), threading.Lock()
        self._asked, self._over = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._state, self._problem = "starting", ""
        self._backlog = Judged()
        self._offset = self._committed = self._judged_ms = 0
        self._position_at = self._checkpoint_at = self._retry_at = 0.0
        self._failed = 0

    def run(self, stop: threading.Event) -> None:
        """Judge until stop is set; may be called once.

        Raises:
            StateError: ``engine.fenced`` when another engine has taken the site over.
        """
        self._insist(stop, self._start)
        if stop.is_set():
            return
        self._state = "running"
        helper = threading.Thread(target=self._serve, args=(stop,), name="alarms-commands", daemon=True)
        helper.start()
        try:
            while not stop.is_set() and self._failure is None:
                self._judge()
                self._write_due()
                if self._next_rules is not None and self._offset == self._committed and not self._has_backlog():
                    self._attempt(self._change_rules)
        except BaseException as exc:
            self._failure = exc
        finally:
            self._over.set()
            self._asked.set()
            helper.join()
        if self._failure is not None:
            self._state = "fenced" if isinstance(self._failure, StateError) else "failed"
            raise self._failure
        self._finish()

    def wake(self) -> None:
        """Apply waiting commands now; from any thread."""
        self._asked.set()

    def reload(self, ruleset: RuleSet) -> None:
        """Judge by other rules from the next record on; from any thread.

        Rules that are the same keep their state, delays too; an active alarm whose rule is gone clears as ``retired``.
        """
        self._next_rules = ruleset

    def _change_rules(self) -> None:
        ruleset = self._next_rules
        if ruleset is None:
            return
        before = self._ruleset
        with self._judging:
            state = self._evaluator.checkpoint()
            self._ruleset = ruleset
            evaluator = self._make_judge()
            evaluator.restore(state)
            self._evaluator = evaluator
        with self._writing:
            changed = self._committer.settle(ruleset, {})
        if self._next_rules is ruleset:
            self._next_rules = None
        self._keep_checkpoint()
        log.info("rules changed", before=before.version, now=ruleset.version, rows=len(ruleset.rows), alarms=changed)

    def latest(self) -> Latest:
        """Return the newest sample of every signal; from any thread."""
        with self._judging:
            return self._evaluator.latest()

    def explain(self, key: str) -> dict[str, Any]:
        """Return why a signal is, or is not, in alarm: `Evaluator.explain` with what SQL knows of each row.

        Raises:
            StoreError: If SQL cannot be read.
        """
        with self._judging:
            found = self._evaluator.explain(key)
        rows = [row["row"] for row in found["rules"]]
        logs = rows_log(self._database, self._site.id, rows, zone=self._site.info.zone)
        for row in found["rules"]:
            log_ = logs[row["row"]]
            row |= log_
            # rules that look at changes and events have no lasting condition of their own
            row.setdefault("is_active", log_["state"] in ("UNACK", "ACKED"))
            row.setdefault("level", "")
        return found

    def status(self) -> dict[str, Any]:
        """Return how the engine is; from any thread, never blocks.

        ``state`` is starting, replaying, running, database_away, fenced or stopped; ``lag`` counts records that
        wait to be judged, ``unwritten`` results that wait for the database.
        """
        end = self._journal.end(self._site.id)
        lag = max(0, end - max(self._offset, self._journal.begin(self._site.id)))
        self._figures.lag.set(lag)
        return {
            "state": self._state,
            "problem": self._problem,
            "generation": self._committer.generation,
            "offset": self._offset,
            "committed": self._committed,
            "end": end,
            "lag": lag,
            "unwritten": len(self._backlog.transitions) + len(self._backlog.events),
            "set_aside": self._set_aside.count,
            **self._figures.scan.facts("scan"),
            **self._figures.commit.facts("commit"),
            "flood": self._committer.flood(),
            "rules": len(self._ruleset.rows),
            "rules_version": self._ruleset.version,
        }

    def _start(self) -> None:
        migrate(self._database)
        committed = self._committer.claim()
        begin, end = self._journal.begin(self._site.id), self._journal.end(self._site.id)
        if committed > end:
            log.error(
                "the journal is shorter than the position, judging it from its begin", position=committed, end=end
            )
            self._committer.rewind(begin)
            committed = begin
        elif committed < begin:
            if committed:
                # nothing unread is ever trimmed: this is another journal than the one the position was in
                log.warning("the journal begins after the position", position=committed, begin=begin)
            committed = begin
        changed = self._committer.settle(self._ruleset, self._replay(committed))
        if changed:
            log.warning("alarms settled after a change of rules or database", alarms=changed)
        self._offset = self._committed = committed

    def _replay(self, committed: int) -> dict[str, Transition]:
        """Bring the evaluator to the position with its output suppressed: SQL has that already.

        Returns:
            Row key -> its last suppressed transition.
        """
        self._state = "replaying"
        last: dict[str, Transition] = {}
        offset = self._restore(committed)
        started, first = time.monotonic(), max(offset, self._journal.begin(self._site.id))
        if offset < first < committed:
            log.warning("records before the journal's begin cannot be replayed", wanted=offset, begin=first)
        offset = first
        while offset < committed:
            records = [record for record in self._journal.read(self._site.id, offset) if record.offset < committed]
            if not records:
                break
            with self._judging:
                for record in records:
                    self._evaluator.feed(record)
                judged = self._evaluator.evaluate()
            last.update((transition.row.key, transition) for transition in judged.transitions)
            offset = records[-1].offset + 1
        log.info("alarm engine ready", replayed=offset - first, seconds=round(time.monotonic() - started, 3))
        return last

    def _restore(self, committed: int) -> int:
        """Make a fresh evaluator from the checkpoint, if one fits; return the offset it stands at."""
        kept = self._checkpoint.read()
        self._evaluator = self._make_judge()
        if kept is None or kept[0] > committed:
            return 0
        try:
            self._evaluator.restore(kept[1])
        except ContractError as exc:
            log.warning("the checkpoint cannot be used, replaying without it", problem=str(exc))
            self._evaluator = self._make_judge()
            return 0
        return kept[0]

    def _judge(self) -> None:
        if len(self._backlog.transitions) + len(self._backlog.events) > BACKLOG:
            self._over.wait(WAIT_S)
            return
        pause = WAIT_S if not self._has_backlog() else max(0.0, min(WAIT_S, self._retry_at - time.monotonic()))
        if not self._journal.wait(self._site.id, self._offset, pause):
            return
        records = self._journal.read(self._site.id, self._offset)
        if not records:
            return
        started = time.perf_counter()
        with self._judging:
            for record in records:
                self._evaluator.feed(record)
            judged = self._evaluator.evaluate()
        self._figures.scan.note(time.perf_counter() - started)
        self._figures.records.inc(len(records))
        self._figures.events.inc(len(judged.events))
        for transition in judged.transitions:
            self._figures.transitions.labels(transition.kind.value).inc()
        self._backlog.transitions += judged.transitions
        self._backlog.events += judged.events
        self._offset, self._judged_ms = records[-1].offset + 1, records[-1].arrived_ms

    def _has_backlog(self) -> bool:
        return bool(self._backlog.transitions or self._backlog.events)

    def _write_due(self) -> None:
        now = time.monotonic()
        if now < self._retry_at:
            return
        is_position_due = self._offset > self._committed and now - self._position_at >= POSITION_S
        if self._has_backlog() or is_position_due:
            self._attempt(self._write)
        if now - self._checkpoint_at >= CHECKPOINT_S and self._offset == self._committed and not self._has_backlog():
            self._attempt(self._keep_checkpoint)

    def _write(self) -> None:
        started = time.perf_counter()
        with self._writing:
            feed_seq = self._set_aside.commit(self._backlog, end=self._offset)
        if self._has_backlog():
            self._figures.commit.note(time.perf_counter() - started)
            self._on_commit(feed_seq)
        self._backlog = Judged()
        self._committed = self._offset
        self._position_at = time.monotonic()

    def _keep_checkpoint(self) -> None:
        self._checkpoint_at = time.monotonic()
        with self._judging:
            state = self._evaluator.checkpoint()
        self._checkpoint.write(self._committed, state, rules=self._ruleset.version)
        self._journal.checkpoint(self._site.id, "alarms", self._committed)

    def _attempt(self, action: Callable[[], None]) -> None:
        """Try a step that needs SQL or the disk; on StoreError note when to try again."""
        try:
            action()
        except StoreError as exc:
            self._note_failure(exc)
        else:
            self._note_success()

    def _note_failure(self, exc: StoreError) -> None:
        if not self._failed:
            log.warning("the database cannot be written, judging goes on", problem=str(exc))
        pause = BACKOFF_S[min(self._failed, len(BACKOFF_S) - 1)]
        self._failed += 1
        self._retry_at = time.monotonic() + pause
        self._state, self._problem = "database_away", str(exc)
        self._figures.is_away.set(1)

    def _note_success(self) -> None:
        if self._failed:
            log.info("the database can be written again", attempts=self._failed)
            self._failed, self._retry_at, self._problem = 0, 0.0, ""
            self._state = "running"
            self._figures.is_away.set(0)

    def _insist(self, stop: threading.Event, action: Callable[[], None]) -> None:
        while not stop.is_set():
            self._attempt(action)
            if not self._failed:
                return
            stop.wait(max(0.0, self._retry_at - time.monotonic()))

    def _serve(self, stop: threading.Event) -> None:
        """Apply commands when woken, at the latest after 200 ms; pass time each second."""
        timed = trimmed = time.monotonic()
        while not stop.is_set() and not self._over.is_set():
            self._asked.wait(WAIT_S)
            self._asked.clear()
            now = time.monotonic()
            try:
                self._apply_commands()
                if now - timed >= POSITION_S:
                    timed = now
                    self._tell(self._locked(self._pass_time))
                if now - trimmed >= TRIM_S:
                    trimmed = now
                    self._locked(lambda: self._committer.trim(self._keep))
            except StoreError as exc:
                log.debug("commands wait for the database", problem=str(exc))
                self._over.wait(BACKOFF_S[-2])
            except BaseException as exc:
                self._failure = exc
                return

    def _pass_time(self) -> int:
        # shelves end in the order of the data: while records wait to be judged, only up to the last one judged
        is_behind = self._committed < self._journal.end(self._site.id)
        return self._committer.pass_time(self._judged_ms if is_behind and self._judged_ms else None)

    def _apply_commands(self) -> None:
        while True:
            count, feed_seq = self._locked(self._committer.apply_commands)
            if not count:
                return
            self._figures.commands.inc(count)
            self._tell(feed_seq)

    def _locked(self, action: Callable[[], T]) -> T:
        with self._writing:
            return action()

    def _tell(self, feed_seq: int) -> None:
        if feed_seq:
            self._on_commit(feed_seq)

    def _finish(self) -> None:
        """Leave a fresh position and checkpoint, so that the next start replays nothing."""
        try:
            self._write()
            self._keep_checkpoint()
        except StoreError as exc:
            log.warning("stopped without a fresh checkpoint", problem=str(exc))
        self._state = "stopped"


def _feeds_of(births: BirthStore, site: str) -> Callable[[], dict[str, set[str]]]:
    """Return what tells which gateways bring the signals of each piece of equipment, by their newest births."""

    def feeds() -> dict[str, set[str]]:
        newest = {birth.gateway: birth for birth in births.all(site)}
        found: dict[str, set[str]] = {}
        for gateway, birth in newest.items():
            for spec in birth.signals:
                found.setdefault(spec.key.partition("/")[0], set()).add(gateway)
        return found

    return feeds
