"""The engine's transactions: what was judged, what operators asked and what time did, each whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from sqlalchemy import Engine, bindparam, select

from alarms import commands
from alarms.accesses import write_events
from alarms.feed import Turn, trim_changes
from alarms.judged import Change, Judged, Transition
from alarms.lifecycle import Step
from alarms.rules import RuleSet
from alarms.store import RETIRED, AlarmRows, occurrence_id, write_transitions
from alarms.ticket_opening import CHUNK, open_tickets
from alarms.tickets import OPEN_STATES, SYSTEM, is_time_due, pass_time
from watchroom.database.connect import reading, writing
from watchroom.database.tables import alarm, command, ticket, ticket_alarm
from watchroom.errors import StateError
from watchroom.site import Channel, Site

FENCED: Final = "engine.fenced"
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
    """

    def __init__(
        self, site: Site, database: Engine, *, channels: Mapping[str, Channel], now_ms: Callable[[], int]
    ) -> None:
        self._site, self._database, self._channels, self._now_ms = site, database, channels, now_ms
        self._places = {key: item.place for key, item in site.equipment.items()}
        self._names = {key: {"zh": item.name.zh, "en": item.name.en} for key, item in site.equipment.items()}
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
                ids, orders = write_transitions(turn, transitions, places=self._places)
                _touch_tickets(turn, ids)
                open_tickets(turn, orders, channels=self._channels, names=self._names)
            if judged.events:
                write_events(turn, judged.events)
            turn.committed = max(end, turn.committed)
        return turn.feed_seq

    def apply_commands(self) -> tuple[int, int]:
        """Apply what operators asked; return (how many, last sequence of the change feed)."""
        if not self._asked():
            return 0, 0
        with self._turn() as turn:
            ids, count = commands.apply_pending(turn)
            _touch_tickets(turn, ids)
        return count, turn.feed_seq

    def pass_time(self) -> int:
        """Do what time has brought to the tickets; return the last sequence of the change feed, 0 if nothing."""
        with reading(self._database) as connection:
            if not is_time_due(connection, self._site.id, now_ms=self._now_ms()):
                return 0
        with self._turn() as turn:
            pass_time(turn)
        return turn.feed_seq

    def trim(self) -> None:
        """Drop what no screen asks for any more."""
        with self._turn() as turn:
            trim_changes(turn)

    def settle(self, ruleset: RuleSet, last: Mapping[str, Transition]) -> int:
        """Bring SQL and the evaluator together after a replay; return how many alarms that changed.

        An alarm whose rule is gone clears with reason ``retired``. What the replay ended with and SQL does not
        show, because the rules were changed or the database comes from a backup, is raised or cleared now.

        Args:
            ruleset: The rules in force.
            last: Row key -> the last transition that the replay suppressed.
        """
        keys = {row.key for row in ruleset.rows}
        with self._turn() as turn:
            query = select(alarm.c.row).where(alarm.c.site == turn.site, alarm.c.is_live, alarm.c.is_active)
            active = set(turn.connection.execute(query).scalars())
            gone = active - keys
            due = [item for item in last.values() if not item.is_late and _is_active(item) != (item.row.key in active)]
            ids = [occurrence_id(item.row, item.event_ms) for item in due]
            rows = AlarmRows(turn, gone | {item.row.key for item in due}, ids=ids, places=self._places)
            for key in sorted(gone):
                current = rows.live(key)
                if current is not None:
                    rows.act(current, Step.CLEAR, user=SYSTEM, comment=None, at_ms=turn.now_ms, reason=RETIRED)
            for item in due:
                rows.apply(replace(item, kind=Change.RAISE) if _is_active(item) else item)
            changed = rows.write()
            _touch_tickets(turn, changed)
            open_tickets(turn, rows.orders, channels=self._channels, names=self._names)
        return len(changed)

    def _asked(self) -> bool:
        query = select(command.c.id).where(command.c.site == self._site.id, command.c.outcome.is_(None)).limit(1)
        with reading(self._database) as connection:
            return connection.execute(query).first() is not None

    @contextmanager
    def _turn(self) -> Iterator[Turn]:
        with writing(self._database) as connection:
            turn = Turn(connection, self._site.id, now_ms=self._now_ms())
            if turn.generation != self.generation:
                raise StateError(FENCED, f"generation {turn.generation} has taken over from {self.generation}")
            yield turn
            turn.finish()


def _is_active(transition: Transition) -> bool:
    return transition.kind is not Change.CLEAR


def _touch_tickets(turn: Turn, alarms: list[str]) -> None:
    """Tell the screens about open tickets that show these alarms' states."""
    for start in range(0, len(alarms), CHUNK):
        part = {"wanted": alarms[start : start + CHUNK]}
        for ticket_id in turn.connection.execute(_OPEN_TICKETS, part).scalars():
            turn.changed("ticket", ticket_id)
