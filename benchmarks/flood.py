"""A flood: 20,000 alarms at once, from the last sample in the journal to the whole list over HTTP.

One process does what engine and dashboard do in two, on the same cores: real frames, the evaluator, SQL (SQLite with
its full synchronisation), tickets with the storm's cap, then ``GET /alarms?view=brief`` until all are listed.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import httpx
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, func, insert, select

from alarms.engine import AlarmEngine
from alarms.rows import RuleRow
from alarms.rules import RuleSet
from alarms.templates import Sla, TicketPolicy
from benchmarks.figures import Figure, report
from dashboard.accounts import hash_password
from dashboard.app import build_app
from watchroom.births import Birth, BirthStore
from watchroom.clock import utc_ms
from watchroom.database.connect import migrate, open_database, reading, writing
from watchroom.database.tables import account, alarm, ticket
from watchroom.disk import RealDisk
from watchroom.frames import FLAG_SNAPSHOT, Header, encode_samples
from watchroom.journal import FileJournal
from watchroom.settings import Settings
from watchroom.signals import Kind, Lane, SignalSpec
from watchroom.site import Equipment, Place, Plan, Site, SiteInfo
from watchroom.yamlfile import Text

SITE: Final = "flood"
GATEWAYS, EQUIPMENT, SIGNALS = 20, 100, 10
ALARMS: Final = GATEWAYS * EQUIPMENT * SIGNALS
EPOCH: Final = 7
PASSWORD: Final = "a long password"
NAME = Text(zh="设备", en="Equipment")
GOAL_S: Final = 2.0
PATIENCE_S: Final = 120.0


def equipment_of(gateway: int) -> list[str]:
    """Return the equipment behind one gateway."""
    return [f"EQ-{gateway}-{number}" for number in range(EQUIPMENT)]


def plant(folder: Path) -> Site:
    """Return a site with equipment in one plant room for each gateway."""
    places = {f"ROOM-{n}": Place(kind="plant_room", name=NAME) for n in range(GATEWAYS)}
    items = {
        key: Equipment(type="machine", place=f"ROOM-{n}", name=NAME) for n in range(GATEWAYS) for key in equipment_of(n)
    }
    info = SiteInfo(id=SITE, name=NAME)
    return Site(folder=folder, info=info, places=places, plan=Plan(), equipment=items)


def rule(equipment: str, number: int) -> RuleRow:
    """Return one limit rule that opens a ticket."""
    return RuleRow(
        key=f"v{number}.high|{equipment}|",
        rule=f"v{number}.high",
        version="0" * 16,
        equipment=equipment,
        kind="limit",
        class_="equipment",
        priorities={"": 3},
        ticket=TicketPolicy(type="repair", sla=Sla(accept=600.0)),
        signal=f"{equipment}/v{number}",
        signals=(f"{equipment}/v{number}",),
        unit="",
        name=NAME,
        limits={"H": 1.0},
    )


def announce(births: BirthStore, gateway: int) -> None:
    """Put the birth of one gateway."""
    keys = [f"{equipment}/v{number}" for equipment in equipment_of(gateway) for number in range(SIGNALS)]
    signals = tuple(
        SignalSpec(alias=alias, key=key, kind=Kind.MEASURE, lane=Lane.TELEMETRY, max_silence_s=600.0)
        for alias, key in enumerate(keys)
    )
    birth = Birth(
        gateway=f"g{gateway}", epoch=EPOCH, schema=1, time_ms=utc_ms(), heartbeat_s=1.0, version="1", signals=signals
    )
    births.put(SITE, birth.to_json())


def frame(*, seq: int, prev: int, time_ms: int, value: float) -> bytes:
    """Return a frame with the same value for every signal of a gateway."""
    n = EQUIPMENT * SIGNALS
    header = Header(
        kind="D",
        lane=int(Lane.TELEMETRY),
        flags=FLAG_SNAPSHOT if prev == 0 else 0,
        epoch=EPOCH,
        seq=seq,
        prev=prev,
        base_ms=time_ms,
        complete_ms=time_ms,
        schema=1,
        clock_gen=1,
    )
    return encode_samples(header, alias=range(n), time_ms=[time_ms] * n, value=[value] * n, quality=[0] * n)


def send(journal: FileJournal, *, seq: int, value: float) -> None:
    """Write one frame of every gateway, and the centre's tick."""
    now_ms = utc_ms()
    for number in range(GATEWAYS):
        journal.append(SITE, f"g{number}", frame(seq=seq, prev=seq - 1, time_ms=now_ms, value=value), arrived_ms=now_ms)
    journal.append(SITE, "", b"", arrived_ms=now_ms)
    journal.sync(SITE)


async def listed(client: httpx.AsyncClient, token: str) -> int:
    """Return how many alarms the API lists."""
    reply = await client.get("/api/v1/alarms?view=brief", headers={"Authorization": f"Bearer {token}"})
    return reply.text.count('"row":') if reply.status_code == 200 else 0


def written(database: Engine) -> int:
    """Return how many alarms stand in SQL: asked often, so that the list is asked for once."""
    with reading(database) as connection:
        return int(connection.execute(select(func.count()).select_from(alarm)).scalar_one())


async def measure(site: Site, settings: Settings, database: Engine, flood: threading.Event) -> tuple[float, float]:
    """Return (seconds until all alarms were listed, seconds of the last request)."""
    app = build_app(site, settings, database)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.public_url, timeout=PATIENCE_S) as client:
            person = {"username": "guard", "password": PASSWORD}
            token = (await client.post("/api/v1/session", json=person)).json()["token"]
            started = time.perf_counter()
            flood.set()
            while (count := await asyncio.to_thread(written, database)) < ALARMS:
                if time.perf_counter() - started > PATIENCE_S:
                    raise SystemExit(f"only {count} of {ALARMS} alarms were written")
                await asyncio.sleep(0.05)
            asked = time.perf_counter()
            count = await listed(client, token)
            if count < ALARMS:
                raise SystemExit(f"only {count} of {ALARMS} alarms were listed")
            now = time.perf_counter()
            return now - started, now - asked


def main() -> None:
    """Run the flood once and report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(data=folder)
        site, database = plant(folder), open_database(settings.database_url)
        migrate(database)
        with writing(database) as connection:
            row = {"name": "guard", "display": "guard", "role": "guard", "password_hash": hash_password(PASSWORD)}
            rest = {"lang": "zh", "is_enabled": True, "created_ms": 1, "failed": 0}
            connection.execute(insert(account), [row | rest])
        journal, births = FileJournal(folder / "journal"), BirthStore(folder / "births")
        for number in range(GATEWAYS):
            announce(births, number)
        rows = tuple(rule(key, n) for g in range(GATEWAYS) for key in equipment_of(g) for n in range(SIGNALS))
        engine = AlarmEngine(
            site,
            RuleSet(rows=rows, version="f" * 16),
            journal=journal,
            births=births,
            database=database,
            folder=folder / "alarms",
            disk=RealDisk(),
            on_commit=lambda _: None,
            now_ms=utc_ms,
            registry=CollectorRegistry(),
        )
        stop, flood = threading.Event(), threading.Event()
        judge = threading.Thread(target=engine.run, args=(stop,))
        judge.start()
        send(journal, seq=1, value=0.0)
        while engine.status()["lag"] or engine.status()["state"] != "running":
            stop.wait(0.05)

        def burst() -> None:
            flood.wait()
            send(journal, seq=2, value=2.0)

        writer = threading.Thread(target=burst)
        writer.start()
        whole_s, request_s = asyncio.run(measure(site, settings, database, flood))
        stop.set()
        engine.wake()
        writer.join()
        judge.join()
        with reading(database) as connection:
            tickets = int(connection.execute(select(func.count()).select_from(ticket)).scalar_one())
        database.dispose()
        journal.close()
    figures = [
        Figure(
            name="20,000 alarms at once: listed over HTTP", value=round(whole_s, 2), unit="s", goal=f"<= {GOAL_S:g}"
        ),
        Figure(name="of it: the last request", value=round(request_s, 2), unit="s"),
        Figure(name="tickets of the flood", value=tickets, unit="", goal="<= 21"),
    ]
    report("flood", figures)


if __name__ == "__main__":
    main()
