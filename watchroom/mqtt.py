"""The one door to MQTT: a link that keeps itself alive in one named thread (paho-mqtt).

Every connection gets a fresh paho client. What was under way on the old one is forgotten on purpose: the
caller's outbox or journal knows better what to send again, and an acknowledgement can never reach
another connection's message, although brokers use the same message ids again.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from watchroom.errors import ConfigError, LinkError
from watchroom.settings import MqttSettings
from watchroom.tls import client_context

log = structlog.get_logger(__name__)

KEEP_ALIVE_S = 10
ANSWER_S = 5.0
PULLED_S = 0.2
BACK_OFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SESSION_EXPIRY_S = 7 * 24 * 3600
DRAIN_S = 2.0
QUEUE_LIMIT = 10_000
QUICK_ANSWER: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux alone has it
"""Publishes that may wait in memory for a slow network; beyond it `publish` refuses."""
_VERSIONS = {
    "auto": (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311),
    "5": (MQTTProtocolVersion.MQTTv5,),
    "3.1.1": (MQTTProtocolVersion.MQTTv311,),
}


class Message(NamedTuple):
    """One message from the broker.

    Attributes:
        mid: The broker's number of this delivery; meaningless on another connection.
        generation: Which connection of the link it came by.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    mid: int
    generation: int


class Will(NamedTuple):
    """What the broker publishes when the link dies."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


class MqttLink:
    """One connection to a broker, made again whenever it is lost. MQTT 5 where the broker speaks it, else 3.1.1.

    The callbacks run in the link's thread and must not block; they may publish, subscribe and acknowledge.

    Args:
        settings: Broker, account and TLS.
        client_id: Names the session at the broker.
        manual_ack: QoS 1 messages are acknowledged by `ack` only.
        clean: Forget the session when the connection ends; False keeps it for a week.
        will: Published by the broker when the link dies.
        receive_maximum: Most unacknowledged messages the broker may have under way to us (MQTT 5 only).
        on_message: Called for each message.
        on_up: Called when a connection is ready; subscribe here.
        on_down: Called with the reason when it is lost, and once when the first attempt fails.
    """

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        *,
        manual_ack: bool = False,
        clean: bool = True,
        will: Will | None = None,
        receive_maximum: int = 256,
        on_message: Callable[[Message], None] | None = None,
        on_up: Callable[[], None] | None = None,
        on_down: Callable[[str], None] | None = None,
    ) -> None:
        self._settings, self._client_id = settings, client_id
        if settings.tls:
            self._tls()  # a wrong file is told now
        self._manual_ack, self._clean, self._will = manual_ack, clean, will
        self._receive_maximum = receive_maximum
        self._on_message, self._on_up, self._on_down = on_message, on_up, on_down
        self._client: paho.Client | None = None
        self._generation = 0
        self._is_up = False
        self._is_told_down = False
        self._reason = ""
        self._versions = list(_VERSIONS[settings.protocol])
        self._unconfirmed: set[int] = set()
        self._stopping = threading.Event()
        self._stop_by_s = 0.0
        self._thread: threading.Thread | None = None
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._is_waking = False
        self._is_pulled = False

    @property
    def is_up(self) -> bool:
        """Whether messages can be sent at the moment."""
        return self._is_up

    @property
    def generation(self) -> int:
        """Number of the current connection, from 1."""
        return self._generation

    @property
    def unconfirmed(self) -> int:
        """QoS 1 publishes of this connection that the broker has not confirmed yet."""
        return len(self._unconfirmed)

    def start(self) -> None:
        """Connect, and stay connected until `stop`."""
        if self._thread is not None:
            raise RuntimeError("the link was started before")
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{self._client_id}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Send what is queued, disconnect in order (the will is not published), and end the thread."""
        self._stopping.set()
        self._wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return
        self._wake_in.close()
        self._wake_out.close()

    def pull(self, is_out: bool) -> None:
        """Pull the cable out, or put it in again: no goodbye, the broker publishes the will. For drills."""
        self._is_pulled = is_out
        self._wake()

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Queue a message and return its number; never blocks.

        Raises:
            LinkError: If there is no connection, or too much is queued. Nothing is kept for later.
        """
        client = self._ready()
        info = client.publish(topic, payload, qos, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkError(f"{topic}: {paho.error_string(info.rc)}")
        if qos:
            self._unconfirmed.add(info.mid)
        self._wake()
        return info.mid

    def subscribe(self, *filters: str, qos: int = 1) -> None:
        """Ask for topics; for this connection, so call it in `on_up`.

        Raises:
            LinkError: If there is no connection.
        """
        client = self._ready()
        result, _ = client.subscribe([(name, qos) for name in filters])
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkError(f"{filters}: {paho.error_string(result)}")
        self._wake()

    def ack(self, message: Message) -> bool:
        """Acknowledge a message; False if its connection is gone, in which case the broker sends it again."""
        client = self._client
        if message.generation != self._generation or client is None or not self._is_up:
            return False
        client.ack(message.mid, message.qos)
        self._wake()
        return True

    def _ready(self) -> paho.Client:
        client = self._client
        if client is None or not self._is_up:
            raise LinkError(f"no connection to the broker {self._settings.host}:{self._settings.port}")
        return client

    def _wake(self) -> None:
        if not self._is_waking:
            self._is_waking = True
            with contextlib.suppress(OSError):
                self._wake_in.send(b"\0")

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            if self._is_pulled:
                self._stopping.wait(PULLED_S)
                continue
            self._generation += 1
            reason = self._connect_and_serve()
            was_up, self._is_up, self._client = self._is_up, False, None
            self._unconfirmed = set()
            if self._stopping.is_set():
                break
            self._tell_down(reason)
            attempt = 0 if was_up else attempt + 1
            self._stopping.wait(BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)])

    def _tell_down(self, reason: str) -> None:
        if self._is_told_down:
            return
        self._is_told_down = True
        log.warning("broker lost", broker=f"{self._settings.host}:{self._settings.port}", reason=reason)
        if self._on_down is not None:
            self._on_down(reason)

    def _connect_and_serve(self) -> str:
        """Live through one connection; return why it ended."""
        self._reason = ""
        version = self._versions[0]
        try:
            # certificates are read anew: they may have been renewed
            self._client = client = self._make_client(version)
            client.connect(
                self._settings.host,
                self._settings.port,
                KEEP_ALIVE_S,
                clean_start=self._clean if version == MQTTProtocolVersion.MQTTv5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
                properties=self._connect_properties(version),
            )
        except (OSError, ValueError, ConfigError) as exc:
            return str(exc) or type(exc).__name__
        generation = self._generation
        try:
            self._serve(client)
        except Exception as exc:  # the boundary of one connection: a broker's nonsense must not end the link
            log.exception("mqtt link failed", client_id=self._client_id)
            self._reason = str(exc)
        finally:
            self._close(client)
        if not self._is_up and generation == self._generation:
            # a broker of the older version answers an MQTT 5 greeting by hanging up
            self._versions.append(self._versions.pop(0))
        return self._reason or "connection closed by the broker"

    def _serve(self, client: paho.Client) -> None:
        """Move packets until the connection ends."""
        begun = time.monotonic()
        sock = client.socket()
        if isinstance(sock, socket.socket):
            # an acknowledgement is a few bytes: it must not wait for the peer's delayed TCP answer
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _answer_tcp_at_once(sock)
        while (sock := client.socket()) is not None:
            if self._stopping.is_set() and self._is_drained(client):
                return
            if self._is_pulled:
                self._reason = "the cable is pulled"
                return
            if not self._is_up and time.monotonic() - begun > ANSWER_S:
                self._reason = "the broker does not answer"
                return
            waits_ms = 0 if isinstance(sock, ssl.SSLSocket) and sock.pending() else 500
            # poll, because select refuses file numbers above 1023
            poll = select.poll()
            poll.register(sock, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
            poll.register(self._wake_out, select.POLLIN)
            events = dict(poll.poll(waits_ms))
            found = events.get(sock.fileno(), 0)
            if self._wake_out.fileno() in events:
                with contextlib.suppress(BlockingIOError):
                    self._wake_out.recv(64)
                self._is_waking = False
            if found & ~select.POLLOUT or waits_ms == 0:
                client.loop_read()
                _answer_tcp_at_once(client.socket())
            if client.want_write() and client.socket() is not None:
                client.loop_write()
            if client.socket() is None or client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return

    def _is_drained(self, client: paho.Client) -> bool:
        """Whether everything was sent and confirmed, or has had time enough."""
        if self._stop_by_s == 0.0:
            self._stop_by_s = time.monotonic() + DRAIN_S
        is_idle = not client.want_write() and not self._unconfirmed
        return not self._is_up or is_idle or time.monotonic() > self._stop_by_s

    def _close(self, client: paho.Client) -> None:
        sock = client.socket()
        if sock is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if not (self._is_up and self._stopping.is_set()):
                sock.close()
                return
            # paho closes at once after DISCONNECT; with unread input that resets the connection, and the
            # broker may then lose the goodbye and publish the will. So hold the line until it hangs up.
            with socket.socket(fileno=os.dup(sock.fileno())) as line:
                client.disconnect()
                client.loop_write()
                line.settimeout(DRAIN_S)
                line.shutdown(socket.SHUT_WR)
                while line.recv(65536):
                    pass

    def _make_client(self, version: MQTTProtocolVersion) -> paho.Client:
        is_v5 = version == MQTTProtocolVersion.MQTTv5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if is_v5 else self._clean,
            protocol=version,
            reconnect_on_failure=False,
            manual_ack=self._manual_ack,
        )
        settings = self._settings
        if settings.username is not None:
            client.username_pw_set(
                settings.username, settings.password.get_secret_value() if settings.password else None
            )
        if settings.tls:
            client.tls_set_context(self._tls())
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, self._will.qos, self._will.retain)
        client.connect_timeout = ANSWER_S
        client.max_inflight_messages_set(QUEUE_LIMIT)
        client.max_queued_messages_set(QUEUE_LIMIT)
        # with this callback set paho leaves writing to our loop instead of writing from any caller's thread
        client.on_socket_register_write = lambda *_: None
        client.on_socket_unregister_write = lambda *_: None
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_message = self._arrived
        client.on_publish = self._confirmed
        return client

    def _tls(self) -> ssl.SSLContext:
        settings = self._settings
        return client_context(
            ca_file=settings.ca_file, cert_file=settings.cert_file, cert_key_file=settings.cert_key_file
        )

    def _connect_properties(self, version: MQTTProtocolVersion) -> Properties | None:
        if version != MQTTProtocolVersion.MQTTv5:
            return None
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = self._receive_maximum
        if not self._clean:
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
        return properties

    def _connected(
        self, _client: paho.Client, _data: object, _flags: object, code: ReasonCode, _properties: object
    ) -> None:
        if code.is_failure:
            self._reason = f"the broker refuses: {code}"
            return
        self._is_up = True
        if self._is_told_down:
            log.info("broker restored", broker=f"{self._settings.host}:{self._settings.port}")
        self._is_told_down = False
        if self._on_up is not None:
            self._on_up()

    def _disconnected(
        self, _client: paho.Client, _data: object, _flags: object, code: ReasonCode, _properties: object
    ) -> None:
        self._reason = self._reason or str(code)

    def _arrived(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        arrived = Message(
            topic, bytes(message.payload), message.qos, message.retain, message.dup, message.mid, self._generation
        )
        if self._on_message is not None:
            self._on_message(arrived)

    def _confirmed(self, _client: paho.Client, _data: object, mid: int, _code: ReasonCode, _properties: object) -> None:
        self._unconfirmed.discard(mid)


def _answer_tcp_at_once(sock: Any) -> None:
    """Let the kernel confirm what was read now: a broker without TCP_NODELAY holds its next message back up to 40 ms.

    Linux forgets the option while it serves the connection, so it is set again after each read.
    """
    if QUICK_ANSWER is not None and sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, QUICK_ANSWER, 1)
