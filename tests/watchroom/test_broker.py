"""The embedded broker of ``watchroom up``, as a process: who gets in, and what a crowd of gateways does to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.brokers import until
from tests.system.room import Process, free_port
from watchroom.mqtt import Message, MqttLink
from watchroom.serve.broker import PASSWORD_VARIABLE, USER
from watchroom.settings import MqttSettings

PASSWORD = "of this start"
CROWD, TOPICS = 24, 8


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a running broker."""
    number = free_port()
    output = tmp_path_factory.mktemp("broker") / "broker.log"
    process = Process(["broker", "--port", str(number)], environment={PASSWORD_VARIABLE: PASSWORD}, output=output)
    try:
        until(lambda: _listens("127.0.0.1", number), "the broker listens")
        yield number
    finally:
        process.close()
    assert "Traceback" not in output.read_text()


def _listens(host: str, number: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex((host, number)) == 0


def settings(port: int, *, username: str | None = USER, password: str | None = PASSWORD) -> MqttSettings:
    """How a child of ``up`` reaches the broker."""
    secret = None if password is None else SecretStr(password)
    return MqttSettings(port=port, username=username, password=secret, protocol="3.1.1")


class Client:
    """A gateway-like client: subscribes as soon as it is connected, and remembers what came."""

    def __init__(self, where: MqttSettings, name: str, *filters: str) -> None:
        self.retained: list[str] = []
        self.live: list[str] = []
        self.ups: list[str] = []
        self.downs: list[str] = []
        self.filters = filters
        self.link = MqttLink(where, name, clean=False, on_message=self._take, on_up=self._up, on_down=self.downs.append)

    def _take(self, message: Message) -> None:
        (self.retained if message.retain else self.live).append(message.topic)

    def _up(self) -> None:
        self.ups.append("up")
        self.link.subscribe(*self.filters)


@pytest.mark.parametrize(
    ("username", "password"), [(USER, "of another start"), (USER, None), (None, None), ("admin", PASSWORD)]
)
def test_only_who_knows_the_password_gets_in(port: int, username: str | None, password: str | None) -> None:
    """Another program of this machine can neither read nor write."""
    client = Client(settings(port, username=username, password=password), "stranger", "#")
    with ExitStack() as stack:
        client.link.start()
        stack.callback(client.link.stop)
        until(lambda: client.downs, "refused")
    assert client.ups == []


def test_other_machines_cannot_reach_it(port: int) -> None:
    """It listens on the loopback address 127.0.0.1 and on no other."""
    listening = [
        line.split()[1]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F:{port:04X}"]


def test_a_crowd_that_connects_at_once_stays_connected(port: int) -> None:
    """While some gateways are there, two dozen connect and subscribe in the same moment.

    None is thrown out, and each hears what is its own and nothing that others have subscribed to.
    """
    names = [f"gateway-{number}" for number in range(CROWD)]
    own = {name: {f"site/{name}/{topic}" for topic in range(TOPICS)} for name in names}
    with ExitStack() as stack:
        clients = {name: Client(settings(port), name, *sorted(own[name])) for name in names}
        for client in clients.values():
            stack.callback(client.link.stop)
        first = Client(settings(port), "center", *sorted(set().union(*own.values())))
        stack.callback(first.link.stop)
        first.link.start()
        until(lambda: first.ups, "the center is connected")
        for topic in first.filters:
            first.link.publish(topic, b"kept", retain=True)
        until(lambda: len(first.live) == CROWD * TOPICS, "the broker has all messages that are kept")
        start = threading.Barrier(CROWD)
        for client in clients.values():
            threading.Thread(target=_start, args=(start, client.link)).start()
        until(lambda: all(set(client.retained) >= own[name] for name, client in clients.items()), "kept ones", 30)
        for name in names:
            first.link.publish(f"site/{name}/0", b"live")
        until(lambda: all(client.live for client in clients.values()), "a live message for each")
        assert {name: client.downs for name, client in clients.items() if client.downs} == {}
        assert {name for name, client in clients.items() if set(client.retained) - own[name]} == set()


def test_a_crowd_that_comes_back_stays_connected(port: int) -> None:
    """Gateways that the broker remembers come back while new ones subscribe; none is thrown out."""
    names = [f"old-{number}" for number in range(CROWD)]
    kept = {name: [f"back/{name}/{topic}" for topic in range(TOPICS)] for name in names}
    with ExitStack() as stack:
        before = [Client(settings(port), name, *kept[name]) for name in names]
        for client in before:
            stack.callback(client.link.stop)
            client.link.start()
        until(lambda: all(client.ups for client in before), "the old ones are connected")
        for client in before:
            for topic in client.filters:
                client.link.publish(topic, b"kept", retain=True)
        until(lambda: all(len(client.live) == TOPICS for client in before), "each has its own messages")
        for client in before:
            client.link.stop()
        after = [Client(settings(port), name, *kept[name]) for name in names]
        new = [
            Client(settings(port), f"new-{n}", *(f"new/{n}/{topic}" for topic in range(TOPICS))) for n in range(CROWD)
        ]
        start = threading.Barrier(2 * CROWD)
        for client in after + new:
            stack.callback(client.link.stop)
            threading.Thread(target=_start, args=(start, client.link)).start()
        until(lambda: all(set(client.retained) == set(client.filters) for client in after), "the kept messages", 30)
        until(lambda: all(client.ups for client in new), "the new ones are connected")
        for client in new:
            client.link.publish(client.filters[0], b"live")
        until(lambda: all(client.live for client in new), "a live message for each new one")
        assert [client.downs for client in after + new if client.downs] == []


def _start(together: threading.Barrier, link: MqttLink) -> None:
    together.wait()
    link.start()
