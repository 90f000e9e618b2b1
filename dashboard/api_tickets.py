"""Tickets: the board and their steps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from sqlalchemy import Connection
from starlette.responses import Response

from alarms.tickets import step_ticket
from dashboard import audit
from dashboard.gate import require
from dashboard.models import Page, Ticket, TicketStep, TicketWithEvents
from dashboard.parts import Parts, PartsOf, SignedIn, address_of, answer
from dashboard.problems import Problem
from dashboard.sessions import Session
from dashboard.steps import ticket_for

router = APIRouter(prefix="/api/v1", tags=["tickets"])
Step = Literal[
    "dispatch", "accept", "decline", "arrive", "hold", "resume", "done", "close", "reject", "cancel", "reopen"
]


@router.get("/tickets", response_model=Page[Ticket])
async def tickets(
    parts: PartsOf,
    session: SignedIn,
    view: Literal["open", "closed", "all"] = "open",
    limit: Annotated[int, Query(ge=1, le=500)] = 200,
    cursor: str | None = None,
) -> Response:
    """List tickets, newest first."""
    rows, following = await parts.database.read(
        lambda conn: parts.tickets.page(conn, view=view, limit=limit, cursor=cursor)
    )
    return answer({"items": [_told(parts, session, row) for row in rows], "next": following})


@router.get("/tickets/{ticket_id}", response_model=TicketWithEvents)
async def one_ticket(ticket_id: str, parts: PartsOf, session: SignedIn) -> Response:
    """Return one ticket, by id or number, with its history."""
    row = await parts.database.read(lambda conn: parts.tickets.with_events(conn, ticket_id))
    if row is None:
        raise Problem(404, "ticket.unknown", detail=ticket_id)
    return answer(_told(parts, session, row))


@router.post("/tickets/{ticket_id}/{step}", response_model=TicketWithEvents)
async def take_step(
    ticket_id: str,
    step: Step,
    request: Request,
    parts: PartsOf,
    session: SignedIn,
    body: TicketStep | None = None,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=64)] = None,
) -> Response:
    """Take a step; 403 if the role may not, 409 with a code that says why the ticket is not in a state for it."""
    person = session.person
    require(person, "ticket.step")
    fields = body.model_dump(exclude={"version"}, exclude_none=True) if body else {}
    now_ms = parts.now_ms()

    def work(conn: Connection) -> dict[str, Any] | None:
        known = parts.tickets.by_id_or_number(conn, ticket_id)
        if known is None:
            raise Problem(404, "ticket.unknown", detail=ticket_id)
        row = step_ticket(
            conn,
            known,
            step,
            user=person.name,
            role=person.role,
            now_ms=now_ms,
            version=body.version if body else None,
            idempotency_key=idempotency_key,
            fields=fields,
        )
        audit.record(
            conn,
            "ticket_step",
            now_ms=now_ms,
            user=person.name,
            address=address_of(request),
            target=row["id"],
            detail={"step": step},
        )
        return parts.tickets.with_events(conn, row["id"])

    row = await parts.database.write(work)
    # other processes find the change within a quarter of a second, our own screens now
    parts.hub.wake()
    if row is None:
        raise Problem(404, "ticket.unknown", detail=ticket_id)
    return answer(_told(parts, session, row))


def _told(parts: Parts, session: Session, row: dict[str, Any]) -> dict[str, Any]:
    return ticket_for(row, user=session.person.name, role=session.person.role, now_ms=parts.now_ms())
