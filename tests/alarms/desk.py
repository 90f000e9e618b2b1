"""A desk for tests of the life cycle: one engine's transactions with a clock, commands and a look at SQL."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, select

from alarms.commands import outcome_of, submit
from alarms.committer import Committer
from alarms.judged import Judged, Transition
from alarms.rows import RuleRow
from alarms.rules import RuleSet
from alarms.store import broken_alarm_event
from tests.alarms.handmade import SITE, plant
from watchroom.database.connect import reading, writing
from watchroom.database.tables import alarm, alarm_event, alarm_overlay, message, ticket
from watchroom.site import Channel, Site

MINUTE = 60_000


class Desk:
    """One site whose data and operators are the test's."""

    def __init__(
        self,
        database: Engine,
        rows: Sequence[RuleRow],
        *,
        site: Site | None = None,
        gateways: Mapping[str, str] | None = None,
        feeds: Mapping[str, Sequence[str]] | None = None,
        channels: Mapping[str, Channel] | None = None,
    ) -> None:
        self.database, self.now_ms = database, 10_000
        self._site, self._feeds, self._channels = site or plant(), feeds or {}, channels or {}
        self._rules = RuleSet(rows=tuple(rows), gateways=gateways or {}, version="f" * 16)
        self._keys = itertools.count()
        self.start()

    def start(self) -> None:
        """Start the engine (again): what is remembered comes from SQL."""
        self.committer = Committer(
            self._site,
            self.database,
            channels=self._channels,
            now_ms=lambda: self.now_ms,
            ruleset=self._rules,
            feeds=lambda: self._feeds,
        )
        self._offset = self.committer.claim()

    def judge(self, *transitions: Transition) -> None:
        """Commit what the evaluator says."""
        moved = list(transitions)
        for item in moved:
            object.__setattr__(item, "offset", self._offset)
            self._offset += 1
        self.committer.commit(Judged(transitions=moved), end=self._offset)

    def wait(self, span_ms: int) -> None:
        """Let time pass, and the housekeeping look."""
        self.now_ms += span_ms
        self.committer.pass_time()

    def ask(self, kind: str, target: str, *, user: str = "li", site: str | None = None, **args: Any) -> str:
        """Give a command and return its outcome."""
        with writing(self.database) as connection:
            command_id = submit(
                connection,
                kind,
                target,
                user=user,
                args=args,
                idempotency_key=f"{id(self)}-{next(self._keys)}",
                now_ms=self.now_ms,
                site=site,
            )
        self.committer.apply_commands()
        with reading(self.database) as connection:
            outcome = outcome_of(connection, command_id)
        assert outcome is not None
        return outcome.code

    def alarms(self) -> list[dict[str, Any]]:
        """Return the live alarms, oldest first."""
        return self._rows(select(alarm).where(alarm.c.is_live).order_by(alarm.c.raised_ms, alarm.c.id))

    def states(self) -> list[str]:
        """Return the states of the live alarms, oldest first."""
        return [row["state"] for row in self.alarms()]

    def events(self) -> list[tuple[str, bool, str]]:
        """Return (kind, accepted, state afterwards) of the whole journal."""
        rows = self._rows(select(alarm_event).order_by(alarm_event.c.seq))
        return [(row["kind"], row["is_accepted"], row["state"]) for row in rows]

    def event(self, kind: str) -> dict[str, Any]:
        """Return the newest event of a kind."""
        query = select(alarm_event).where(alarm_event.c.kind == kind).order_by(alarm_event.c.seq.desc()).limit(1)
        return self._rows(query)[0]

    def overlays(self) -> list[dict[str, Any]]:
        """Return table ``alarm_overlay``."""
        return self._rows(select(alarm_overlay).order_by(alarm_overlay.c.row))

    def tickets(self) -> list[dict[str, Any]]:
        """Return the tickets by number."""
        return self._rows(select(ticket).order_by(ticket.c.number))

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages, oldest first."""
        return self._rows(select(message).order_by(message.c.created_ms))

    def is_whole(self) -> bool:
        """Return whether the hash chain of the journal holds."""
        with reading(self.database) as connection:
            return broken_alarm_event(connection, SITE) is None

    def _rows(self, query: Any) -> list[dict[str, Any]]:
        with reading(self.database) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]
