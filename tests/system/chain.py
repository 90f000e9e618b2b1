"""The whole chain as processes on a small site: broker, gateway, engine, dashboard, and somebody who swipes cards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from tests.brokers import Mosquitto
from tests.system.harm_site import SITE, Field, Reader, field, reading, write_site
from tests.system.room import PASSWORD, Process, Room, free_port, until
from watchroom.errors import LinkError
from watchroom.journal import FileJournal
from watchroom.local import LocalClient


class Chain:
    """Everything between a register or card and the page, each part a process of its own.

    Args:
        stack: Ends everything at the end of the test.
        folder: Of the test.
        data: Data folder of the centre, if not below the folder.
        edge: Data folder of the gateway, if not below the folder.
        dead_port: One machine hangs on a port where nobody listens.
    """

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        *,
        data: Path | None = None,
        edge: Path | None = None,
        dead_port: int | None = None,
    ) -> None:
        self.folder, self.data, self.edge = folder, data or folder / "data", edge or folder / "edge"
        self.broker = Mosquitto(folder)
        self.broker.start()
        stack.callback(self.broker.kill)
        self.field: Field = stack.enter_context(field())
        self.file = write_site(
            folder / "site", modbus_port=self.field.port, mqtt_port=self.broker.port, dead_port=dead_port
        )
        self.reader: Reader = stack.enter_context(reading(self.broker.port))
        self.room = Room(self.data, free_port())
        self.health_port = free_port()
        stack.callback(self.room.close)
        self.serve, self.gateway = self.start_serve(), self.start_gateway()
        stack.callback(lambda: self.serve.close())
        stack.callback(lambda: self.gateway.close())

    @property
    def database(self) -> str:
        """URL of the SQL database."""
        return f"sqlite:///{self.data / 'watchroom.sqlite'}"

    def start_serve(self) -> Process:
        """Start engine and pages."""
        arguments = ["serve", str(self.folder / "site"), "--data", str(self.data), "--port", str(self.room.port)]
        return self.start(arguments, "serve")

    def start_gateway(self) -> Process:
        """Start the gateway."""
        arguments = ["gateway", str(self.file), "--data", str(self.edge), "--health", str(self.health_port)]
        return self.start(arguments, "gateway")

    def start(self, arguments: list[str], name: str) -> Process:
        """Start one command; what it prints is added to NAME.log."""
        environment = {
            "WATCHROOM_MQTT__PORT": str(self.broker.port),
            "WATCHROOM_ADMIN_PASSWORD": PASSWORD,
            "WATCHROOM_LOG": "warning",
        }
        return Process(arguments, environment=environment, output=self.folder / f"{name}.log")

    def goes_on(self, when: str) -> None:
        """Wait until every part does its work: cards are answered, the journal grows, the page answers."""
        answered, end = len(self.reader.answered), self.journal_end()
        until(f"{when}: swipes are answered", lambda: len(self.reader.answered) > answered + 20, within_s=90)
        until(f"{when}: the journal grows", lambda: self.journal_end() > end + 20, within_s=90)
        until(f"{when}: the page answers", self.room.answers, within_s=90)

    def journal_end(self) -> int:
        """Return the end of the journal as another process sees it."""
        return FileJournal(self.data / "journal", read_only=True).end(SITE)

    def status(self) -> dict[str, Any]:
        """Return what the engine says about itself, as soon as it is there to say it."""
        return until("the engine answers", lambda: asyncio.run(_ask_status(self.data / "engine.sock")), within_s=60)

    def gateway_health(self) -> tuple[int, dict[str, Any]]:
        """Return HTTP status and facts of the gateway's health page; (0, {}) while it is away."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.health_port}/health", timeout=5)
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json()

    def told(self, *words: str, by: str) -> Callable[[], bool]:
        """Return a claim: one line of NAME.log holds all the words."""
        path = self.folder / f"{by}.log"

        def claim() -> bool:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
            return any(all(word in line for word in words) for line in lines)

        return claim


async def _ask_status(path: Path) -> dict[str, Any]:
    connected = asyncio.Event()
    client = LocalClient(path, on_wake=lambda _: connected.set())
    running = asyncio.create_task(client.run())
    try:
        async with asyncio.timeout(5):
            await connected.wait()
            found: dict[str, Any] = await client.ask("status")
    except (LinkError, TimeoutError):
        return {}
    else:
        return found
    finally:
        running.cancel()
