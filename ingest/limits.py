"""How much one gateway may send, so that a device in a loop starves nobody. Pure: the time is an argument.

The rule: urgent frames and births always pass. Of everything else a gateway may send so many messages and bytes a
second over a burst; what is more is thrown away unread and counted. Nothing durable is lost by that: an outbox record
that was not acknowledged comes again, a heartbeat is followed by the next.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MESSAGES_PER_S: Final = 1000.0
BYTES_PER_S: Final = float(8 << 20)
BURST_S: Final = 10.0
"""A gateway that was quiet may send so many seconds' worth at once: the backlog of an outage."""
HELD_S: Final = 10.0
"""A gateway counts as held back this long after the last message thrown away."""
GATEWAYS: Final = 4096
"""Most names remembered; the one not heard for longest is forgotten."""
_HEARTBEAT: Final = 4


@dataclass(slots=True)
class _Bucket:
    messages: float
    octets: float
    at_s: float
    dropped: int = 0
    dropped_s: float = float("-inf")


class RateLimit:
    """Token buckets by gateway, in messages and in bytes.

    Args:
        messages_per_s: Messages a gateway may send each second.
        bytes_per_s: Bytes a gateway may send each second.
    """

    def __init__(self, *, messages_per_s: float = MESSAGES_PER_S, bytes_per_s: float = BYTES_PER_S) -> None:
        self._rate, self._octet_rate = messages_per_s, bytes_per_s
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def admit(self, gateway: str, size: int, now_s: float) -> bool:
        """Whether a message of so many bytes may pass now; one that may not is counted."""
        bucket = self._bucket(gateway, now_s)
        passed_s = max(0.0, now_s - bucket.at_s)
        bucket.at_s = now_s
        bucket.messages = min(bucket.messages + passed_s * self._rate, self._rate * BURST_S)
        bucket.octets = min(bucket.octets + passed_s * self._octet_rate, self._octet_rate * BURST_S)
        if bucket.messages < 1.0 or bucket.octets < size:
            self.drop(gateway, now_s)
            return False
        bucket.messages -= 1.0
        bucket.octets -= size
        return True

    def drop(self, gateway: str, now_s: float) -> None:
        """Count a message that was thrown away."""
        bucket = self._bucket(gateway, now_s)
        bucket.dropped += 1
        bucket.dropped_s = now_s

    def dropped(self, gateway: str) -> int:
        """Return how many messages of a gateway were thrown away."""
        bucket = self._buckets.get(gateway)
        return 0 if bucket is None else bucket.dropped

    def held(self, now_s: float) -> list[str]:
        """Return the gateways that are held back at the moment, sorted; may be called from any thread."""
        return sorted(name for name, bucket in list(self._buckets.items()) if now_s - bucket.dropped_s < HELD_S)

    def _bucket(self, gateway: str, now_s: float) -> _Bucket:
        bucket = self._buckets.get(gateway)
        if bucket is None:
            if len(self._buckets) >= GATEWAYS:
                self._buckets.popitem(last=False)
            bucket = self._buckets[gateway] = _Bucket(self._rate * BURST_S, self._octet_rate * BURST_S, now_s)
        else:
            self._buckets.move_to_end(gateway)
        return bucket


def is_protected(leaf: str, payload: bytes) -> bool:
    """Whether a message may never be thinned: an urgent frame or a birth. Heartbeats may, the next one follows."""
    if leaf == "birth":
        return True
    if leaf not in ("u", "b") or payload[:3] != b"WR1" or len(payload) < 8:
        return False
    return payload[3:4] == b"B" or (payload[5] == 0 and not payload[6] & _HEARTBEAT)
