"""The link to the broker, against real brokers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Embedded, Mosquitto, embedded, free_port, mosquitto, until
from watchroom.errors import LinkError
from watchroom.mqtt import Message, MqttLink, Will
from watchroom.settings import MqttSettings

AnyBroker = Mosquitto | Embedded


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyBroker]:
    """Either broker: what is promised holds with both."""
    with mosquitto(tmp_path) if request.param == "mosquitto" else embedded() as made:
        yield made


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as made:
        yield made


class Listener:
    """A link that subscribes to everything below ``t`` and remembers what came."""

    def __init__(
        self, port: int, name: str = "listener", protocol: Any = "auto", acks: bool = False, **options: Any
    ) -> None:
        self.messages: list[Message] = []
        self.reasons: list[str] = []
        self.ups = 0
        self.acknowledge: Callable[[Message], bool] = lambda _: False
        settings = MqttSettings(port=port, protocol=protocol)
        self.link = MqttLink(
            settings, name, on_message=self._on_message, on_up=self._on_up, on_down=self.reasons.append, **options
        )
        if acks:
            self.acknowledge = self.link.ack

    def _on_up(self) -> None:
        self.link.subscribe("t/#")
        self.ups += 1

    def _on_message(self, message: Message) -> None:
        self.messages.append(message)
        self.acknowledge(message)

    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]

    def __enter__(self) -> Listener:
        self.link.start()
        until(lambda: self.ups, "the link is up")
        return self

    def __exit__(self, *_: object) -> None:
        self.link.stop()


def test_what_is_published_arrives(broker: AnyBroker) -> None:
    """Messages of every size and level of service arrive once, in order, with their bytes."""
    sent = [bytes([number % 256]) * (number * 997) for number in range(1, 60)]
    with Listener(broker.port, protocol=broker.protocol) as here:
        until(lambda: _is_subscribed(here), "subscribed")
        with Listener(broker.port, "sender", protocol=broker.protocol) as there:
            for number, payload in enumerate(sent, 1):
                there.link.publish("t/data", payload, qos=number % 2)
            until(lambda: len(_data(here)) == len(sent), "all arrived")
            until(lambda: there.link.unconfirmed == 0, "all confirmed")
    assert sorted((message.payload for message in _data(here)), key=len) == sent
    assured = [message.payload for message in _data(here) if message.payload[0] % 2]
    assert assured == sent[0::2]  # amqtt hands QoS 0 on as QoS 1, so the level received says nothing


def _data(listener: Listener) -> list[Message]:
    return [message for message in listener.messages if message.topic == "t/data"]


def _is_subscribed(listener: Listener) -> bool:
    """Publish to ourselves until it comes back: amqtt confirms a subscription before it works."""
    listener.link.publish("t/hello", b"")
    return bool(listener.messages)


def test_what_was_not_acknowledged_comes_again(real: Mosquitto) -> None:
    """A receiver that dies with frames in its hands gets them again, because nothing acknowledged them by itself."""
    with Listener(real.port, manual_ack=True, clean=False) as first, Listener(real.port, "sender") as sender:
        first.acknowledge = lambda message: message.payload == b"0" and first.link.ack(message)
        for number in range(10):
            sender.link.publish("t/data", b"%d" % number)
        until(lambda: len(first.messages) == 10, "all arrived")
    with Listener(real.port, acks=True, manual_ack=True, clean=False) as second:
        until(lambda: len(second.messages) >= 9, "the rest came again")
    assert sorted(second.payloads()) == [b"%d" % number for number in range(1, 10)]
    with Listener(real.port, manual_ack=True, clean=False) as third, Listener(real.port, "sender") as sender:
        sender.link.publish("t/data", b"last")
        until(lambda: third.messages, "the last arrived")
    assert third.payloads() == [b"last"]


def test_an_old_acknowledgement_never_reaches_a_new_connection(real: Mosquitto) -> None:
    """Brokers number deliveries afresh: an acknowledgement kept over a reconnect would confirm another frame."""
    with Listener(real.port, manual_ack=True, clean=False) as here:
        with Listener(real.port, "sender") as sender:
            sender.link.publish("t/data", b"one")
            until(lambda: here.messages, "arrived")
        old = here.messages[0]
        ups = here.ups
        real.kill()
        until(lambda: here.reasons, "the loss is told")
        assert not here.link.ack(old)
        real.start()
        until(lambda: here.ups > ups, "up again")
        assert here.link.generation > old.generation
        assert not here.link.ack(old)


def test_the_broker_holds_back_beyond_the_receive_maximum(real: Mosquitto) -> None:
    """What we cannot store yet stays at the broker instead of piling up in our memory."""
    with (
        Listener(real.port, manual_ack=True, clean=False, receive_maximum=8) as here,
        Listener(real.port, "sender") as sender,
    ):
        for number in range(50):
            sender.link.publish("t/data", b"%02d" % number)
        until(lambda: sender.link.unconfirmed == 0, "all with the broker")
        until(lambda: len(here.messages) >= 8, "the window is full")
        held = list(here.messages)
        assert len(held) == 8
        here.acknowledge = here.link.ack
        for message in held:
            assert here.link.ack(message)
        until(lambda: len(here.messages) == 50, "the rest follows")
    assert here.payloads() == [b"%02d" % number for number in range(50)]


def test_a_lost_broker_is_told_once_and_found_again(real: Mosquitto) -> None:
    """An outage is one warning and one restored, however often we knock; subscriptions come back."""
    with Listener(real.port) as here:
        real.kill(wipe=True)
        until(lambda: here.reasons, "the loss is told")
        assert not here.link.is_up
        with pytest.raises(LinkError, match="no connection"):
            here.link.publish("t/data", b"nobody")
        with pytest.raises(LinkError, match="no connection"):
            here.link.subscribe("t/#")
        generation = here.link.generation
        until(lambda: here.link.generation >= generation + 3, "three more attempts")
        assert len(here.reasons) == 1
        real.start()
        until(lambda: here.ups == 2, "up again")
        here.link.publish("t/data", b"back")
        until(lambda: here.messages, "arrived")
    assert here.payloads() == [b"back"]


def test_the_will_speaks_only_for_the_dead(real: Mosquitto) -> None:
    """An orderly end says nothing; a broken connection makes the broker say offline."""
    will = Will("t/status", b"offline", 1, False)
    with Listener(real.port) as here:
        orderly = Listener(real.port, "orderly", will=will)
        orderly.link.start()
        until(lambda: orderly.ups, "up")
        orderly.link.stop()
        # the same client id again: the broker throws the first one out without a goodbye
        with Listener(real.port, "broken", will=will), Listener(real.port, "broken"):
            until(lambda: here.messages, "the will is published")
    assert here.payloads() == [b"offline"]


def test_a_pulled_cable_is_noticed_and_forgiven(broker: AnyBroker) -> None:
    """For drills: no goodbye, so the will is published; while it is out nothing is sent; then the link is as before."""
    with Listener(broker.port, protocol=broker.protocol) as here:
        until(lambda: _is_subscribed(here), "subscribed")
        with Listener(broker.port, "drill", protocol=broker.protocol, will=Will("t/status", b"offline")) as drill:
            drill.link.pull(True)
            until(lambda: b"offline" in here.payloads(), "the will is published")
            until(lambda: not drill.link.is_up, "it knows")
            with pytest.raises(LinkError, match="no connection"):
                drill.link.publish("t/data", b"lost")
            drill.link.pull(False)
            until(lambda: drill.ups == 2, "up again")
            drill.link.publish("t/data", b"back")
            until(lambda: b"back" in here.payloads(), "arrived")
    assert b"lost" not in here.payloads()


def test_stop_sends_what_is_queued(real: Mosquitto) -> None:
    """The last word of a gateway, its offline status, is not swallowed by its end."""
    with Listener(real.port) as here:
        sender = Listener(real.port, "sender")
        sender.link.start()
        until(lambda: sender.ups, "up")
        for number in range(100):
            sender.link.publish("t/data", b"%d" % number * 1000)
        sender.link.stop()
        until(lambda: len(here.messages) == 100, "all arrived")
    assert "mqtt-sender" not in {thread.name for thread in threading.enumerate()}


def test_a_broker_that_knows_only_the_old_version_is_found_by_trying() -> None:
    """With nothing configured the link tries MQTT 5, then 3.1.1."""
    with embedded() as broker, Listener(broker.port, protocol="auto") as here:
        until(lambda: _is_subscribed(here), "heard ourselves")
    assert here.ups == 1


def test_a_listener_that_is_no_broker_is_refused_with_a_reason() -> None:
    """A wrong port number shows as a reason, not as silence."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        here = Listener(port, protocol="5")
        here.link.start()
        peer, _ = server.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        until(lambda: here.reasons, "told")
        here.link.stop()
    assert here.ups == 0


def test_nobody_listening_is_told_with_the_systems_words() -> None:
    """The reason says what the operating system said."""
    here = Listener(free_port())
    here.link.start()
    until(lambda: here.reasons, "told")
    here.link.stop()
    assert "refused" in here.reasons[0].lower()


def test_a_callback_with_a_bug_costs_one_connection(real: Mosquitto) -> None:
    """The link reports the traceback and comes back; it does not die silently with its thread."""
    with Listener(real.port) as here:

        def fail(_: Message) -> bool:
            raise ValueError("a bug")

        here.acknowledge = fail
        here.link.publish("t/data", b"x")
        until(lambda: here.ups == 2, "up again")
        assert here.reasons == ["a bug"]
