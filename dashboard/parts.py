"""What the handlers of requests share; built in `dashboard.app`, found through the request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.requests import HTTPConnection
from starlette.responses import Response

from dashboard.access_rows import AccessRows
from dashboard.alarm_rows import AlarmRows
from dashboard.catalog import Catalog
from dashboard.gate import Gate
from dashboard.live import Hub
from dashboard.projection import Projection
from dashboard.sessions import Session
from dashboard.sql import Database
from dashboard.static import Pages
from dashboard.tail import Tail
from dashboard.ticket_rows import TicketRows
from dashboard.vitals import Vitals
from dashboard.wire import dumps
from watchroom.local import LocalClient
from watchroom.settings import Settings
from watchroom.site import Site


@dataclass(slots=True, kw_only=True)
class Parts:
    """The objects of one dashboard process."""

    site: Site
    settings: Settings
    now_ms: Callable[[], int]
    database: Database
    engine: LocalClient
    catalog: Catalog
    projection: Projection
    tail: Tail
    vitals: Vitals
    alarms: AlarmRows
    tickets: TicketRows
    access: AccessRows
    gate: Gate
    hub: Hub
    pages: Pages


def parts_of(connection: HTTPConnection) -> Parts:
    """Return the parts of the application that a request came to."""
    parts: Parts = connection.app.state.parts
    return parts


async def signed_in(request: Request) -> Session:
    """Return the session of a request.

    Raises:
        Problem: 401 or 403, see `Gate.recognise`.
    """
    return await parts_of(request).gate.recognise(request.headers, request.cookies, method=request.method)


def address_of(connection: HTTPConnection) -> str:
    """Return where a request came from, for the audit log."""
    return connection.client.host if connection.client else ""


def answer(value: object, status: int = 200) -> Response:
    """Return a JSON answer that was made by us and needs no second check of its shape."""
    return Response(dumps(value), status, media_type="application/json")


PartsOf = Annotated[Parts, Depends(parts_of)]
SignedIn = Annotated[Session, Depends(signed_in)]
