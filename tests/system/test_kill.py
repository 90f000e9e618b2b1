"""Kill -9 of every part, ten times each, under load: nothing committed is lost, nothing is judged or written twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.system.chain import Chain
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
from tests.system.harm_site import GATEWAY, SITE, Operator
from tests.system.room import Room, children_of, until
from watchroom.births import BirthStore

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("WATCHROOM_TEST_KILLS", "10"))
"""Of each part; `make chaos` asks for more."""
PARTS = ("gateway", "engine", "dashboard", "broker")
KILLS_A_LIFE = 3
"""Kills of each part before ``serve`` is ended in good order: its pauses between restarts grow with each."""


class Harm(Chain):
    """The chain, and the one who kills its parts."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        super().__init__(stack, folder)
        self.committed: dict[Key, bytes] = {}
        self.kills = dict.fromkeys(PARTS, 0)

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
    target = harm.reader.swiped + chance.randint(1, 30)
    return lambda: harm.reader.swiped >= target


def _destroy(harm: Harm, chance: random.Random) -> None:
    for number, groups in enumerate(_rounds(chance), start=1):
        for group in groups:
            until("the moment has come", _moment(harm, chance))
            for part in group:
                harm.kill(part)
        harm.goes_on(f"round {number}")
        if number % KILLS_A_LIFE == 0:
            harm.end_serve_well()


def _quiesce(harm: Harm) -> None:
    """End the load, let everything arrive and be judged, end the processes."""
    harm.field.calm(freeze=True)
    harm.reader.rest()
    until("the reader has all its answers", lambda: harm.reader.waiting == 0, within_s=90)
    harm.kill("gateway")
    wanted = harm.committed.keys()
    until(
        "everything committed is in the journal",
        lambda: wanted <= {key for key, _ in numbered(journal_records(harm.data, SITE))},
        within_s=90,
        every_s=0.5,
    )
    until("the gateway is well", lambda: harm.gateway_health()[0] == 200)
    assert harm.gateway.interrupt() == 0
    end = harm.journal_end()
    until("all is judged and stored", lambda: _has_passed(harm.status(), end), within_s=90, every_s=0.2)


def _has_passed(status: dict[str, Any], end: int) -> bool:
    return bool(status) and status["alarms"]["committed"] >= end and status["history"]["position"] >= end


def test_ten_kills_of_each_part_under_load(harm: Harm) -> None:
    """Whatever is killed, whenever: all that was committed is stored and judged once, and no ticket is there twice."""
    harm.room.wait_ready(within_s=60)
    operator = Operator(Room(harm.data, harm.room.port))
    harm.goes_on("before")
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
