"""The dashboard process: builds its objects, wires them, serves."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI, Request
from sqlalchemy import Engine
from starlette.responses import Response

from alarms.rules import compile_rules
from alarms.templates import load_templates
from dashboard import (
    api_access,
    api_accounts,
    api_alarms,
    api_credentials,
    api_health,
    api_history,
    api_live,
    api_measures,
    api_overlays,
    api_session,
    api_signals,
    api_site,
    api_tickets,
    docs,
    problems,
)
from dashboard.access_rows import AccessRows
from dashboard.alarm_rows import AlarmRows
from dashboard.bodies import BodyLimit
from dashboard.catalog import Catalog
from dashboard.feed import Feed
from dashboard.gate import Gate
from dashboard.headers import SecurityHeaders
from dashboard.live import Hub
from dashboard.models import ProblemBody
from dashboard.parts import Parts
from dashboard.problems import Problem
from dashboard.projection import Projection
from dashboard.protocol import CuttingProtocol
from dashboard.setup import first_account
from dashboard.sql import Database
from dashboard.static import FOLDER, Pages
from dashboard.tail import Tail
from dashboard.ticket_rows import TicketRows
from dashboard.vitals import Vitals
from watchroom import __version__
from watchroom.births import BirthStore
from watchroom.clock import utc_ms
from watchroom.database.connect import migrate, open_database
from watchroom.errors import ConfigError, LinkError, StateError
from watchroom.journal import FileJournal
from watchroom.local import LocalClient
from watchroom.settings import HttpSettings, Settings
from watchroom.site import Site, load_site
from watchroom.threads import share_fairly

log = structlog.get_logger(__name__)

STOP_S = 3
CONSOLES_S = 2.0
PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ProblemBody, "description": "RFC 9457 problem"}}


class Wiring:
    """Everything one dashboard process holds, built in one place; made inside the event loop.

    Args:
        site: The site files.
        settings: Settings of this box.
        database: Open and migrated.
        now_ms: The clock.
        pages: Folder of the built pages.
    """

    def __init__(
        self, site: Site, settings: Settings, *, database: Engine, now_ms: Callable[[], int], pages: Path
    ) -> None:
        templates = load_templates()
        catalog = Catalog(site, templates, ruleset=compile_rules(site, templates))
        self.births = BirthStore(settings.data / "births")
        self.projection = Projection(catalog.signal_keys)
        self.sql = Database(database)
        self.engine = LocalClient(settings.data / "engine.sock", on_wake=self._woken)
        self.tail = Tail(
            site.id,
            FileJournal(settings.data / "journal", read_only=True),
            births=self.births,
            catalog=catalog,
            projection=self.projection,
            now_ms=now_ms,
            on_reset=lambda: self.hub.reset_signals(),
        )
        alarms, tickets, access = (
            AlarmRows(site.id, catalog),
            TicketRows(site.id, catalog),
            AccessRows(site.id, catalog),
        )
        self.vitals = Vitals(
            catalog,
            self.tail,
            projection=self.projection,
            engine=self.engine,
            database=self.sql,
            access=access,
            now_ms=now_ms,
        )
        self.feed = Feed(database, site.id, alarms=alarms, tickets=tickets, access=access)
        built = Pages(pages)
        self.hub = Hub(
            self.feed,
            now_ms=now_ms,
            vital_signs=self.vitals.both,
            index_epoch=lambda: self.projection.epoch,
            build=lambda: built.build,
            on_access=self.vitals.access_changed,
        )
        self.gate = Gate(self.sql, site.id, public_url=settings.public_url, now_ms=now_ms)
        self._connected = asyncio.Event()
        self.parts = Parts(
            site=site,
            settings=settings,
            now_ms=now_ms,
            database=self.sql,
            engine=self.engine,
            catalog=catalog,
            projection=self.projection,
            tail=self.tail,
            vitals=self.vitals,
            alarms=alarms,
            tickets=tickets,
            access=access,
            gate=self.gate,
            hub=self.hub,
            pages=built,
        )
        for birth in self.births.all(site.id):
            self.tail.learn(birth)

    @contextlib.asynccontextmanager
    async def running(self, on_failure: Callable[[BaseException], None]) -> AsyncIterator[None]:
        """Run the tasks of the process around its requests.

        Args:
            on_failure: Called with the error when a task failed; the process should end, for uvicorn would go
                on serving without them.
        """
        tasks: dict[str, Callable[[], Awaitable[None]]] = {
            "engine": self.engine.run,
            "tail": self.tail.run,
            "hub": self.hub.run,
            "latest": self._take_latest,
            "engine-status": self.vitals.follow_engine,
            "consoles": self._tell_consoles,
            "access-count": self.vitals.follow_access,
        }
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(_coroutine(run), name=name) for name, run in tasks.items()]
                yield
                for task in running:
                    task.cancel()
        except BaseExceptionGroup as exc:
            log.exception("part of the dashboard failed")
            on_failure(exc)
            raise
        finally:
            self.gate.close()
            self.feed.close()
            self.sql.close()

    def _woken(self, facts: dict[str, object]) -> None:
        if "feed_seq" in facts:
            self.hub.wake()
        if "journal" in facts:
            self.tail.wake()
        if "connected" in facts:
            self._connected.set()

    async def _tell_consoles(self) -> None:
        """Tell the engine who watches: it judges when nobody does."""
        source = uuid.uuid4().hex
        while True:
            consoles, sounding = self.hub.consoles()
            told = {"source": source, "consoles": consoles, "sounding": sounding}
            with contextlib.suppress(LinkError, StateError):
                await self.engine.ask("consoles.report", CONSOLES_S, **told)
            await asyncio.sleep(CONSOLES_S)

    async def _take_latest(self) -> None:
        """Ask the engine for the newest values whenever it is there again."""
        while True:
            await self._connected.wait()
            self._connected.clear()
            try:
                self.tail.merge(await self.engine.ask("signals.latest"))
            except (LinkError, StateError) as exc:
                log.warning("no newest values from the engine", problem=str(exc))


async def _coroutine(run: Callable[[], Awaitable[None]]) -> None:
    await run()


def build_app(
    site: Site,
    settings: Settings,
    database: Engine,
    *,
    now_ms: Callable[[], int] = utc_ms,
    pages: Path = FOLDER,
    on_failure: Callable[[BaseException], None] = lambda _: None,
) -> FastAPI:
    """Return the application; its tasks run while a server runs its lifespan.

    Args:
        site: The site files.
        settings: Settings of this box.
        database: Open and migrated.
        now_ms: The clock.
        pages: Folder of the built pages; may be missing.
        on_failure: Called when one of its tasks failed: pages would be served that never change again.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        wiring = Wiring(site, settings, database=database, now_ms=now_ms, pages=pages)
        app.state.parts = wiring.parts
        async with wiring.running(on_failure):
            yield

    app = FastAPI(
        title="Watchroom",
        version=__version__,
        description="Sign in with POST /api/v1/session; programs send the token as Authorization: Bearer.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        responses=PROBLEMS,
    )
    problems.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(SecurityHeaders, is_secure=settings.public_url.startswith("https:"))
    for module in (
        api_accounts,
        api_session,
        api_site,
        api_signals,
        api_measures,
        api_overlays,
        api_history,
        api_alarms,
        api_tickets,
        api_access,
        api_credentials,
        api_live,
        api_health,
        docs,
    ):
        app.include_router(module.router)

    @app.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        if request.url.path.startswith("/api/"):
            raise Problem(404, "http.404", detail=request.url.path)
        parts: Parts = request.app.state.parts
        return parts.pages.respond(request)

    return app


async def run_dashboard(folder: Path, settings: Settings) -> None:
    """Serve the pages of one site until SIGTERM or Ctrl-C.

    Raises:
        ConfigError: If a site file or setting is wrong.
        StoreError: If the database is away.
    """
    share_fairly()
    site = load_site(folder)
    check_tls(settings.http)
    settings.data.mkdir(parents=True, exist_ok=True)
    database = open_database(settings.database_url)
    migrate(database)
    if (line := first_account(database, settings, now_ms=utc_ms())) is not None:
        print(line, flush=True)
    failures: list[BaseException] = []

    def failed(exc: BaseException) -> None:
        failures.append(exc)
        server.should_exit = True

    server = uvicorn.Server(server_config(build_app(site, settings, database, on_failure=failed), settings))
    await server.serve()
    if failures:
        raise failures[0]


def check_tls(http: HttpSettings) -> None:
    """Refuse a certificate that cannot be served, before people are sent to https.

    Raises:
        ConfigError: If a file is missing, unreadable, or the key is not the certificate's.
    """
    if http.tls_cert is None:
        if http.tls_key is not None:
            raise ConfigError("a private key needs its certificate (WATCHROOM_HTTP__TLS_CERT)", path=http.tls_key)
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(http.tls_cert, http.tls_key)
    except (OSError, ValueError) as exc:
        key = "WATCHROOM_HTTP__TLS_CERT"
        hint = f"key file: {http.tls_key or 'none set, so the same file must hold it'}"
        raise ConfigError(f"cannot serve this certificate: {exc}", path=http.tls_cert, key=key, hint=hint) from exc


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how the pages are served."""
    http = settings.http
    return uvicorn.Config(
        app,
        host=http.host,
        port=http.port,
        ssl_certfile=http.tls_cert,
        ssl_keyfile=http.tls_key,
        ws=CuttingProtocol,
        # a page is told its messages at once; compressing each costs more than the local network
        ws_per_message_deflate=False,
        ws_max_size=256 * 1024,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_S,
        lifespan="on",
    )
