"""The simulators as one program: ports, readers on a real broker, control socket, scenarios."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from zoneinfo import ZoneInfo

import aiomqtt
import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from simulators.app import Simulation, run_simulators
from simulators.door import Access, DoorState
from simulators.readers import Readers
from tests.gateway.mosquitto import Mosquitto
from tests.simulators.places import free_addresses, spruce_court
from watchroom.errors import ConfigError, LinkError, StateError
from watchroom.local import LocalClient
from watchroom.settings import MqttSettings

SITE = spruce_court()
DEADLINE_S = 15.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    one = Mosquitto(tmp_path)
    one.start()
    yield one
    one.kill()


@asynccontextmanager
async def running(
    broker: Mosquitto, folder: Path, addresses: dict[str, str], *, scenario: str = "normal_day", speed: float = 1.0
) -> AsyncIterator[asyncio.Task[None]]:
    started = asyncio.Event()
    task = asyncio.create_task(
        run_simulators(
            SITE,
            scenario=scenario,
            seed=1,
            speed=speed,
            addresses=addresses,
            mqtt=MqttSettings(port=broker.port),
            control=folder / "simulate.sock",
            started=started,
        )
    )
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({task, waiting}, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    assert not task.done(), task.exception()
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def control(folder: Path, wakes: asyncio.Queue[dict[str, object]] | None = None) -> AsyncIterator[LocalClient]:
    connected = asyncio.Event()

    def on_wake(facts: dict[str, object]) -> None:
        connected.set()
        if wakes is not None:
            wakes.put_nowait(facts)

    client = LocalClient(folder / "simulate.sock", on_wake=on_wake)
    task = asyncio.create_task(client.run(retry_s=0.01))
    async with asyncio.timeout(DEADLINE_S):
        await connected.wait()
    try:
        yield client
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def read(address: str, register: int, unit: int) -> int | None:
    """Return an input or None when nothing answers."""
    host, _, port = address.partition(":")
    client = AsyncModbusTcpClient(host, port=int(port), timeout=0.3, retries=0)
    assert await client.connect()
    try:
        return int((await client.read_input_registers(register, count=1, device_id=unit)).registers[0])
    except ModbusException:
        return None
    finally:
        client.close()


async def test_every_port_answers_soon(broker: Mosquitto, tmp_path: Path) -> None:
    """All devices of the site answer within a second of the start."""
    addresses = free_addresses(SITE)
    began = time.monotonic()
    async with running(broker, tmp_path, addresses):
        assert time.monotonic() - began < 2.0  # one second, with room for a busy machine
        for address in addresses.values():
            host, _, port = address.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await writer.wait_closed()
            assert reader is not None


async def test_readers_publish_on_a_real_broker(broker: Mosquitto, tmp_path: Path) -> None:
    """In the morning rush, sped up: door states, cards and faces arrive on their topics within seconds."""
    kinds: set[str] = set()
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("door/#", qos=1)
        async with running(broker, tmp_path, free_addresses(SITE), speed=60.0), asyncio.timeout(DEADLINE_S):
            async for message in client.messages:
                _, door, kind = str(message.topic).split("/")
                assert door in SITE.equipment
                kinds.add(kind)
                if kinds == {"io", "card", "face"}:
                    break


async def test_states_are_retained(broker: Mosquitto, tmp_path: Path) -> None:
    """A gateway that connects later learns the state of every door at once."""
    async with running(broker, tmp_path, free_addresses(SITE)):
        doors: set[str] = set()
        async with aiomqtt.Client("127.0.0.1", broker.port) as client, asyncio.timeout(DEADLINE_S):
            await client.subscribe("door/+/io", qos=1)
            async for message in client.messages:
                doors.add(str(message.topic).split("/")[1])
                if len(doors) == 22:
                    break


async def test_scenarios_by_the_control_socket(broker: Mosquitto, tmp_path: Path) -> None:
    """The page lists the scenarios with titles in both languages and plays one; what is unknown is refused."""
    addresses = free_addresses(SITE)
    async with running(broker, tmp_path, addresses, speed=10.0), control(tmp_path) as client:
        listed = await client.ask("scenario.list")
        titles = {item["name"]: item["title"] for item in listed["items"]}
        assert titles["burst_pipe"] == {"zh": "爆管", "en": "Burst pipe"}
        assert len(titles) == 7
        assert (await client.ask("scenario.play", name="entrapment")) == {"name": "entrapment", "duration_s": 42.0}
        assert (await client.ask("scenario.list"))["playing"] == ["entrapment"]
        with pytest.raises(StateError, match=r"scenario.unknown"):
            await client.ask("scenario.play", name="earthquake")
        async with asyncio.timeout(60):
            while True:  # a register has no event to wait for
                if ((await read(addresses["127.0.0.1:15012"], 0, 2)) or 0) & 1:
                    break
                await asyncio.sleep(0.1)


async def test_pulled_uplink_is_told(broker: Mosquitto, tmp_path: Path) -> None:
    """Followers are told which uplink is out and when it is in again; the devices answer all the time."""
    addresses = free_addresses(SITE)
    wakes: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    async with running(broker, tmp_path, addresses, speed=10.0), control(tmp_path, wakes) as client:
        assert await read(addresses["127.0.0.1:15030"], 1, 1) is not None
        await client.ask("scenario.play", name="gateway_cut")
        cut = {"gateway": "garage", "cut": True}
        async with asyncio.timeout(DEADLINE_S):
            while (await wakes.get()) != cut:
                pass
        assert await read(addresses["127.0.0.1:15030"], 1, 1) is not None
        async with asyncio.timeout(DEADLINE_S):
            while (await wakes.get()) == cut:
                pass
        assert await read(addresses["127.0.0.1:15030"], 1, 1) is not None


async def test_taken_port_ends_the_start(broker: Mosquitto, tmp_path: Path) -> None:
    """If a port is taken the program says which and releases those it already had."""
    addresses = free_addresses(SITE)
    async with running(broker, tmp_path, addresses):
        with pytest.raises(LinkError, match=r"cannot listen on 127.0.0.1"):
            await run_simulators(
                SITE, scenario="normal_day", seed=1, speed=1.0, addresses=addresses, mqtt=MqttSettings(port=broker.port)
            )
    async with running(broker, tmp_path, addresses):
        pass


def simulation(**changes: object) -> Simulation:
    arguments: dict[str, object] = {"scenario": "normal_day", "seed": 1, "speed": 1.0, "addresses": {}}
    return Simulation(SITE, mqtt=MqttSettings(), **(arguments | changes))  # type: ignore[arg-type]


def test_wrong_arguments_are_told() -> None:
    """An unknown scenario, an impossible speed and an unknown gateway are refused in words."""
    with pytest.raises(ConfigError, match="did you mean 'fire'"):
        simulation(scenario="fires")
    with pytest.raises(ConfigError, match="speed of 0"):
        simulation(speed=0.0)
    with pytest.raises(ConfigError, match="no simulated gateway 'moon'"):
        simulation().cut_gateway("moon", True)
    with pytest.raises(ConfigError, match="no simulated gateway 'moon'"):
        simulation().pull_uplink("moon", True)


def test_cut_devices_are_those_of_one_gateway() -> None:
    """Only the servers of the gateway that was cut fall silent, until it is restored."""
    one = simulation()
    one.cut_gateway("garage", True)
    assert {server.endpoint.gateway for server in one.servers if server.is_cut} == {"garage"}
    one.cut_gateway("garage", False)
    assert not [server for server in one.servers if server.is_cut]


def test_health_tells_what_is_played() -> None:
    """The health page names the scenario and the gateways that are cut off."""
    one = simulation(scenario="burst_pipe")
    one.cut_gateway("garage", True)
    assert one.health() == {"ok": True, "service": "simulators", "playing": ["burst_pipe"], "cut": ["garage"]}
    assert one.registry.get_sample_value("watchroom_simulated_cut") == 1


def test_idle_costs_little() -> None:
    """A minute of physics at five steps a second takes far less than a twentieth of a core."""
    one = simulation()
    began = time.process_time()
    for _ in range(300):
        one.advance(0.2)
    assert time.process_time() - began < 60 * 0.05 / 2


class Doors:
    """One door whose network can be cut."""

    def __init__(self, port: int) -> None:
        self.cut = False
        self.readers = Readers(
            MqttSettings(port=port),
            zone=ZoneInfo("Asia/Shanghai"),
            states=lambda: [DoorState(door="DR-X1", contact=0, button=0, lock=0, tamper=0)],
            is_cut=lambda door: self.cut,
            now_ms=lambda: 1_763_800_000_000,
        )

    def card(self, serial: int) -> None:
        self.readers.happened(
            Access(door="DR-X1", method="card", token="0A1B2C3D", direction="in", result="granted", serial=serial)
        )


async def test_readers_keep_records_while_the_broker_is_away(broker: Mosquitto) -> None:
    """What was read while the broker was dead is published when it is back, in order, none twice."""
    doors = Doors(broker.port)
    broker.kill()
    task = asyncio.create_task(doors.readers.run())
    for serial in range(20):
        doors.card(serial)
        await asyncio.sleep(0)
    broker.start()
    found: list[int] = []
    async with aiomqtt.Client("127.0.0.1", broker.port) as client, asyncio.timeout(DEADLINE_S):
        await client.subscribe("door/+/card", qos=1)
        doors.card(20)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            found.append(int(message.payload.decode().rsplit(",", 1)[1]))
            if found[-1] == 20:
                break
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert found == list(range(found[0], 21))


async def test_cut_readers_keep_records_too(broker: Mosquitto) -> None:
    """Records of a cut door wait; they are published after the cut."""
    doors = Doors(broker.port)
    doors.cut = True
    task = asyncio.create_task(doors.readers.run())
    async with aiomqtt.Client("127.0.0.1", broker.port) as client, asyncio.timeout(DEADLINE_S):
        await client.subscribe("door/+/card", qos=1)
        for serial in (1, 2, 3):
            doors.card(serial)
        await asyncio.sleep(0.05)
        assert doors.readers.published == 0
        doors.cut = False
        doors.card(4)
        serials = []
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            serials.append(int(message.payload.decode().rsplit(",", 1)[1]))
            if len(serials) == 4:
                break
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert serials == [1, 2, 3, 4]
