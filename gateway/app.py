"""Run gateways: builds the parts of each one, wires them, and keeps them apart from each other."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import structlog
from prometheus_client import CollectorRegistry

from gateway.clock import Clock
from gateway.collect import Collector
from gateway.commands import Commander, targets_of
from gateway.config import GatewayConfig, ModbusDevice, signals_of
from gateway.devicemodel import ModelSignal
from gateway.drill import Drill
from gateway.field import FieldSide
from gateway.figures import GatewayFigures
from gateway.framing import Framer
from gateway.notebook import Notebook
from gateway.outbox import Outbox
from gateway.reload import Lines, Reload, exchange
from gateway.report import Reporter
from gateway.uplink import Identity, Uplink
from gateway.window import WindowLimits
from watchroom import __version__
from watchroom.births import Birth
from watchroom.disk import Disk, RealDisk
from watchroom.errors import ConfigError, ContractError
from watchroom.frames import EventFrame, decode, decode_header
from watchroom.health import HealthServer
from watchroom.pii import load_key
from watchroom.settings import Settings
from watchroom.signals import Lane

log = structlog.get_logger(__name__)

RESTART_S = (1.0, 2.0, 5.0, 15.0, 30.0)
COMMIT_THREADS = 4


class Gateway:
    """One gateway: its field side, outbox and uplink.

    Must be built in the event loop that runs it.

    Args:
        config: What it reads.
        settings: Data folder and broker.
        executor: Runs the commits of all gateways of the process.
        disk: File operations of the outbox.
        limits: Of the uplink's window.
        lines: Open Modbus lines of before a reload, by link.

    Raises:
        ConfigError: If the gateway runs already, or has more signals than a birth can hold.
        StoreError: If the outbox cannot be opened.
    """

    def __init__(
        self,
        config: GatewayConfig,
        settings: Settings,
        *,
        executor: Executor,
        disk: Disk | None = None,
        limits: WindowLimits | None = None,
        lines: Lines | None = None,
    ) -> None:
        self.config, self._executor = config, executor
        folder = settings.data / "gateway" / config.id
        disk = RealDisk() if disk is None else disk
        disk.make_folder(folder)
        self._lock = _lock(folder, config)
        limits = limits or WindowLimits()
        self.outbox = Outbox(folder / "outbox", disk=disk)
        self.clock, prev, quiet_ms = _resume(self.outbox, stale_ms=limits.stale_ms)
        self._notebook = Notebook(self.outbox, self.clock.now_ms)
        specs = signals_of(config)
        self._framer = Framer(self.outbox, is_simulated=config.is_simulated, clock_gen=self.clock.clock_gen, prev=prev)
        birth = self._birth()
        self.uplink = Uplink(
            Identity(site=config.site, gateway=config.id, birth=birth, has_targets=bool(targets_of(config))),
            settings.mqtt,
            outbox=self.outbox,
            clock=self.clock,
            on_cut=lambda: self.collector.new_chain(),
            quiet_ms=quiet_ms,
            limits=limits,
        )
        own = {
            spec.key.partition("/")[2]: spec.alias
            for spec in specs
            if config.own_equipment is not None and spec.key.startswith(f"{config.own_equipment}/")
        }
        self.collector = Collector(
            Reporter(specs),
            self._framer,
            outbox=self.outbox,
            clock=self.clock,
            executor=executor,
            on_commit=self.uplink.committed,
            on_heartbeat=self.uplink.heartbeat,
            heartbeat_s=config.heartbeat_s,
            own=own,
            links_down=lambda: self.field.links_down,
        )
        self.collector.remember(_known_events(self.outbox))
        self.field = FieldSide(
            config,
            self.collector,
            now_ms=self.clock.now_ms,
            key=load_key(settings),
            folder=folder,
            memory=self._notebook,
            lines=lines,
        )
        self.commander = Commander(
            config,
            self.collector,
            write=self._write,
            now_ms=self.clock.now_ms,
            journal=self._notebook,
            order=self.field.command,
        )
        self.uplink.on_command = self.commander.receive
        self.restarts = 0

    async def run(self) -> None:
        """Read, keep and send until cancelled.

        A bug in the field side is logged and the field side begun again: it must not stop other gateways. A bug in
        the durable side ends the process.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self.uplink.run(), name=f"{self.config.id} uplink")
            group.create_task(self.collector.run(), name=f"{self.config.id} collector")
            group.create_task(self._keep_reading(), name=f"{self.config.id} field side")
            group.create_task(self.commander.run(), name=f"{self.config.id} commands")

    def hand_over(self) -> Lines:
        """Give the open Modbus lines away: its end does not close them any more."""
        return self.field.hand_over()

    def close(self) -> None:
        """Give the outbox back; after ``run`` has ended."""
        self.outbox.close()
        self._lock.close()

    def status(self) -> dict[str, Any]:
        """Return what the health page says about this gateway."""
        return {
            "ok": not self.outbox.is_full,
            "uplink": "up" if self.uplink.is_up else "down",
            "outbox_frames": self.outbox.frames,
            "outbox_bytes": self.outbox.frame_bytes,
            "outstanding": self.uplink.outstanding,
            "is_full": self.outbox.is_full,
            "loss_count": self.collector.loss_count,
            "links_down": self.field.links_down,
            "restarts": self.restarts,
            "links": self.field.status(),
        }

    async def _write(self, device: ModbusDevice, signal: ModelSignal, value: float, until_s: float) -> float:
        return await self.field.write(device, signal, value, until_s)

    async def _keep_reading(self) -> None:
        try:
            while True:
                started_ms = self.clock.now_ms()
                try:
                    await self.field.run()
                    await asyncio.get_running_loop().create_future()  # no links: nothing to read, nothing to restart
                except Exception:  # the boundary of one gateway's devices: it must not stop the other gateways
                    log.exception("field side failed, begins again", gateway=self.config.id)
                if self.clock.now_ms() - started_ms > 60_000:
                    self.restarts = 0
                await asyncio.sleep(RESTART_S[min(self.restarts, len(RESTART_S) - 1)])
                self.restarts += 1
        finally:
            # the uplink is cancelled at the same moment: what is committed here goes out at the next start
            await asyncio.shield(self.collector.drain())

    def _birth(self) -> dict[str, Any]:
        """Put the birth into the outbox, with a new schema when anything in it has changed."""
        notes = self.outbox.notes
        now_ms = self.clock.now_ms()
        birth = Birth(
            gateway=self.config.id,
            epoch=self.outbox.epoch,
            schema=notes.get("schema", 0),
            time_ms=notes.get("birth_ms", now_ms),
            heartbeat_s=self.config.heartbeat_s,
            version=__version__,
            signals=signals_of(self.config),
        ).to_json()
        if targets := targets_of(self.config):
            birth["targets"] = targets
        digest = _digest(birth)
        if digest != notes.get("birth"):
            birth |= {"schema": birth["schema"] + 1, "time_ms": now_ms}
            self.outbox.note(schema=birth["schema"], birth=digest, birth_ms=now_ms)
        self.outbox.note(clock_gen=self.clock.clock_gen)
        try:
            self._framer.birth(birth, schema=birth["schema"], now_ms=now_ms)
        except ContractError as exc:
            problem = f"too many signals for one gateway: {len(birth['signals'])}"
            raise ConfigError(problem, path=self.config.path, hint="make two gateways of it") from exc
        return birth


async def run_gateways(
    configs: Sequence[GatewayConfig],
    settings: Settings,
    *,
    health_port: int | None = None,
    stop: asyncio.Event | None = None,
    on_ready: Callable[[list[Gateway]], None] | None = None,
    on_health: Callable[[int], None] | None = None,
    disk: Disk | None = None,
    limits: WindowLimits | None = None,
    reload: Reload | None = None,
) -> None:
    """Run gateways in this process until SIGTERM, SIGINT or ``stop``; SIGHUP reads the files again.

    Args:
        configs: The gateways; their ids must differ.
        settings: Data folder and broker.
        health_port: Serve /health and /metrics there, 0 for a free port; None for no server.
        stop: Set by the caller instead of a signal.
        on_ready: Called once with the built gateways.
        on_health: Called with the port of the health server when it listens.
        disk: File operations of the outboxes.
        limits: Of the uplinks' windows.
        reload: Reads the files again; None for a configuration that does not change.

    Raises:
        ConfigError: If two gateways have one id, one of them runs already, or the health port is in use.
    """
    ids = [config.id for config in configs]
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise ConfigError(f"two gateways have the id {min(twice)!r}")
    if health_port:
        _check_port(health_port)
    executor = ThreadPoolExecutor(max_workers=min(COMMIT_THREADS, len(configs)), thread_name_prefix="commit")
    gateways: list[Gateway] = []

    def make(config: GatewayConfig, lines: Lines | None) -> Gateway:
        return Gateway(config, settings, executor=executor, disk=disk, limits=limits, lines=lines)

    async with _stopping(stop, reload) as stopped:
        try:
            for config in configs:
                gateways.append(make(config, None))
            log.info("gateways started", gateways=len(gateways), signals=sum(len(signals_of(c)) for c in configs))
            if on_ready is not None:
                on_ready(gateways)
            async with asyncio.TaskGroup() as group:
                runs = {g.config.id: group.create_task(g.run(), name=g.config.id) for g in gateways}
                tasks: list[asyncio.Task[None]] = []
                uplinks = {gateway.config.id: gateway.uplink for gateway in gateways}
                if reload is not None:
                    tasks.append(
                        group.create_task(_reloading(reload, gateways, runs, uplinks, group, make), name="reload")
                    )
                if settings.demo:
                    drill = Drill(uplinks)
                    tasks.append(group.create_task(drill.follow(settings.data), name="drill"))
                if health_port is not None:
                    health = _health(gateways, health_port)
                    started = asyncio.Event()
                    tasks.append(group.create_task(health.run(started), name="health"))
                    await started.wait()
                    if on_health is not None:
                        on_health(health.port)
                await stopped.wait()
                log.info("gateways stop")
                for task in [*tasks, *runs.values()]:
                    task.cancel()
        finally:
            executor.shutdown()
            for gateway in gateways:
                gateway.close()


async def _reloading(
    reload: Reload,
    gateways: list[Gateway],
    runs: dict[str, asyncio.Task[None]],
    uplinks: dict[str, Uplink],
    group: asyncio.TaskGroup,
    make: Callable[[GatewayConfig, Lines | None], Gateway],
) -> None:
    """Exchange gateways whose files have changed, until cancelled."""
    while True:
        changed = await reload.changed([gateway.config for gateway in gateways])
        for i, gateway in enumerate(gateways):
            config = changed.get(gateway.config.id)
            if config is not None:
                gateways[i] = await exchange(gateway, config, runs[config.id], make=make)
                uplinks[config.id] = gateways[i].uplink
                runs[config.id] = group.create_task(gateways[i].run(), name=config.id)
                log.info("configuration reloaded", gateway=config.id, signals=len(signals_of(config)))
        reload.done += bool(changed)


def _health(gateways: Sequence[Gateway], port: int) -> HealthServer:
    registry = CollectorRegistry()
    registry.register(GatewayFigures(lambda: {gateway.config.id: gateway.status() for gateway in gateways}))

    def checks() -> dict[str, object]:
        states = {gateway.config.id: gateway.status() for gateway in gateways}
        return {"ok": all(state["ok"] for state in states.values()), "gateways": states}

    return HealthServer("127.0.0.1", port, registry, checks)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise ConfigError(f"port {port} is in use", key="--health", hint="take another one") from exc


@contextlib.asynccontextmanager
async def _stopping(stop: asyncio.Event | None, reload: Reload | None = None) -> AsyncIterator[asyncio.Event]:
    """Give an event that SIGTERM and SIGINT set, unless the caller brings its own; SIGHUP asks for a reload."""
    if stop is not None:
        yield stop
        return
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if reload is not None:
        loop.add_signal_handler(signal.SIGHUP, reload.asked.set)
    try:
        yield stopped
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _resume(outbox: Outbox, *, stale_ms: int) -> tuple[Clock, dict[Lane, int], int]:
    """Return the clock, the chains to go on with, and how long this gateway was away in ms."""
    newest = [decode_header(payload) for payload in map(outbox.last, Lane) if payload is not None]
    last_ms = max((max(header.complete_ms, header.base_ms) for header in newest), default=0)
    gen = outbox.notes.get("clock_gen", 0)
    clock = Clock(clock_gen=gen, not_before_ms=last_ms)
    if not newest:
        return clock, {}, 0
    quiet_ms = max(0, clock.now_ms() - last_ms)
    if clock.clock_gen != gen or quiet_ms > stale_ms:
        return clock, {}, max(quiet_ms, stale_ms + 1)
    return clock, {Lane(header.lane): header.seq for header in newest}, quiet_ms


def _known_events(outbox: Outbox) -> Iterator[str]:
    """Yield the ids of the events committed last: a reader that a kill left unanswered sends those again."""
    for payload in outbox.tail(Lane.URGENT):
        try:
            frame = decode(payload)
        except ContractError:
            continue
        if isinstance(frame, EventFrame):
            yield from (event.id for event in frame.events)


def _lock(folder: Path, config: GatewayConfig) -> TextIO:
    """Hold the folder for this process: two writers would give one seq to two frames."""
    file = open(folder / "lock", "w", encoding="ascii")  # noqa: SIM115  held as long as the gateway runs
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.close()
        raise ConfigError(f"gateway {config.id!r} runs already with the data folder {folder}") from exc
    return file


def _digest(birth: dict[str, Any]) -> str:
    content = {key: value for key, value in birth.items() if key not in {"schema", "time_ms"}}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
