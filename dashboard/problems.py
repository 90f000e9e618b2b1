"""Errors over HTTP: RFC 9457 problem details with a code that both languages translate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from watchroom.errors import ContractError, LinkError, RightsError, StateError, StoreError, WatchroomError

MEDIA_TYPE = "application/problem+json"
_STATUS: tuple[tuple[type[WatchroomError], int, str], ...] = (
    (RightsError, 403, "rights.role"),
    (LinkError, 503, "engine.away"),
    (StoreError, 503, "store.away"),
    (ContractError, 400, "request.contract"),
)


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer other than success.

    Args:
        status: HTTP status.
        code: Stable word, for example ``session.locked``.
        detail: For logs and programs; pages show a translation of the code.
        headers: Extra headers of the answer.
        errors: Which fields of the request are wrong.
    """

    def __init__(
        self,
        status: int,
        code: str,
        *,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.errors = dict(headers or {}), list(errors)
        super().__init__(f"{status} {code}: {detail}")

    def response(self) -> Response:
        """Return the answer."""
        body: dict[str, object] = {
            "type": f"urn:watchroom:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors:
            body["errors"] = self.errors
        return Response(json.dumps(body, ensure_ascii=False), self.status, headers=self.headers, media_type=MEDIA_TYPE)


def problem_of(exc: WatchroomError) -> Problem:
    """Return how an error of ours is told over HTTP."""
    if isinstance(exc, StateError):
        status = 404 if exc.code.endswith((".unknown", ".not_found")) else 409
        return Problem(status, exc.code, detail=exc.detail)
    for kind, status, code in _STATUS:
        if isinstance(exc, kind):
            return Problem(status, code, detail=str(exc))
    return Problem(500, "server.error")


def install(app: FastAPI) -> None:
    """Make an application answer every error as a problem."""

    @app.exception_handler(Problem)
    async def own(_request: Request, exc: Problem) -> Response:
        return exc.response()

    @app.exception_handler(WatchroomError)
    async def ours(_request: Request, exc: WatchroomError) -> Response:
        return problem_of(exc).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, exc: RequestValidationError) -> Response:
        # the given value is left out: it may be a password
        errors = [{"at": ".".join(str(part) for part in item["loc"]), "problem": item["msg"]} for item in exc.errors()]
        return Problem(422, "request.invalid", detail=errors[0]["problem"] if errors else "", errors=errors).response()

    @app.exception_handler(HTTPException)
    async def http(_request: Request, exc: HTTPException) -> Response:
        return Problem(exc.status_code, f"http.{exc.status_code}", headers=exc.headers).response()

    @app.exception_handler(DBAPIError)
    async def database(_request: Request, exc: DBAPIError) -> Response:
        return Problem(503, "store.away", detail=type(exc.orig).__name__).response()

    @app.exception_handler(Exception)
    async def bug(_request: Request, _exc: Exception) -> Response:
        return Problem(500, "server.error").response()
