"""Which steps of a ticket a person is offered. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alarms.tickets import allowed_steps
from dashboard.rights import may

INTERNAL = frozenset({"held_from"})
"""Keys that the decision needs and nobody else."""


def steps_for(ticket: Mapping[str, Any], *, user: str, role: str, now_ms: int) -> list[str]:
    """Return what this person may do next with a ticket read by `dashboard.ticket_rows`."""
    if not may(role, "ticket.step"):
        return []
    return allowed_steps(ticket, user=user, role=role, now_ms=now_ms)


def ticket_for(ticket: Mapping[str, Any], *, user: str, role: str, now_ms: int) -> dict[str, Any]:
    """Return a ticket as one person is told it."""
    told = {key: value for key, value in ticket.items() if key not in INTERNAL}
    return told | {"steps": steps_for(ticket, user=user, role=role, now_ms=now_ms)}
