"""The other side of the dashboard in tests: what the engine writes, with its own modules, and its local API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, insert

from alarms.accesses import write_events
from alarms.commands import apply_pending
from alarms.feed import Turn
from alarms.judged import Change, JudgedEvent, Transition
from alarms.memory import Memory
from alarms.rules import RuleSet, compile_rules
from alarms.store import occurrence_id, write_transitions
from alarms.templates import load_templates
from alarms.ticket_opening import open_tickets
from dashboard.accounts import hash_password
from ingest.store import check_range
from watchroom.births import BirthStore
from watchroom.clock import utc_ms
from watchroom.database.connect import writing
from watchroom.database.tables import account
from watchroom.errors import StateError
from watchroom.frames import FLAG_HEARTBEAT, Event, Header, encode_samples
from watchroom.journal import FileJournal
from watchroom.local import LocalServer
from watchroom.site import Site

T = TypeVar("T")
EPOCH = 0x0123456789ABCDEF
PASSWORD = "correct horse"
PASSWORD_HASH = hash_password(PASSWORD)
PRESSURE = "WP-01/outlet_pressure"
LOW = "outlet_pressure.low|WP-01|"
FORCED = "door.forced|DR-S1|"
ROLES = ("guard", "leader", "technician", "contractor", "integrator", "manager", "committee", "kiosk", "admin")

SITE = """
site: {id: small-court, name: {zh: 小苑, en: Small Court}, zone: Asia/Shanghai, homes: 12, simulated: true}
places:
  B1:
    kind: building
    name: {zh: 1号楼, en: Building 1}
    floors: {below: 1, above: 6}
    outline: [[0, 0], [9, 0], [9, 9]]
  B1-U1: {kind: unit, in: B1}
  PUMPS: {kind: plant_room, name: {zh: 水泵房, en: Pump house}}
  GATE-S: {kind: gate, name: {zh: 南门, en: South gate}, at: [5, 0]}
plan: {roads: [[[0, 0], [9, 9]]], wall: [[0, 0], [9, 0]]}
"""
EQUIPMENT = """
WP-01:
  type: booster_set
  place: PUMPS
  name: {zh: 水泵 1 组, en: Booster set 1}
  rated: {pressure_mpa: 0.60, pumps: 3}
  serial: A7
DR-S1: {type: door, place: GATE-S, name: {zh: 南门 1 道, en: South gate 1}}
GW-01: {type: gateway, place: PUMPS, name: {zh: 泵房网关, en: Pump house gateway}, gateway: pump-house}
"""
PEOPLE = """
li.wg: {name: {zh: 李卫国, en: Li Weiguo}, role: guard, phone: "13800000000"}
"""


def write_site(folder: Path) -> Path:
    """Write the files of a small compound."""
    folder.mkdir()
    for name, text in (("site", SITE), ("equipment", EQUIPMENT), ("people", PEOPLE)):
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


async def until(what: str, condition: Callable[[], T], *, within_s: float = 10.0) -> T:
    """Return the condition's first true result.

    Raises:
        AssertionError: If it does not come in time; says what was waited for.
    """
    deadline = asyncio.get_running_loop().time() + within_s
    while not (result := condition()):
        assert asyncio.get_running_loop().time() < deadline, f"waited {within_s:g} s in vain for: {what}"
        await asyncio.sleep(0.005)
    return result


class Center:
    """Does to the database, the journal and the local API what the engine does.

    Args:
        site: The site.
        database: Open and migrated.
        data: Data folder.
    """

    def __init__(self, site: Site, database: Engine, data: Path) -> None:
        self.site, self.database, self.data = site, database, data
        self.rules: RuleSet = compile_rules(site, load_templates())
        self.memory = Memory(self.rules)
        self.journal = FileJournal(data / "journal")
        self.births = BirthStore(data / "births")
        self.latest: dict[str, Any] = {
            "keys": [],
            "time_ms": [],
            "value": [],
            "quality": [],
            "gateway": [],
            "is_stale": [],
        }
        self.is_judging = True
        self.is_hanging = False
        self.hung = 0
        self.asked: list[dict[str, Any]] = []
        self.series: dict[str, list[tuple[int, float]]] = {}
        self._seq = 0
        self.operations: dict[str, Any] = {
            "history.range": self._history,
            "signals.latest": self._latest,
            "status": self._status,
            "commands.wake": self._judge_commands,
        }
        self._local = LocalServer(data / "engine.sock", self.operations)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve the local API."""
        started = asyncio.Event()
        task = asyncio.create_task(self._local.run(started))
        await started.wait()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def people(self, *roles: str) -> None:
        """Make an account for each role, named like the role."""
        rows = [
            {
                "name": role,
                "display": role.title(),
                "role": role,
                "password_hash": PASSWORD_HASH,
                "lang": "zh",
                "is_enabled": True,
                "created_ms": 1,
                "failed": 0,
            }
            for role in roles
        ]
        with writing(self.database) as conn:
            conn.execute(insert(account), rows)

    def judge(self, *steps: tuple[str, Change], event_ms: int | None = None, wake: bool = True) -> list[str]:
        """Raise or clear alarms, with their tickets, in one transaction; return the ids of what was raised."""
        now_ms = utc_ms() if event_ms is None else event_ms
        transitions = [self._transition(row, kind, now_ms + i) for i, (row, kind) in enumerate(steps)]
        places = {key: item.place for key, item in self.site.equipment.items()}
        names = {key: {"zh": item.name.zh, "en": item.name.en} for key, item in self.site.equipment.items()}
        with writing(self.database) as conn:
            turn = Turn(conn, self.site.id, now_ms=now_ms)
            _, orders = write_transitions(turn, transitions, places=places, memory=self.memory)
            open_tickets(turn, orders, channels={}, names=names)
            seq = turn.finish()
        if wake:
            self.wake(seq)
        raised = [item for item in transitions if item.kind is Change.RAISE]
        return [occurrence_id(item.row, item.event_ms) for item in raised]

    def raise_(self, row: str = LOW) -> str:
        """Raise one alarm."""
        return self.judge((row, Change.RAISE))[0]

    def clear(self, row: str = LOW) -> None:
        """Clear its condition."""
        self.judge((row, Change.CLEAR), event_ms=utc_ms() + 1)

    def passes(self, *results: str) -> None:
        """Cards at the south gate."""
        now_ms = utc_ms()
        with writing(self.database) as conn:
            turn = Turn(conn, self.site.id, now_ms=now_ms)
            write_events(turn, [self._passage(result, now_ms) for result in results])
            seq = turn.finish()
        self.wake(seq)

    def wake(self, seq: int) -> None:
        """Tell the followers."""
        self._local.wake({"feed_seq": seq})

    def born(self, keys: Sequence[str] = (PRESSURE, "WP-01/flow"), *, schema: int = 1) -> None:
        """A gateway announces its signals."""
        signals = [
            {"alias": i, "key": key, "kind": "measure", "unit": "MPa", "lane": 1, "max_silence_s": 60}
            for i, key in enumerate(keys)
        ]
        self.births.put(
            self.site.id,
            {
                "format": "WR1",
                "epoch": f"{EPOCH:016x}",
                "schema": schema,
                "time_ms": utc_ms(),
                "gateway": {"id": "pump-house", "version": "1", "heartbeat_s": 1},
                "signals": signals,
            },
        )

    def sends(self, values: Mapping[int, float], *, schema: int = 1, time_ms: int | None = None) -> int:
        """A frame of that gateway reaches the journal; an empty one is a heartbeat."""
        now_ms = utc_ms()
        at = now_ms if time_ms is None else time_ms
        self._seq += bool(values)
        header = Header(
            kind="D",
            lane=1,
            flags=0 if values else FLAG_HEARTBEAT,
            epoch=EPOCH,
            seq=self._seq if values else 0,
            base_ms=at,
            complete_ms=at,
            schema=schema,
        )
        n = len(values)
        payload = encode_samples(
            header, alias=list(values), time_ms=[at] * n, value=list(values.values()), quality=[0] * n
        )
        self.journal.append(self.site.id, "pump-house", payload, arrived_ms=now_ms)
        self._local.wake({"journal": self.journal.sync(self.site.id)})
        return at

    def _transition(self, row: str, kind: Change, event_ms: int) -> Transition:
        rule = self.rules.row(row)
        assert rule is not None, row
        level = next(iter(rule.limits), "")
        return Transition(
            row=rule,
            kind=kind,
            event_ms=event_ms,
            arrived_ms=event_ms,
            value=0.41 if rule.limits else 1.0,
            quality=0,
            level=level,
            limit=rule.limits.get(level, float("nan")),
            is_late=False,
            is_simulated=True,
            offset=0,
        )

    def _passage(self, result: str, now_ms: int) -> JudgedEvent:
        self._seq += 1
        fields = {"method": "card", "person": "k:0011", "card": "k:2233", "result": result, "direction": "in"}
        event = Event(
            id=f"e{self._seq}",
            kind="access",
            equipment="DR-S1",
            time_ms=now_ms,
            seen_ms=now_ms,
            fields={**fields, "reader": "R1"},
        )
        return JudgedEvent(
            gateway="gate-south", event=event, is_simulated=True, offset=0, arrived_ms=now_ms, judged_ms=now_ms
        )

    async def _history(self, args: dict[str, Any]) -> Any:
        self.asked.append(args)
        span = {"start_ms": args["start_ms"], "end_ms": args["end_ms"], "buckets": args["buckets"]}
        check_range(args["keys"], **span)
        series = {}
        for key in args["keys"]:
            rows = [(t, v) for t, v in self.series.get(key, []) if args["start_ms"] <= t < args["end_ms"]]
            values = [value for _, value in rows]
            series[key] = {
                "t": [t for t, _ in rows],
                "min": values,
                "max": values,
                "mean": values,
                "last": values,
                "count": [1] * len(rows),
            }
        return {"series": series}

    async def _latest(self, _: dict[str, Any]) -> Any:
        return self.latest

    async def _status(self, _: dict[str, Any]) -> Any:
        if self.is_hanging:
            self.hung += 1
            await asyncio.Event().wait()
        return {"ingest": {}, "alarms": {"last_scan_ms": 0.7}, "history": {}}

    async def _judge_commands(self, _: dict[str, Any]) -> Any:
        if not self.is_judging:
            raise StateError("engine.busy")
        with writing(self.database) as conn:
            turn = Turn(conn, self.site.id, now_ms=utc_ms())
            done = apply_pending(turn, memory=self.memory, shelve_max_ms=480 * 60_000)
            open_tickets(turn, done.orders, channels={}, names={})
            seq = turn.finish()
        self.wake(seq)
        return True
