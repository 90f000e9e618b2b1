"""The engine's transactions: what was judged, what operators asked and what time did, each whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import structlog
from sqlalchemy import Engine, bindparam, select

from alarms import commands
from alarms.accesses import write_events
from alarms.feed import Turn, trim_changes
from alarms.flood import Flood
from alarms.housekeeping import expire_shelves, expiring, is_timer_due, run_timers
from alarms.judged import Change, Judged, Transition
from alarms.lifecycle import Step
from alarms.memory import Feeds, Memory, first_up_groups
from alarms.messages import MessageCaps
from alarms.retention import Keep, trim_old
from alarms.rules import RuleSet
from alarms.store import RETIRED, AlarmRows, occurrence_id, write_transitions
from alarms.ticket_opening import CHUNK, TicketOrder, open_tickets
from alarms.tickets import OPEN_STATES, SYSTEM, is_time_due, pass_time
from watchroom.database.connect import reading, writing
from watchroom.database.tables import alarm, command, ticket, ticket_alarm
from watchroom.errors import StateError
from watchroom.site import Channel, Site

log = structlog.get_logger(__name__)

FENCED: Final = "engine.fenced"
MINUTE_MS: Final = 60_000
_OPEN_TICKETS: Final = (
    select(ticket_alarm.c.ticket_id)
    .join(ticket, ticket.c.id == ticket_alarm.c.ticket_id)
    .where(ticket_alarm.c.alarm_id.in_(bindparam("wanted", expanding=True)), ticket.c.state.in_(OPEN_STATES))
)


class Committer:
    """Writes to SQL for one engine, as long as no younger engine has claimed the site.

    Every method runs one transaction. StoreError means: try again later; after an error during the commit itself
    that is safe too, because the position tells whether it had been done.

    Args:
        site: The site.
        database: The open database.
        channels: Channels that get a message for each new ticket.
        now_ms: The wall clock.
        ruleset: The rules in force: which alarms stand for others.
        feeds: Returns equipment id -> gateways that bring its signals.
    """

    def __init__(
        self,
        site: Site,
        database: Engine,
        *,
        channels: Mapping[str, Channel],
        now_ms: Callable[[], int],
        ruleset: RuleSet | None = None,
        feeds: Feeds = dict,
    ) -> None:
        self._site, self._database, self._channels, self._now_ms = site, database, channels, now_ms
        self._places = {key: item.place for key, item in site.equipment.items()}
        self._names = {key: {"zh": item.name.zh, "en": item.name.en} for key, item in site.equipment.items()}
        self._ruleset, self._feeds, self._groups = ruleset, feeds, first_up_groups(site)
        self._memory: Memory | None = None
        self._caps = MessageCaps()
        self.generation = 0

    def claim(self) -> int:
        """Make this the only engine of the site and return the next journal offset to judge."""
        with writing(self._database) as connection:
            turn = Turn(connection, self._site.id, now_ms=self._now_ms())
            turn.generation += 1
            turn.finish()
        self.generation = turn.generation
        return turn.committed

    def rewind(self, committed: int) -> None:
        """Set the position back, because the journal has begun anew."""
        with self._turn() as turn:
            turn.committed = committed

    def commit(self, judged: Judged, *, end: int) -> int:
        """Write everything judged before offset end; return the last sequence of the change feed.

        Raises:
            StateError: ``engine.fenced`` when another engine has taken over.
        """
        with self._turn() as turn:
            # an earlier try may have been committed although its answer was lost
            transitions = [item for item in judged.transitions if item.offset >= turn.committed]
            if transitions:
                self._write(turn, transitions)
            if judged.events:
                write_events(turn, judged.events)
            turn.committed = max(end, turn.committed)
        return turn.feed_seq

    def apply_commands(self) -> tuple[int, int]:
        """Apply what operators asked; return (how many, last sequence of the change feed)."""
        if not self._asked():
            return 0, 0
        with self._turn() as turn:
            shelve_max_ms = self._site.info.shelve_max_min * MINUTE_MS
            memory = self._remembered(turn)
            done = commands.apply_pending(turn, memory=memory, places=self._places, shelve_max_ms=shelve_max_ms)
            _touch_tickets(turn, done.alarms)
            self._open(turn, done.orders)
        return done.count, turn.feed_seq

    def pass_time(self, judged_ms: int | None = None) -> int:
        """Do what time has brought to alarms and tickets.

        Args:
            judged_ms: Time up to which the journal has been judged, None for up to now.

        Returns:
            The last sequence of the change feed, 0 if nothing was due.
        """
        now_ms = self._now_ms()
        upto_ms = now_ms if judged_ms is None else min(now_ms, judged_ms)
        with reading(self._database) as connection:
            is_ticket_due = is_time_due(connection, self._site.id, now_ms=now_ms)
            is_alarm_due = is_timer_due(connection, self._site.id, now_ms=now_ms)
        is_alarm_due = is_alarm_due or (self._memory is not None and bool(expiring(self._memory, upto_ms=upto_ms)))
        if not is_ticket_due and not is_alarm_due:
            return 0
        with self._turn() as turn:
            if is_ticket_due:
                pass_time(turn)
            if is_alarm_due:
                rows = run_timers(
                    turn,
                    memory=self._remembered(turn),
                    places=self._places,
                    channels=self._channels,
                    names=self._names,
                    upto_ms=upto_ms,
                )
                _touch_tickets(turn, rows.write())
                self._open(turn, rows.orders)
        return turn.feed_seq

    def flood(self) -> dict[str, int | bool | None]:
        """Return whether the console is flooded and by how much; from any thread."""
        memory = self._memory
        return Flood().facts(0) if memory is None else memory.flood.facts(self._now_ms())

    def trim(self, keep: Keep) -> None:
        """Drop what no screen asks for any more, and a part of what is older than it is kept."""
        with self._turn() as turn:
            trim_changes(turn)
            dropped = trim_old(turn, keep)
        if dropped:
            log.info("old records dropped", rows=dropped)

    def settle(self, ruleset: RuleSet, last: Mapping[str, Transition]) -> int:
        """Bring SQL and the evaluator together after a replay; return how many alarms that changed.

        An alarm whose rule is gone clears with reason ``retired``. What the replay ended with and SQL does not
        show, because the rules were changed or the database comes from a backup, is raised or cleared now.

        Args:
            ruleset: The rules in force.
            last: Row key -> the last transition that the replay suppressed.
        """
        keys = {row.key for row in ruleset.rows}
        self._ruleset, self._memory = ruleset, None
        with self._turn() as turn:
            query = select(alarm.c.row).where(alarm.c.site == turn.site, alarm.c.is_live, alarm.c.is_active)
            active = set(turn.connection.execute(query).scalars())
            memory = self._remembered(turn)
            gone = (active | set(memory.overlays)) - keys
            due = [item for item in last.values() if not item.is_late and _is_active(item) != (item.row.key in active)]
            ids = [occurrence_id(item.row, item.event_ms) for item in due]
            mine = gone | {item.row.key for item in due}
            rows = AlarmRows(turn, mine, ids=ids, places=self._places, memory=memory)
            for key in sorted(gone):
                current = rows.live(key)
                if current is not None and current["is_active"]:
                    rows.act(current, Step.CLEAR, user=SYSTEM, comment=None, at_ms=turn.now_ms, reason=RETIRED)
                rows.covers.clear_all(key, at_ms=turn.now_ms)
            for item in due:
                rows.apply(replace(item, kind=Change.RAISE) if _is_active(item) else item)
            changed = rows.write()
            _touch_tickets(turn, changed)
            self._open(turn, rows.orders)
        return len(changed)

    def _write(self, turn: Turn, transitions: Sequence[Transition]) -> None:
        """Write transitions; a shelf that ends between two of them ends between them."""
        memory = self._remembered(turn)
        if any(item.row.health and item.kind is Change.RAISE for item in transitions):
            memory.look_at_feeds()
        while transitions:
            ends_ms = memory.next_expiry_ms()
            cut = len(transitions)
            if ends_ms is not None:
                cut = next((i for i, item in enumerate(transitions) if item.arrived_ms >= ends_ms), cut)
            if cut:
                ids, orders = write_transitions(turn, transitions[:cut], places=self._places, memory=memory)
                _touch_tickets(turn, ids)
                self._open(turn, orders)
            transitions = transitions[cut:]
            if transitions and ends_ms is not None:
                rows = AlarmRows(turn, expiring(memory, upto_ms=ends_ms), places=self._places, memory=memory)
                expire_shelves(rows, upto_ms=ends_ms)
                _touch_tickets(turn, rows.write())
                self._open(turn, rows.orders)

    def _open(self, turn: Turn, orders: Sequence[TicketOrder]) -> None:
        open_tickets(turn, orders, channels=self._channels, names=self._names, caps=self._caps)

    def _remembered(self, turn: Turn) -> Memory:
        if self._memory is None:
            self._memory = Memory.load(
                turn.connection,
                turn.site,
                ruleset=self._ruleset,
                feeds=self._feeds,
                groups=self._groups,
                now_ms=turn.now_ms,
            )
        return self._memory

    def _asked(self) -> bool:
        query = select(command.c.id).where(command.c.site == self._site.id, command.c.outcome.is_(None)).limit(1)
        with reading(self._database) as connection:
            return connection.execute(query).first() is not None

    @contextmanager
    def _turn(self) -> Iterator[Turn]:
        try:
            with writing(self._database) as connection:
                turn = Turn(connection, self._site.id, now_ms=self._now_ms())
                if turn.generation != self.generation:
                    raise StateError(FENCED, f"generation {turn.generation} has taken over from {self.generation}")
                yield turn
                turn.finish()
        except BaseException:
            # what was remembered may be more than what was kept
            self._memory = None
            raise


def _is_active(transition: Transition) -> bool:
    return transition.kind is not Change.CLEAR


def _touch_tickets(turn: Turn, alarms: list[str]) -> None:
    """Tell the screens about open tickets that show these alarms' states."""
    for start in range(0, len(alarms), CHUNK):
        part = {"wanted": alarms[start : start + CHUNK]}
        for ticket_id in turn.connection.execute(_OPEN_TICKETS, part).scalars():
            turn.changed("ticket", ticket_id)
