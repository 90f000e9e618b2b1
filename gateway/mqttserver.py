"""A small MQTT server that readers connect to, so that a PUBACK means: on the disk (docs/adr/0010)."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from gateway import mqttpackets as packets
from gateway.listening import listening
from gateway.mqttpackets import (
    ACCEPTED,
    BAD_ACCOUNT,
    BAD_ID,
    BAD_VERSION,
    BUSY,
    CONNECT,
    DISCONNECT,
    MALFORMED,
    PACKET_TOO_LARGE,
    PINGRESP,
    QOS_UNSUPPORTED,
    TAKEN_OVER,
    UNSUBSCRIBE,
    V5,
    V311,
    Connect,
    Packet,
    PacketReader,
    decode_connect,
    decode_publish,
    decode_subscribe,
    encode,
    encode_connack,
    encode_puback,
    encode_publish,
    encode_suback,
    encode_unsuback,
    is_filter,
    matches,
)
from watchroom.errors import ContractError, LinkError
from watchroom.mqtt import Message

if TYPE_CHECKING:
    from gateway.config import LinkConfig

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 512
WINDOW = 32
"""Unacknowledged messages of one reader; beyond it we do not read from it any more."""
CONNECT_S = 10.0
MAX_SUBSCRIPTIONS = 32
MAX_UNSENT = 1 << 20
_REASONS = {"length": PACKET_TOO_LARGE, "qos": QOS_UNSUPPORTED}


class _Connection:
    """One reader that is connected."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number, self.reader, self.writer = number, reader, writer
        peer = writer.get_extra_info("peername")
        self.host = str(peer[0]) if peer else ""
        self.packets = PacketReader()
        self.hello: Connect | None = None
        self.version = V311
        self.client_id = ""
        self.open = 0
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.filters: dict[str, int] = {}
        self.mid = 0
        self.is_left = False

    def send(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)

    def acknowledge(self, mid: int) -> None:
        self.open -= 1
        if self.open < WINDOW:
            self.has_room.set()
        self.send(encode_puback(mid))

    def end(self, reason: int) -> None:
        """Close it; a client of MQTT 5 is told why."""
        if self.version == V5 and self.hello is not None:
            self.send(encode(DISCONNECT, bytes((reason, 0))))
        self.is_left |= reason == TAKEN_OVER
        self.writer.close()


class MqttServer:
    """Takes messages of readers and hands them on; what is not acknowledged the reader sends again.

    Readers do not see each other's messages: a subscription gets only what the gateway itself publishes (replies).

    Args:
        link: Where to listen, and who may come in.
        on_message: Called in the event loop with each message; `ack` follows for QoS 1.
        on_open: Called when the port is open.
    """

    def __init__(self, link: LinkConfig, *, on_message: Callable[[Message], None], on_open: Callable[[], None]) -> None:
        self._link, self._on_message, self._on_open = link, on_message, on_open
        self._connections: dict[int, _Connection] = {}
        self._number = 0
        self._counts: Counter[str] = Counter()

    def status(self) -> dict[str, Any]:
        """Return what the health page shows."""
        ids = sorted(item.client_id for item in self._connections.values() if item.hello is not None)
        return {"readers": ids[:50], "connections": len(self._connections), "turned_away": dict(self._counts)}

    def start(self) -> None:
        """Nothing to do before `run`."""

    def stop(self) -> None:
        """Nothing to do after `run`."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                self._number += 1
                connection = _Connection(self._number, reader, writer)
                if len(self._connections) >= MAX_CONNECTIONS or not self._link.admission.admits_host(connection.host):
                    self._counts["host"] += 1
                    writer.close()
                    return
                self._connections[connection.number] = connection
                group.create_task(self._serve(connection), name=f"reader {connection.number}")

            server = await listening(connected, self._link.host, self._link.port)
            self._on_open()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                server.close()

    def ack(self, message: Message) -> bool:
        """Acknowledge a message; False if its reader has gone, which sends it again."""
        connection = self._connections.get(message.generation)
        if connection is None:
            return False
        connection.acknowledge(message.mid)
        return True

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Send a message to the readers that have subscribed to it, and return how many there were.

        Raises:
            LinkError: If there is none, or it does not read what it is sent.
        """
        sent = 0
        for connection in self._connections.values():
            granted = [granted for name, granted in connection.filters.items() if matches(name, topic)]
            if not granted or connection.writer.transport.get_write_buffer_size() > MAX_UNSENT:
                continue
            connection.mid = connection.mid % 0xFFFF + 1
            level = min(qos, max(granted))
            connection.send(encode_publish(topic, payload, qos=level, mid=connection.mid, version=connection.version))
            sent += 1
        if not sent:
            raise LinkError(f"nobody listens to {topic}")
        return sent

    async def _serve(self, connection: _Connection) -> None:
        try:
            await self._talk(connection)
        except ContractError as exc:
            self._counts[exc.reason] += 1
            log.warning("reader breaks the protocol", host=connection.host, reason=exc.reason, detail=exc.detail)
            connection.end(_REASONS.get(exc.reason, MALFORMED))
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as exc:
            log.debug("reader lost", host=connection.host, reason=repr(exc))
        except Exception:  # the boundary of one reader: it must not stop the others
            log.exception("reader failed", host=connection.host)
        finally:
            del self._connections[connection.number]
            connection.writer.close()
        hello = connection.hello
        if hello is not None and hello.will is not None and not connection.is_left:
            self._on_message(Message(hello.will[0], hello.will[1], 0, False, False, 0, connection.number))

    async def _talk(self, connection: _Connection) -> None:
        limit_s: float | None = CONNECT_S
        is_first = True
        while True:
            await connection.has_room.wait()
            async with asyncio.timeout(limit_s):
                data = await connection.reader.read(65_536)
            if not data:
                return
            if is_first and data[0] != CONNECT << 4:
                raise ContractError("malformed", "something that is no MQTT")
            is_first = False
            for packet in connection.packets.feed(data):
                if connection.hello is None:
                    if not self._welcome(connection, packet):
                        return
                    assert connection.hello is not None
                    alive_s = connection.hello.keep_alive_s
                    limit_s = 1.5 * alive_s if alive_s else None
                elif not self._packet(connection, packet):
                    return
            await connection.writer.drain()

    def _welcome(self, connection: _Connection, packet: Packet) -> bool:
        """Answer CONNECT; False if the client may not come in."""
        if packet.kind != CONNECT:
            raise ContractError("malformed", f"packet {packet.kind} before CONNECT")
        try:
            hello = decode_connect(packet)
        except ContractError as exc:
            if exc.reason == "version":
                connection.send(encode_connack(V311, BAD_VERSION, receive_maximum=WINDOW))
            raise
        outcome = self._outcome(hello)
        assigned = "" if hello.client_id else f"auto-{secrets.token_hex(8)}"
        connection.send(encode_connack(hello.version, outcome, receive_maximum=WINDOW, assigned_id=assigned))
        if outcome != ACCEPTED:
            self._counts[outcome] += 1
            log.warning("reader turned away", host=connection.host, client=hello.client_id[:64], reason=outcome)
            return False
        client_id = hello.client_id or assigned
        for other in list(self._connections.values()):
            if other.client_id == client_id:
                other.end(TAKEN_OVER)
        connection.hello, connection.version, connection.client_id = hello, hello.version, client_id
        return True

    def _outcome(self, hello: Connect) -> str:
        if not hello.client_id and hello.version == V311 and not hello.is_clean:
            return BAD_ID
        password = hello.password.decode(errors="replace")
        if not self._link.admission.admits_user(hello.username or "", password):
            return BAD_ACCOUNT
        return BUSY if len(self._connections) > MAX_CONNECTIONS else ACCEPTED

    def _packet(self, connection: _Connection, packet: Packet) -> bool:
        """Take one packet; False at the end of the session."""
        match packet.kind:
            case packets.PUBLISH:
                self._published(connection, packet)
            case packets.PUBACK:
                pass  # a reply has arrived; had it not, the reader would send its record again
            case packets.SUBSCRIBE | packets.UNSUBSCRIBE:
                self._subscribed(connection, packet)
            case packets.PINGREQ:
                connection.send(encode(PINGRESP, b""))
            case packets.DISCONNECT:
                # MQTT 5, reason 4: the client leaves and wants its will to be published
                connection.is_left = not (connection.version == V5 and packet.body[:1] == b"\x04")
                return False
            case _:
                raise ContractError("malformed", f"packet {packet.kind} from a client")
        return True

    def _published(self, connection: _Connection, packet: Packet) -> None:
        found = decode_publish(packet, connection.version)
        if found.qos:
            connection.open += 1
            if connection.open >= WINDOW:
                connection.has_room.clear()
        self._on_message(
            Message(
                found.topic,
                found.payload,
                found.qos,
                found.is_retained,
                found.is_dup,
                found.mid,
                connection.number,
            )
        )

    def _subscribed(self, connection: _Connection, packet: Packet) -> None:
        request = decode_subscribe(packet, connection.version)
        if packet.kind == UNSUBSCRIBE:
            for name, _ in request.filters:
                connection.filters.pop(name, None)
            connection.send(encode_unsuback(request.mid, len(request.filters), version=connection.version))
            return
        codes = []
        for name, qos in request.filters:
            has_room = name in connection.filters or len(connection.filters) < MAX_SUBSCRIPTIONS
            if is_filter(name) and has_room:
                connection.filters[name] = min(qos, 1)
                codes.append(min(qos, 1))
            else:
                codes.append(0x80)
        connection.send(encode_suback(request.mid, codes, version=connection.version))
