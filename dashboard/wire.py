"""JSON as it goes out, and pieces of it that many receivers share. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.accounts import Person
from dashboard.steps import INTERNAL, steps_for


def dumps(value: object) -> str:
    """Return compact JSON; NaN is an error, not something that browsers choke on."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class TicketText:
    """One ticket, encoded once for everybody but for the steps, which depend on who asks."""

    __slots__ = ("_front", "_ticket")

    def __init__(self, ticket: Mapping[str, Any]) -> None:
        self._ticket = ticket
        self._front = dumps({key: value for key, value in ticket.items() if key not in INTERNAL})[:-1]

    def text(self, person: Person, now_ms: int) -> str:
        """Return the JSON for one person."""
        steps = steps_for(self._ticket, user=person.name, role=person.role, now_ms=now_ms)
        return f'{self._front},"steps":{dumps(steps)}}}'


@dataclass(frozen=True, slots=True)
class Parcel:
    """Alarms, tickets and access events on their way to the screens.

    Attributes:
        seq: The change feed up to here is in it.
        prev: It continues from here.
        has_access: Whether access events are among them.
    """

    seq: int
    prev: int
    alarms: str
    tickets: Sequence[TicketText]
    access: str
    has_access: bool = False

    def text(self, type_: str, person: Person, *, server_ms: int, extra: str = "") -> str:
        """Return the message for one person; ``extra`` is JSON text that begins with a comma."""
        tickets = ",".join(ticket.text(person, server_ms) for ticket in self.tickets)
        return (
            f'{{"type":"{type_}","seq":{self.seq},"prev":{self.prev},"server_ms":{server_ms},'
            f'"alarms":{self.alarms},"tickets":[{tickets}],"access":{self.access}{extra}}}'
        )


def parcel(
    alarms: Iterable[Mapping[str, Any]],
    tickets: Iterable[Mapping[str, Any]],
    access: Sequence[Mapping[str, Any]],
    *,
    seq: int,
    prev: int,
) -> Parcel:
    """Return a parcel of these objects."""
    return Parcel(
        seq=seq,
        prev=prev,
        alarms=dumps(list(alarms)),
        tickets=[TicketText(ticket) for ticket in tickets],
        access=dumps(list(access)),
        has_access=bool(access),
    )
