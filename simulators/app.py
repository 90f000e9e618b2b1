"""The simulators of one site: physics, Modbus servers, readers and scenarios, wired together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from prometheus_client import CollectorRegistry, Gauge

from simulators.compound import Compound
from simulators.devices import Fleet, load_fleet
from simulators.modbus_server import FieldServer
from simulators.readers import Readers, renumbered
from simulators.replay import Replay, replays_of
from simulators.scenario import Play, Scenario, load_scenario, scenario_names
from watchroom.errors import ConfigError, StateError
from watchroom.health import HealthServer
from watchroom.local import LocalServer
from watchroom.settings import MqttSettings
from watchroom.site import Site

TICK_S = 0.2
LONGEST_LAG_S = 2.0
TOLD_FAULTS = 5
log = structlog.get_logger("simulators")


class Simulation:
    """All simulated equipment of a site, and what is being played on it.

    Args:
        site: The site files.
        scenario: Played from the start.
        seed: Of everything that is left to chance.
        addresses: ``host:port`` in the gateway files -> the one to use instead.
        mqtt: The readers' broker.
        speed: Simulated seconds a second.
        time_of_day_s: Where the day begins, in seconds, unless the scenario says; None for the site's clock.

    Raises:
        ConfigError: If a file is wrong or the scenario unknown.
    """

    def __init__(
        self,
        site: Site,
        *,
        scenario: str,
        seed: int,
        speed: float,
        addresses: Mapping[str, str],
        mqtt: MqttSettings,
        time_of_day_s: float | None = None,
    ) -> None:
        if not 0.01 <= speed <= 1000:
            raise ConfigError(f"a speed of {speed:g} cannot be simulated", key="speed", hint="0.01 to 1000")
        first = load_scenario(scenario)
        zone = ZoneInfo(site.info.zone)
        if first.start is not None:
            time_of_day_s = first.start
        elif time_of_day_s is None:
            time_of_day_s = _now_s(zone)
        self.compound = Compound(site, seed=seed, time_of_day_s=time_of_day_s)
        self.speed = speed
        self.replays: tuple[Replay, ...] = replays_of(site)
        _tell_faults(self.replays)
        self._replay()
        self.fleet: Fleet = load_fleet(site, self.compound.values, addresses)
        self.servers = [FieldServer(endpoint) for endpoint in self.fleet.endpoints]
        self.cut: set[str] = set()
        self.registry = CollectorRegistry()
        cut = Gauge("watchroom_simulated_cut", "Gateways whose equipment is cut off", registry=self.registry)
        cut.set_function(lambda: len(self.cut))
        signals = Gauge("watchroom_simulated_signals", "Signals with a simulated value", registry=self.registry)
        signals.set_function(lambda: len(self.compound.values))
        self.readers = Readers(
            mqtt,
            zone=zone,
            states=lambda: [self.compound.doors[door].state for door in self.fleet.door_gateways],
            is_cut=lambda door: self.fleet.door_gateways.get(door) in self.cut,
            now_ms=lambda: time.time_ns() // 1_000_000,
        )
        self._serial_base = int(time.time() * 10)
        self._plays: dict[str, Play] = {}
        self.control: LocalServer | None = None
        self.play(scenario)

    def play(self, name: str) -> Scenario:
        """Start a scenario now; one of the same name starts again.

        Raises:
            ConfigError: If there is none of that name.
        """
        scenario = load_scenario(name)
        play = Play(scenario, begin_s=self.compound.time_s, cut=self.cut_gateway, pull=self.pull_uplink)
        if not play.is_over(self.compound.time_s):
            self._plays[name] = play
        log.info("scenario started", scenario=name)
        return scenario

    def cut_gateway(self, gateway: str, is_cut: bool) -> None:
        """Cut a gateway's devices off, or let them answer again.

        Raises:
            ConfigError: If no simulated gateway has that id.
        """
        self._require(gateway)
        (self.cut.add if is_cut else self.cut.discard)(gateway)
        for server in self.servers:
            if server.endpoint.gateway == gateway:
                server.is_cut = is_cut

    def pull_uplink(self, gateway: str, is_out: bool) -> None:
        """Tell whoever follows the control socket that a gateway's uplink is out, or in again.

        Raises:
            ConfigError: If no simulated gateway has that id.
        """
        self._require(gateway)
        if self.control is not None:
            self.control.wake({"gateway": gateway, "cut": is_out})

    def _require(self, gateway: str) -> None:
        if gateway not in self.fleet.gateways:
            raise ConfigError(f"there is no simulated gateway {gateway!r}", hint=", ".join(self.fleet.gateways))

    def advance(self, dt: float) -> None:
        """Let ``dt`` simulated seconds pass."""
        for name, play in list(self._plays.items()):
            play.advance(self.compound)
            if play.is_over(self.compound.time_s):
                del self._plays[name]
        for happening in self.compound.step(dt):
            if happening.door in self.fleet.door_gateways:
                self.readers.happened(renumbered(happening, self._serial_base))
        self._replay()

    def _replay(self) -> None:
        for replay in self.replays:
            self.compound.values.update(replay.values(self.compound.time_s))

    @property
    def playing(self) -> list[str]:
        """Names of the scenarios in progress."""
        return sorted(self._plays)

    async def tick(self) -> None:
        """Advance in real time until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += TICK_S
            if loop.time() - due > LONGEST_LAG_S:
                due = loop.time()  # the machine slept: nothing is made up for
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.advance(TICK_S * self.speed)

    def operations(self) -> dict[str, Any]:
        """Operations of the control socket."""
        return {"scenario.play": self._op_play, "scenario.list": self._op_list}

    def health(self) -> dict[str, object]:
        """Facts for ``/health``."""
        return {"ok": True, "service": "simulators", "playing": self.playing, "cut": sorted(self.cut)}

    async def _op_play(self, arguments: dict[str, Any]) -> dict[str, Any]:
        name = str(arguments.get("name", ""))
        if name not in scenario_names():
            raise StateError("scenario.unknown", name)
        scenario = self.play(name)
        return {"name": name, "duration_s": scenario.duration / self.speed}

    async def _op_list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        items = [
            {"name": name, "title": scenario.title.model_dump(), "story": scenario.story.model_dump()}
            for name in scenario_names()
            for scenario in [load_scenario(name)]
        ]
        return {"items": items, "playing": self.playing}


async def run_simulators(
    site: Site,
    *,
    scenario: str,
    seed: int,
    speed: float,
    addresses: Mapping[str, str],
    mqtt: MqttSettings,
    control: Path | None = None,
    health_port: int | None = None,
    time_of_day_s: float | None = None,
    started: asyncio.Event | None = None,
) -> None:
    """Simulate the equipment of a site until cancelled.

    Args:
        site: The site files.
        scenario: Played from the start.
        seed: Of everything that is left to chance.
        speed: Simulated seconds a second.
        addresses: ``host:port`` in the gateway files -> the one to use instead.
        mqtt: The readers' broker.
        control: Where the control socket is made; None for none.
        health_port: Serve /health and /metrics there, this machine only; None for no server.
        time_of_day_s: Where the simulated day begins, seconds since midnight; None for the site's clock.
        started: Set when every port listens.

    Raises:
        ConfigError: If a file is wrong.
        LinkError: If a port is taken.
    """
    simulation = Simulation(
        site,
        scenario=scenario,
        seed=seed,
        speed=speed,
        addresses=addresses,
        mqtt=mqtt,
        time_of_day_s=time_of_day_s,
    )
    if control is not None:
        simulation.control = LocalServer(control, simulation.operations())
    try:
        for server in simulation.servers:
            await server.start()
        log.info("simulators started", ports=len(simulation.servers), signals=len(simulation.compound.values))
        async with asyncio.TaskGroup() as group:
            group.create_task(simulation.tick(), name="physics")
            if simulation.fleet.door_gateways:
                group.create_task(simulation.readers.run(), name="readers")
            if simulation.control is not None:
                group.create_task(simulation.control.run(), name="control")
            if health_port is not None:
                health = HealthServer("127.0.0.1", health_port, simulation.registry, simulation.health)
                group.create_task(health.run(), name="health")
            if started is not None:
                started.set()
    finally:
        for server in simulation.servers:
            await server.stop()


def _now_s(zone: ZoneInfo) -> float:
    now = datetime.now(zone)
    return now.hour * 3600.0 + now.minute * 60.0 + now.second


def _tell_faults(replays: tuple[Replay, ...]) -> None:
    for replay in replays:
        faults = replay.recording.faults
        if faults:
            told = [f"{replay.recording.path.name}:{fault.line}: {fault.reason}" for fault in faults[:TOLD_FAULTS]]
            log.info("recording has damaged rows, left out", count=len(faults), first=told)
