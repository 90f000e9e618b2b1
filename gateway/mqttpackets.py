"""The part of MQTT 3.1.1 and 5 that a server for readers needs: bytes <-> packets. Pure.

Left out on purpose: QoS 2, retained messages, topic aliases, subscription options, enhanced authentication. A client
learns so from the answers to CONNECT and SUBSCRIBE. Source: OASIS MQTT 3.1.1 and 5.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from watchroom.errors import ContractError

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 10, 11, 12, 13, 14
V311, V5 = 4, 5
MAX_LENGTH = 4 * 1024 * 1024 + 65_536 + 64
ACCEPTED, BAD_VERSION, BAD_ID, BUSY, BAD_ACCOUNT = "accepted", "version", "id", "busy", "account"
_REFUSALS = {BAD_VERSION: (1, 0x84), BAD_ID: (2, 0x85), BUSY: (3, 0x89), BAD_ACCOUNT: (4, 0x86), ACCEPTED: (0, 0)}
PACKET_TOO_LARGE, QOS_UNSUPPORTED, MALFORMED, TAKEN_OVER = 0x95, 0x9B, 0x81, 0x8E


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as it came: its type, flags of the first byte, and content."""

    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Who wants to come in.

    Attributes:
        will: Topic and payload that stand for a lost connection, None for none.
        keep_alive_s: The client says something at least this often; 0 for never.
    """

    version: int
    client_id: str
    keep_alive_s: int
    is_clean: bool
    will: tuple[str, bytes] | None
    username: str | None
    password: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """A message of a client; ``mid`` is 0 for QoS 0."""

    topic: str
    payload: bytes
    qos: int
    is_retained: bool
    is_dup: bool
    mid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """Topic filters a client wants, with the QoS it asks for; for UNSUBSCRIBE the QoS is 0."""

    mid: int
    filters: tuple[tuple[str, int], ...]


class PacketReader:
    """Cuts a stream into packets; holds at most one incomplete packet."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Take what the line gave and yield the packets that are complete now.

        Raises:
            ContractError: ``length`` if a packet is too long or its length no number; the stream is lost then.
        """
        self._buffer += data
        while True:
            head = _length(self._buffer)
            if head is None:
                return
            length, start = head
            if length > MAX_LENGTH:
                raise ContractError("length", f"a packet of {length} bytes")
            if len(self._buffer) < start + length:
                return
            first, body = self._buffer[0], bytes(self._buffer[start : start + length])
            del self._buffer[: start + length]
            yield Packet(first >> 4, first & 15, body)


def _length(buffer: bytearray) -> tuple[int, int] | None:
    """The remaining length and where the content begins; None while bytes are missing."""
    value = 0
    for i in range(1, 5):
        if i >= len(buffer):
            return None
        value |= (buffer[i] & 0x7F) << 7 * (i - 1)
        if not buffer[i] & 0x80:
            return value, i + 1
    raise ContractError("length", "a length of more than four bytes")


class _Fields:
    """Reads the fields of a packet's content one after the other; ContractError where they end too early."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._body)

    def take(self, size: int) -> bytes:
        part = self._body[self._at : self._at + size]
        if len(part) != size:
            raise ContractError("malformed", "a packet ends too early")
        self._at += size
        return part

    def byte(self) -> int:
        return self.take(1)[0]

    def word(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def data(self) -> bytes:
        return self.take(self.word())

    def text(self) -> str:
        try:
            text = self.data().decode()
        except UnicodeDecodeError as exc:
            raise ContractError("malformed", "a text is not UTF-8") from exc
        if "\0" in text:
            raise ContractError("malformed", "a text holds a zero")
        return text

    def properties(self) -> None:
        """Pass over the properties of MQTT 5: none of them changes what we do."""
        size = shift = 0
        for _ in range(4):
            octet = self.byte()
            size |= (octet & 0x7F) << shift
            shift += 7
            if not octet & 0x80:
                break
        else:
            raise ContractError("malformed", "properties of no length")
        self.take(size)

    def rest(self) -> bytes:
        return self.take(len(self._body) - self._at)


def decode_connect(packet: Packet) -> Connect:
    """Return what a CONNECT says.

    Raises:
        ContractError: ``version`` for a protocol that is neither 3.1.1 nor 5, ``malformed`` otherwise.
    """
    fields = _Fields(packet.body)
    name, version, flags = fields.data(), fields.byte(), 0
    if name != b"MQTT" or version not in (V311, V5):
        raise ContractError("version", f"{name!r} {version}")
    flags, keep_alive = fields.byte(), fields.word()
    if version == V5:
        fields.properties()
    client_id = fields.text()
    will = None
    if flags & 0x04:
        if version == V5:
            fields.properties()
        will = fields.text(), fields.data()
        if not is_topic(will[0]):
            raise ContractError("malformed", f"{will[0]!r} is no topic")
    username = fields.text() if flags & 0x80 else None
    password = fields.data() if flags & 0x40 else b""
    if not fields.is_over or flags & 1:
        raise ContractError("malformed", "a CONNECT with more than it says")
    return Connect(
        version=version,
        client_id=client_id,
        keep_alive_s=keep_alive,
        is_clean=bool(flags & 2),
        will=will,
        username=username,
        password=password,
    )


def decode_publish(packet: Packet, version: int) -> Publish:
    """Return a message.

    Raises:
        ContractError: ``qos`` for QoS 2, ``malformed`` otherwise.
    """
    fields = _Fields(packet.body)
    qos = packet.flags >> 1 & 3
    topic = fields.text()
    if qos > 1:
        raise ContractError("qos", f"QoS {qos} on {topic!r}")
    mid = fields.word() if qos else 0
    if version == V5:
        fields.properties()
    if not is_topic(topic) or (qos and not mid):
        raise ContractError("malformed", f"{topic!r} with number {mid}")
    return Publish(
        topic=topic,
        payload=fields.rest(),
        qos=qos,
        is_retained=bool(packet.flags & 1),
        is_dup=bool(packet.flags & 8),
        mid=mid,
    )


def decode_subscribe(packet: Packet, version: int) -> Subscribe:
    """Return the filters of a SUBSCRIBE or UNSUBSCRIBE.

    Raises:
        ContractError: ``malformed``.
    """
    fields = _Fields(packet.body)
    mid = fields.word()
    if version == V5:
        fields.properties()
    filters: list[tuple[str, int]] = []
    while not fields.is_over:
        text = fields.text()
        filters.append((text, fields.byte() & 3 if packet.kind == SUBSCRIBE else 0))
    if not mid or not filters:
        raise ContractError("malformed", "a subscription to nothing")
    return Subscribe(mid=mid, filters=tuple(filters))


def decode_mid(packet: Packet) -> int:
    """Return the number of a PUBACK.

    Raises:
        ContractError: ``malformed``.
    """
    return _Fields(packet.body).word()


def encode(kind: int, body: bytes, *, flags: int = 0) -> bytes:
    """Return a packet."""
    head, length = bytearray([kind << 4 | flags]), len(body)
    while True:
        length, octet = divmod(length, 128)
        head.append(octet | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def encode_connack(version: int, outcome: str, *, receive_maximum: int, assigned_id: str = "") -> bytes:
    """Return the answer to CONNECT; to a client of MQTT 5 it says what this server does not do."""
    old, new = _REFUSALS[outcome]
    if version != V5:
        return encode(CONNACK, bytes((0, old)))
    properties = b""
    if outcome == ACCEPTED:
        # at most QoS 1, nothing retained, no shared subscriptions; so many unacknowledged messages
        properties = struct.pack(">BHBBBBBB", 0x21, receive_maximum, 0x24, 1, 0x25, 0, 0x2A, 0)
        properties += struct.pack(">BI", 0x27, MAX_LENGTH)
        if assigned_id:
            properties += b"\x12" + _text(assigned_id)
    return encode(CONNACK, bytes((0, new)) + _sized(properties))


def encode_publish(topic: str, payload: bytes, *, qos: int, mid: int, version: int) -> bytes:
    """Return a message to a client."""
    number = mid.to_bytes(2, "big") if qos else b""
    return encode(PUBLISH, _text(topic) + number + (b"\0" if version == V5 else b"") + payload, flags=qos << 1)


def encode_puback(mid: int) -> bytes:
    """Return the acknowledgement of a message."""
    return encode(PUBACK, mid.to_bytes(2, "big"))


def encode_suback(mid: int, codes: list[int], *, version: int) -> bytes:
    """Return the answer to SUBSCRIBE: the granted QoS of each filter, 0x80 and more for refused."""
    return encode(SUBACK, mid.to_bytes(2, "big") + (b"\0" if version == V5 else b"") + bytes(codes))


def encode_unsuback(mid: int, count: int, *, version: int) -> bytes:
    """Return the answer to UNSUBSCRIBE."""
    return encode(UNSUBACK, mid.to_bytes(2, "big") + (b"\0" + bytes(count) if version == V5 else b""))


def is_topic(topic: str) -> bool:
    """Whether a message may have this topic."""
    return bool(topic) and not any(sign in topic for sign in "+#\0")


def is_filter(text: str) -> bool:
    """Whether a subscription may have this filter."""
    levels = text.split("/")
    if not text or text.startswith("$share/"):
        return False
    return all(
        level in ("+",) or ("+" not in level and ("#" not in level or (level == "#" and i == len(levels) - 1)))
        for i, level in enumerate(levels)
    )


def matches(filter_: str, topic: str) -> bool:
    """Whether a topic belongs to a subscription."""
    wanted, levels = filter_.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i >= len(levels) or level not in ("+", levels[i]):
            return False
    return len(wanted) == len(levels)


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def _sized(properties: bytes) -> bytes:
    assert len(properties) < 128
    return bytes([len(properties)]) + properties
