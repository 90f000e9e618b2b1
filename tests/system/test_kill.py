"""Kill -9 of every part, ten times each, under load: nothing committed is lost, nothing is judged or written twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Mosquitto
from tests.system.evidence import (
    Key,
    check_accesses,
    check_actions,
    check_alarms,
    check_history,
    check_journal,
    check_tickets,
    journal_records,
    judged_offline,
    numbered,
    outbox_records,
)
from tests.system.harm_site import GATEWAY, SITE, Field, Operator, Reader, field, reading, write_site
from tests.system.room import PASSWORD, Process, Room, children_of, free_port, until
from watchroom.births import BirthStore
from watchroom.errors import LinkError
from watchroom.journal import FileJournal
from watchroom.local import LocalClient

pytestmark = pytest.mark.slow
KILLS = 10
PARTS = ("gateway", "engine", "dashboard", "broker")
KILLS_A_LIFE = 3
"""Kills of each part before ``serve`` is ended in good order: its pauses between restarts grow with each."""


class Harm:
    """The whole chain as processes, and the one who kills them.

    Args:
        stack: Ends everything at the end of the test.
        folder: Of the test.
    """

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder, self.data, self.edge = folder, folder / "data", folder / "edge"
        self.broker = Mosquitto(folder)
        self.broker.start()
        stack.callback(self.broker.kill)
        self.field: Field = stack.enter_context(field())
        self.file = write_site(folder / "site", modbus_port=self.field.port, mqtt_port=self.broker.port)
        self.reader: Reader = stack.enter_context(reading(self.broker.port))
        self.room = Room(self.data, free_port())
        stack.callback(self.room.close)
        self.serve, self.gateway = self.start_serve(), self.start_gateway()
        stack.callback(lambda: self.serve.close())
        stack.callback(lambda: self.gateway.close())
        self.committed: dict[Key, bytes] = {}
        self.kills = dict.fromkeys(PARTS, 0)
        self._ends = 0

    @property
    def database(self) -> str:
        """URL of the SQL database."""
        return f"sqlite:///{self.data / 'watchroom.sqlite'}"

    def start_serve(self) -> Process:
        """Start engine and pages."""
        arguments = ["serve", str(self.folder / "site"), "--data", str(self.data), "--port", str(self.room.port)]
        return self._start(arguments, "serve")

    def start_gateway(self) -> Process:
        """Start the gateway."""
        return self._start(["gateway", str(self.file), "--data", str(self.edge)], "gateway")

    def _start(self, arguments: list[str], name: str) -> Process:
        environment = {
            "WATCHROOM_MQTT__PORT": str(self.broker.port),
            "WATCHROOM_ADMIN_PASSWORD": PASSWORD,
            "WATCHROOM_LOG": "warning",
        }
        return Process(arguments, environment=environment, output=self.folder / f"{name}.log")

    def kill(self, part: str) -> None:
        """Kill -9 one part and bring it back, as its supervisor or init system would."""
        self.kills[part] += 1
        if part == "gateway":
            self.gateway.kill()
            self.gateway.close()
            self.committed |= outbox_records(self.edge, GATEWAY)
            self.gateway = self.start_gateway()
        elif part == "broker":
            self.broker.kill(wipe=True)
            self.broker.start()
        else:
            pid = until(f"{part} runs", lambda: children_of(self.serve.pid).get(part))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid or 0, signal.SIGKILL)

    def end_serve_well(self) -> None:
        """Ctrl-C, and start again."""
        assert self.serve.interrupt() == 0
        self.serve.close()
        self.serve = self.start_serve()

    def progress(self, round_: str) -> None:
        """Wait until every part does its work again: proof that the round has not stopped anything for good."""
        answered, end = len(self.reader.answered), self.journal_end()
        until(f"{round_}: swipes are answered", lambda: len(self.reader.answered) > answered + 20, within_s=40)
        until(f"{round_}: the journal grows", lambda: self.journal_end() > end + 20, within_s=40)
        until(f"{round_}: the page answers", self.room.answers, within_s=40)

    def journal_end(self) -> int:
        """Return the end of the journal as another process sees it."""
        return FileJournal(self.data / "journal", read_only=True).end(SITE)

    def status(self) -> dict[str, Any]:
        """Return what the engine says about itself; empty while it is away."""
        return asyncio.run(_ask_status(self.data / "engine.sock"))


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


@pytest.fixture
def harm(tmp_path: Path) -> Iterator[Harm]:
    with ExitStack() as stack:
        yield Harm(stack, tmp_path)


def _rounds(chance: random.Random) -> Iterator[list[list[str]]]:
    """Yield who is killed in each round: every part once, some of them at the same moment."""
    for _ in range(KILLS):
        parts = chance.sample(PARTS, len(PARTS))
        groups: list[list[str]] = []
        for part in parts:
            if groups and chance.random() < 0.3:
                groups[-1].append(part)
            else:
                groups.append([part])
        yield groups


def _moment(harm: Harm, chance: random.Random) -> Callable[[], bool]:
    """Return a claim that becomes true at a random moment under load: so many more swipes, up to two seconds."""
    target = harm.reader.swiped + chance.randint(1, 60)
    return lambda: harm.reader.swiped >= target


def _destroy(harm: Harm, chance: random.Random) -> None:
    for number, groups in enumerate(_rounds(chance), start=1):
        for group in groups:
            until("the moment has come", _moment(harm, chance))
            for part in group:
                harm.kill(part)
        harm.progress(f"round {number}")
        if number % KILLS_A_LIFE == 0:
            harm.end_serve_well()


def _quiesce(harm: Harm) -> None:
    """End the load, let everything arrive and be judged, end the processes."""
    harm.field.calm(freeze=True)
    harm.reader.rest()
    until("the reader has all its answers", lambda: harm.reader.waiting == 0, within_s=40)
    harm.kill("gateway")
    wanted = harm.committed.keys()
    until(
        "everything committed is in the journal",
        lambda: wanted <= {key for key, _ in numbered(journal_records(harm.data, SITE))},
        within_s=60,
        every_s=0.5,
    )
    assert harm.gateway.interrupt() in {0, 130}
    end = harm.journal_end()
    until("all is judged and stored", lambda: _has_passed(harm.status(), end), within_s=40, every_s=0.2)


def _has_passed(status: dict[str, Any], end: int) -> bool:
    return bool(status) and status["alarms"]["committed"] >= end and status["history"]["position"] >= end


def test_ten_kills_of_each_part_under_load(harm: Harm) -> None:
    """Whatever is killed, whenever: all that was committed is stored and judged once, and no ticket is there twice."""
    harm.room.wait_ready(within_s=60)
    operator = Operator(Room(harm.data, harm.room.port))
    harm.progress("before")
    operator.start()
    try:
        _destroy(harm, random.Random(os.environ.get("WATCHROOM_TEST_SEED", "20261122")))
    finally:
        operator.stop()
    _quiesce(harm)
    _check_api(harm)
    assert harm.serve.interrupt() == 0
    assert {part: harm.kills[part] >= KILLS for part in PARTS} == dict.fromkeys(PARTS, True)
    _check_everything(harm, operator)


def _check_api(harm: Harm) -> None:
    harm.room.sign_in()
    assert harm.room.get("/gateways")["items"][0]["id"] == GATEWAY
    assert harm.room.get("/signals/M-01/v1/history", start=0, end=4_000_000_000_000, buckets=10)["count"]
    assert harm.room.items("/tickets", view="all")
    assert len({item["seq"] for item in harm.room.items("/access-events", limit=200)}) > 100


def _check_everything(harm: Harm, operator: Operator) -> None:
    records = journal_records(harm.data, SITE)
    assert len({key[:2] for key in harm.committed}) == 1, "the outbox has kept its epoch"
    assert len(harm.committed) > 50
    check_journal(records, harm.committed)
    samples = check_history(harm.data, SITE, records)
    check_accesses(harm.database, SITE, {f"cards:{name}" for name in harm.reader.answered}, records)
    assert len(harm.reader.answered) == harm.reader.swiped
    judged = judged_offline(harm.folder / "site", BirthStore(harm.data / "births"), records)
    alarms = check_alarms(harm.database, SITE, judged, records=records)
    tickets = check_tickets(harm.database, SITE)
    check_actions(harm.database, acked=operator.acked, cancelled=operator.cancelled)
    print(
        f"{samples} samples, {harm.reader.swiped} swipes, {alarms} alarms, {tickets} tickets,"
        f" {len(operator.acked)} acknowledged, {len(operator.cancelled)} cancelled, {operator.lost} answers lost"
    )
    assert min(samples // 1000, alarms // 20, tickets // 4, len(operator.acked) // 4) > 0, "there was no load"
