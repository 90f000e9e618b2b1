"""The engine process: ingest, alarms and history of one site around one journal, and the local API."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from alarms.alive import Alive
from alarms.beacon import Beacon
from alarms.consoles import Consoles
from alarms.doors.follower import RegistryFollower
from alarms.engine import AlarmEngine
from alarms.judged import Latest
from alarms.notify import Notifier
from alarms.retention import Keep
from alarms.rules import compile_rules
from alarms.templates import load_templates
from ingest.history import HistoryWriter
from ingest.limits import RateLimit
from ingest.queries import HistoryQueries
from ingest.reading import HistoryReading
from ingest.receive import Receiver
from ingest.store import HistoryStore, Retention
from watchroom.births import BirthStore
from watchroom.clock import utc_ms
from watchroom.database.connect import migrate, open_database
from watchroom.disk import RealDisk
from watchroom.errors import ConfigError, StateError
from watchroom.health import HealthServer
from watchroom.journal import FileJournal, fresh_offset
from watchroom.local import LocalServer
from watchroom.serve.history_verify import verify_operation
from watchroom.settings import Settings
from watchroom.site import load_site
from watchroom.threads import share_fairly

log = structlog.get_logger(__name__)

JOIN_S = 8.0


class Engine:
    """Everything the engine process holds, built in one place.

    Args:
        folder: Folder of the site files.
        settings: Settings of this box.

    Raises:
        ConfigError: If a site file or setting is wrong.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.site = folder, load_site(folder)
        ruleset = compile_rules(self.site, load_templates())
        self.settings, self.stop = settings, threading.Event()
        self.registry = CollectorRegistry()
        disk = RealDisk()
        self.journal = FileJournal(settings.data / "journal", disk=disk, begins_at=lambda: fresh_offset(utc_ms()))
        births = self.births = BirthStore(settings.data / "births", disk=disk)
        database = open_database(settings.database_url)
        migrate(database)
        self.store = open_store(settings, self.site.id)
        self.local = LocalServer(settings.data / "engine.sock", self._operations())
        self.consoles = Consoles()
        self.receiver = Receiver(
            self.site.id,
            self.journal,
            births=births,
            settings=settings.mqtt,
            folder=settings.data / "ingest",
            disk=disk,
            now_ms=utc_ms,
            registry=self.registry,
            limit=RateLimit(
                messages_per_s=settings.ingest.messages_per_s, bytes_per_s=settings.ingest.kbytes_per_s * 1024
            ),
            readings=lambda: {
                "set_aside": float(self.alarms.status()["set_aside"]),
                **self.consoles.readings(time.monotonic()),
            },
        )
        self.alarms = AlarmEngine(
            self.site,
            ruleset,
            journal=self.journal,
            births=births,
            database=database,
            folder=settings.data / "alarms",
            disk=disk,
            on_commit=self._committed,
            now_ms=utc_ms,
            registry=self.registry,
            keep=Keep(**{item.name: getattr(settings.keep, item.name) for item in fields(Keep)}),
        )
        self.follower = RegistryFollower(self.site.id, journal=self.journal, database=database, now_ms=utc_ms)
        self.history = HistoryWriter(
            self.site.id,
            self.journal,
            births=births,
            store=self.store,
            registry=self.registry,
            keep=retention_of(settings),
        )
        url = settings.watch.beacon_url
        self.beacon = Beacon(self.site.id, database=database, url=url.get_secret_value() if url else "", now_ms=utc_ms)
        url = settings.watch.deadman_url
        self.alive = Alive(
            self.alarms.status,
            path=settings.watch.heartbeat_file or settings.data / "heartbeat",
            url=url.get_secret_value() if url else "",
            disk=disk,
            now_ms=utc_ms,
        )
        self.notifier = Notifier(self.site, database=database, public_url=settings.public_url, now_ms=utc_ms)

    async def run(self, *, health_port: int | None) -> None:
        """Serve until SIGTERM; a bug in any part ends the process, and the supervisor starts it again."""
        share_fairly()
        loop, ending = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ending.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)
        failures: list[BaseException] = []

        def failed(exc: BaseException) -> None:
            failures.append(exc)
            loop.call_soon_threadsafe(ending.set)

        parts: dict[str, Callable[[threading.Event], None]] = {
            "history": self.history.run,
            "alarms": self.alarms.run,
            "notify": self.notifier.run,
            "beacon": self.beacon.run,
            "alive": self.alive.run,
            "ingest": self.receiver.run,
            "registry": self.follower.run,
            "wake": self._announce,
        }
        threads = [
            threading.Thread(target=_guarded, args=(name, part, self.stop, failed), name=name, daemon=True)
            for name, part in parts.items()
        ]
        tasks = [asyncio.create_task(self.local.run(), name="local-api")]
        if health_port is not None:
            health = HealthServer("127.0.0.1", health_port, registry=self.registry, checks=self._health)
            tasks.append(asyncio.create_task(health.run(), name="health"))
        for thread in threads:
            thread.start()
        await ending.wait()
        self.stop.set()
        self.alarms.wake()
        self.beacon.wake()
        # one deadline for all: the supervisor waits 10 s, whatever the number of parts
        deadline = time.monotonic() + JOIN_S
        for thread in threads:
            await asyncio.to_thread(thread.join, max(0.0, deadline - time.monotonic()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not any(thread.is_alive() for thread in threads):
            self.journal.close()
        if failures:
            raise failures[0]

    def reload(self) -> dict[str, Any]:
        """Read ``rules.yaml`` again and judge by it: whole, or not at all.

        Raises:
            ConfigError: If a file is wrong, or the equipment has changed: that needs a restart. The old rules stay.
        """
        site = load_site(self.folder)
        if site.equipment != self.site.equipment or site.places != self.site.places:
            raise ConfigError("equipment or places have changed: restart to take them over", path=self.folder)
        ruleset = compile_rules(site, load_templates())
        self.alarms.reload(ruleset)
        return {"rules": len(ruleset.rows), "version": ruleset.version}

    def _reload_on_signal(self) -> None:
        try:
            self.reload()
        except ConfigError as exc:
            log.error("the rules were not changed", problem=str(exc))

    def _operations(self) -> dict[str, Any]:
        queries = HistoryQueries(self.store)
        verify = verify_operation(self.site.id, self.journal, births=self.births, store=self.store, slots=queries.slots)

        async def latest(_: dict[str, Any]) -> Any:
            return latest_json(self.alarms.latest())

        async def explain(args: dict[str, Any]) -> Any:
            return await asyncio.to_thread(self.alarms.explain, str(args["key"]))

        async def reload(_: dict[str, Any]) -> Any:
            return await asyncio.to_thread(self.reload)

        async def wake(_: dict[str, Any]) -> Any:
            self.alarms.wake()
            return True

        async def consoles(told: dict[str, Any]) -> Any:
            source, count, sounding = str(told["source"]), int(told["consoles"]), int(told["sounding"])
            self.consoles.report(source, consoles=count, sounding=sounding, now_s=time.monotonic())
            return True

        async def status(_: dict[str, Any]) -> Any:
            return self._status()

        return {
            "history.range": queries.range,
            **HistoryReading(self.store, slots=queries.slots).operations(),
            "history.verify": verify,
            "signals.latest": latest,
            "alarms.explain": explain,
            "rules.reload": reload,
            "commands.wake": wake,
            "consoles.report": consoles,
            "status": status,
        }

    def _committed(self, feed_seq: int) -> None:
        self.local.wake({"feed_seq": feed_seq})
        self.beacon.wake()

    def _status(self) -> dict[str, Any]:
        return {
            "ingest": self.receiver.status(),
            "alarms": self.alarms.status(),
            "history": self.history.status(),
        }

    def _health(self) -> dict[str, object]:
        status = self._status()
        is_open = not {"disk.full", "journal.refuses"} & set(status["ingest"]["problems"])
        return {"ok": not self.stop.is_set() and is_open, **status}

    def _announce(self, stop: threading.Event) -> None:
        """Tell the followers whenever the journal has grown."""
        seen = self.journal.end(self.site.id)
        while not stop.is_set():
            if self.journal.wait(self.site.id, seen, 0.5):
                seen = self.journal.end(self.site.id)
                self.local.wake({"journal": seen})


def latest_json(latest: Latest) -> dict[str, Any]:
    """Return the newest samples as JSON can hold them: NaN becomes null."""
    return {
        "keys": latest.keys,
        "time_ms": latest.time_ms.tolist(),
        "value": [
            None if missing else value
            for value, missing in zip(latest.value.tolist(), np.isnan(latest.value), strict=True)
        ],
        "quality": latest.quality.tolist(),
        "gateway": latest.gateway,
        "is_stale": latest.is_stale.tolist(),
    }


def retention_of(settings: Settings) -> Retention:
    """Return how long samples and roll-ups are kept."""
    keep = settings.keep
    return Retention(raw_days=keep.raw_days, minute_days=keep.minute_days, hour_days=keep.hour_days)


def open_store(settings: Settings, site: str) -> HistoryStore:
    """Return the history store the settings name; it is opened by its writer.

    Raises:
        ConfigError: If the setting names no store we know.
    """
    if settings.store == "duckdb":
        from ingest.duckdb_store import DuckStore

        return DuckStore(settings.data / "history.duckdb")
    if settings.store.startswith(("influxdb://", "influxdbs://")):
        from ingest.influx_store import InfluxStore

        token = settings.store_token.get_secret_value() if settings.store_token else ""
        position_file = settings.data / "history-position.json"
        keep = retention_of(settings)
        return InfluxStore(settings.store, token=token, site=site, position_file=position_file, keep=keep)
    if settings.store.startswith(("victoria://", "victorias://")):
        from ingest.victoria_store import VictoriaStore

        token = settings.store_token.get_secret_value() if settings.store_token else ""
        position_file = settings.data / "history-victoria.json"
        return VictoriaStore(settings.store, token=token, site=site, position_file=position_file)
    # the rest of a URL may hold a password
    raise ConfigError(
        f"unknown history store {settings.store.partition(':')[0]!r}",
        key="WATCHROOM_STORE",
        hint="expected duckdb, victoria://HOST:PORT, or influxdb://HOST:PORT/ORG/BUCKET",
    )


def _guarded(
    name: str, part: Callable[[threading.Event], None], stop: threading.Event, failed: Callable[[BaseException], None]
) -> None:
    try:
        part(stop)
    except BaseException as exc:
        log.exception("part of the engine failed", part=name)
        failed(exc)
    else:
        if not stop.is_set():
            failed(StateError("engine.part", f"{name} ended without being told to"))


async def run_engine(folder: Path, settings: Settings, *, health_port: int | None) -> None:
    """Run the engine of one site until SIGTERM."""
    settings.data.mkdir(parents=True, exist_ok=True)
    await Engine(folder, settings).run(health_port=health_port)
