"""MQTT packets: what a strange client sends costs its own connection and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqttpackets import (
    ACCEPTED,
    BAD_ACCOUNT,
    CONNACK,
    MAX_LENGTH,
    PUBLISH,
    SUBSCRIBE,
    UNSUBSCRIBE,
    V5,
    V311,
    Packet,
    PacketReader,
    decode_connect,
    decode_mid,
    decode_publish,
    decode_subscribe,
    encode,
    encode_connack,
    encode_puback,
    encode_publish,
    encode_suback,
    encode_unsuback,
    is_filter,
    is_topic,
    matches,
)
from watchroom.errors import ContractError

# a CONNECT of the specification's kind: user, password, will, clean, keep-alive 60
HELLO = bytes.fromhex("00044d51545404ce003c") + b"\0\x02r1\0\x04gone\0\x01x\0\x01u\0\x02pw"


def test_a_connect_is_read_field_by_field() -> None:
    """Name, keep-alive, will and account of a reader."""
    hello = decode_connect(Packet(1, 0, HELLO))
    assert (hello.version, hello.client_id, hello.keep_alive_s, hello.is_clean) == (V311, "r1", 60, True)
    assert (hello.will, hello.username, hello.password) == (("gone", b"x"), "u", b"pw")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (HELLO[:-1], "malformed"),
        (HELLO + b"\0", "malformed"),
        (b"\0\x06MQIsdp\x03" + HELLO[7:], "version"),
        (HELLO[:6] + b"\x03" + HELLO[7:], "version"),
        (HELLO.replace(b"\0\x04gone", b"\0\x04go+e"), "malformed"),
        (HELLO.replace(b"\0\x02r1", b"\0\x02\xff1"), "malformed"),
        (b"", "malformed"),
    ],
)
def test_a_strange_connect_is_refused_with_a_reason(body: bytes, reason: str) -> None:
    """A wrong protocol, a will to a filter, half a packet: each has its counter."""
    with pytest.raises(ContractError) as caught:
        decode_connect(Packet(1, 0, body))
    assert caught.value.reason == reason


@given(st.lists(st.tuples(st.integers(1, 14), st.binary(max_size=300)), max_size=5), st.data())
def test_packets_split_anyhow_come_out_whole(sent: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """However TCP cuts the stream, the packets are the same."""
    stream = b"".join(encode(kind, body) for kind, body in sent)
    reader, got = PacketReader(), list[Packet]()
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += reader.feed(stream[:size])
        stream = stream[size:]
    assert [(packet.kind, packet.body) for packet in got] == sent


@given(st.binary(max_size=400), st.sampled_from([V311, V5]))
def test_any_bytes_are_packets_or_a_counted_refusal(noise: bytes, version: int) -> None:
    """Whatever a client sends: packets, or a refusal with a reason; nothing else."""
    reasons = set()
    try:
        for packet in PacketReader().feed(noise):
            for decode in (
                lambda p: decode_connect(p),
                lambda p: decode_publish(p, version),
                lambda p: decode_subscribe(p, version),
                decode_mid,
            ):
                try:
                    decode(packet)
                except ContractError as exc:
                    reasons.add(exc.reason)
    except ContractError as exc:
        reasons.add(exc.reason)
    assert reasons <= {"malformed", "qos", "version", "length"}


def test_a_packet_that_says_it_is_huge_is_refused_before_it_comes() -> None:
    """A length beyond the largest, and one that is no number, end the connection at once."""
    with pytest.raises(ContractError, match="length"):
        list(PacketReader().feed(b"\x30\xff\xff\xff\x7f"))
    with pytest.raises(ContractError, match="length"):
        list(PacketReader().feed(b"\x30\xff\xff\xff\xff\x7f"))
    assert MAX_LENGTH > 4 * 1024 * 1024


topics = st.text(st.characters(codec="utf-8", exclude_characters="+#\0"), min_size=1, max_size=20)


@given(topics, st.binary(max_size=100), st.integers(0, 1), st.integers(1, 0xFFFF), st.sampled_from([V311, V5]))
def test_a_message_comes_back_as_it_went(topic: str, payload: bytes, qos: int, mid: int, version: int) -> None:
    """Topic, payload, QoS and number survive both versions of the protocol."""
    raw = encode_publish(topic, payload, qos=qos, mid=mid, version=version)
    (packet,) = PacketReader().feed(raw)
    assert packet.kind == PUBLISH
    found = decode_publish(packet, version)
    assert (found.topic, found.payload, found.qos, found.mid) == (topic, payload, qos, mid * qos)


def test_qos_2_is_refused_by_name() -> None:
    """A client that asks for exactly once is told, not misunderstood."""
    body = b"\0\x01t\0\x01x"
    with pytest.raises(ContractError, match="qos"):
        decode_publish(Packet(PUBLISH, 4, body), V311)


def test_subscriptions() -> None:
    """SUBSCRIBE and UNSUBSCRIBE of both versions."""
    body = b"\0\x07" + b"\0\x03a/+\x01" + b"\0\x01b\x02"
    assert decode_subscribe(Packet(SUBSCRIBE, 2, body), V311).filters == (("a/+", 1), ("b", 2))
    with_properties = body[:2] + b"\x02\x0b\x01" + body[2:]
    assert decode_subscribe(Packet(SUBSCRIBE, 2, with_properties), V5).filters == (("a/+", 1), ("b", 2))
    assert decode_subscribe(Packet(UNSUBSCRIBE, 2, b"\0\x07\0\x03a/+"), V311).filters == (("a/+", 0),)
    with pytest.raises(ContractError, match="nothing"):
        decode_subscribe(Packet(SUBSCRIBE, 2, b"\0\x07"), V311)


def test_answers_as_the_standard_writes_them() -> None:
    """Bytes of the answers, by hand from the specification."""
    assert encode_connack(V311, ACCEPTED, receive_maximum=9) == bytes.fromhex("20020000")
    assert encode_connack(V311, BAD_ACCOUNT, receive_maximum=9) == bytes.fromhex("20020004")
    assert encode_connack(V5, BAD_ACCOUNT, receive_maximum=9) == bytes.fromhex("2003008600")
    welcome = encode_connack(V5, ACCEPTED, receive_maximum=9, assigned_id="x")
    assert welcome[0] == CONNACK << 4
    assert bytes.fromhex("210009240125002a00") in welcome
    assert welcome.endswith(b"\x12\0\x01x")
    assert encode_puback(258) == bytes.fromhex("40020102")
    assert encode_suback(1, [1, 0x80], version=V311) == bytes.fromhex("900400010180")
    assert encode_unsuback(1, 2, version=V311) == bytes.fromhex("b0020001")
    assert encode_unsuback(1, 2, version=V5) == bytes.fromhex("b0050001000000")


@pytest.mark.parametrize(
    ("text", "topic", "fits"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/b", "$SYS/b", False),
        ("a/b", "a", False),
        ("+", "a/b", False),
    ],
)
def test_filters(text: str, topic: str, *, fits: bool) -> None:
    """The table of the specification."""
    assert is_filter(text)
    assert matches(text, topic) is fits


@pytest.mark.parametrize("text", ["", "a+", "a/#/b", "a#", "$share/g/a"])
def test_what_is_no_filter(text: str) -> None:
    """A subscription to something impossible is refused."""
    assert not is_filter(text)


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0"])
def test_what_is_no_topic(topic: str) -> None:
    """A message goes to one topic."""
    assert not is_topic(topic)
