"""How much one gateway may send: what is thinned, what never is, and that the others do not feel it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.inbox import QUEUE_BYTES, QUEUE_LIMIT, SHARE, Inbox, address
from ingest.limits import BURST_S, GATEWAYS, HELD_S, RateLimit, is_protected
from tests.ingest.sender import birth_frame, events, heartbeat, samples
from watchroom.mqtt import Message


def message(gateway: str, payload: bytes, leaf: str = "d") -> Message:
    return Message(f"wr1/spruce-court/{gateway}/{leaf}", payload, 1, False, False, 1, 1)


@given(
    pauses=st.lists(st.floats(0, 3), min_size=1, max_size=400),
    size=st.integers(1, 2000),
    rate=st.floats(0.5, 50),
    octets=st.floats(100, 50_000),
)
def test_nobody_passes_more_than_a_burst_and_the_rate(
    pauses: list[float], size: int, rate: float, octets: float
) -> None:
    """Over any stretch of time: at most ten seconds' worth at once, and then the rate; all others are counted."""
    limit = RateLimit(messages_per_s=rate, bytes_per_s=octets)
    now_s, passed = 1000.0, 0
    for pause in pauses:
        now_s += pause
        passed += limit.admit("mad", size, now_s)
        spent_s = BURST_S + now_s - 1000.0
        assert passed <= rate * spent_s + 1e-6
        assert passed * size <= octets * spent_s + 1e-3
    assert limit.dropped("mad") == len(pauses) - passed


def test_a_gateway_within_its_rate_is_never_held_back() -> None:
    """Two heartbeats and some frames a second, for an hour, and a backlog of an outage on top."""
    limit = RateLimit(messages_per_s=10, bytes_per_s=10_000)
    assert all(limit.admit("good", 900, 1000.0 + second + part / 10) for second in range(3600) for part in range(10))
    assert limit.dropped("good") == 0
    assert all(limit.admit("back", 900, 5000.0) for _ in range(100)), "the backlog of an outage at once"
    assert not limit.admit("back", 900, 5000.0)


def test_who_is_held_back_is_known_for_a_while() -> None:
    """The alarm names a state, not a moment: it stays while the gateway goes on and for ten seconds after."""
    limit = RateLimit(messages_per_s=1, bytes_per_s=1e6)
    assert [limit.admit("mad", 1, 100.0) for _ in range(11)] == [True] * 10 + [False]
    assert limit.admit("good", 1, 100.0)
    assert limit.held(100.0) == ["mad"]
    assert limit.held(100.0 + HELD_S - 0.1) == ["mad"]
    assert limit.held(100.0 + HELD_S) == []


def test_invented_names_take_no_memory() -> None:
    """A sender that uses a new name for each message cannot make the centre remember them all."""
    limit = RateLimit(messages_per_s=1, bytes_per_s=1e6)
    for number in range(GATEWAYS + 50):
        limit.admit("steady", 1, number / 100)
        limit.admit(f"name-{number}", 1, number / 100)
    assert len(limit._buckets) == GATEWAYS
    assert limit.dropped("steady") > 0, "who goes on sending is not forgotten"


@pytest.mark.parametrize(
    ("leaf", "payload", "expected"),
    [
        ("u", events(5), True),
        ("b", events(5), True),
        ("u", samples(5, lane=0), True),
        ("b", birth_frame(1, "gw"), True),
        ("u", birth_frame(1, "gw"), True),
        ("birth", b"{}", True),
        ("d", samples(5), False),
        ("b", samples(5), False),
        ("d", events(5), False),
        ("u", heartbeat(lane=0), False),
        ("u", b"rubbish, and a lot of it", False),
        ("u", b"WR1", False),
        ("status", b"{}", False),
    ],
)
def test_what_is_never_thinned(leaf: str, payload: bytes, expected: bool) -> None:
    """A door forced open passes however mad its gateway is; rubbish and heartbeats on the urgent topic do not."""
    assert is_protected(leaf, payload) is expected


def test_a_flood_of_one_gateway_leaves_room_for_the_others() -> None:
    """However much one gateway sends, a message of another finds a place, and urgent frames of the first too."""
    inbox = Inbox(RateLimit(messages_per_s=1e9, bytes_per_s=1e12))
    taken = [inbox.put(message("mad", b"x")) for _ in range(QUEUE_LIMIT)]
    assert sum(taken) == QUEUE_LIMIT // SHARE
    assert inbox.left_out == QUEUE_LIMIT - QUEUE_LIMIT // SHARE
    assert inbox.put(message("good", b"x"))
    assert inbox.put(message("mad", events(7), "u"))
    seen = []
    while batch := inbox.take(0):
        seen += batch
    assert len(seen) == QUEUE_LIMIT // SHARE + 2
    assert len(inbox) == 0
    assert inbox.put(message("mad", b"x")), "what was taken makes room"


def test_large_messages_are_bounded_in_bytes() -> None:
    """A hundred gateways that send the largest frames do not take the memory of the box."""
    inbox = Inbox(RateLimit(messages_per_s=1e9, bytes_per_s=1e12))
    payload = bytes(256 << 10)
    for number in range(1000):
        inbox.put(message(f"gw-{number % 100}", payload))
    assert len(inbox) * len(payload) <= QUEUE_BYTES
    assert len(inbox) > 200


@given(st.text(max_size=40))
def test_any_topic_has_an_address(topic: str) -> None:
    """A topic that is none of ours is counted for nobody and harms nothing."""
    gateway, leaf = address(topic)
    assert (gateway == "" and leaf == "") or topic.endswith(f"/{gateway}/{leaf}")
