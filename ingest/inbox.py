"""Messages between the link's thread and ingest's: bounded in all and for each gateway, and limited in their rate.

What finds no place is thrown away *and acknowledged to the broker*: kept unacknowledged it would fill the broker's
window to us and so stop every other gateway. Nothing durable is lost by that, because the gateway hears no
acknowledgement of ours and sends an outbox record again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from typing import Final

from ingest.limits import RateLimit, is_protected
from watchroom.mqtt import Message

QUEUE_LIMIT: Final = 4096
"""Messages that may wait for the journal; births and urgent frames may take as many places again."""
QUEUE_BYTES: Final = 64 << 20
"""Bytes that may wait."""
SHARE: Final = 4
"""One gateway may take a quarter of the places and of the bytes."""
BATCH_MESSAGES: Final = 512
BATCH_BYTES: Final = 4 << 20


class Inbox:
    """Filled by the link's thread, emptied by one other.

    Args:
        limit: How much one gateway may send.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._places: Counter[str] = Counter()
        self._octets: Counter[str] = Counter()
        self._size = self._octet_size = 0
        self.left_out = 0

    def __len__(self) -> int:
        """Return how many messages wait."""
        return self._queue.qsize()

    def put(self, message: Message) -> bool:
        """Queue a message; False if it was thrown away instead, and is to be acknowledged to the broker."""
        gateway, leaf = address(message.topic)
        size, now_s = len(message.payload), time.monotonic()
        protected = is_protected(leaf, message.payload)
        if not protected and not self._limit.admit(gateway, size, now_s):
            self.left_out += 1
            return False
        factor = 2 if protected else 1
        with self._lock:
            has_room = (
                self._size < factor * QUEUE_LIMIT
                and self._octet_size + size <= factor * QUEUE_BYTES
                and self._places[gateway] < factor * QUEUE_LIMIT // SHARE
                and self._octets[gateway] + size <= factor * QUEUE_BYTES // SHARE
            )
            if has_room:
                self._count(gateway, 1, size)
        if not has_room:
            self.left_out += 1
            self._limit.drop(gateway, now_s)
            return False
        self._queue.put(message)
        return True

    def take(self, wait_s: float) -> list[Message]:
        """Wait for a message, then take along whatever else has arrived, up to a batch; no waiting for more."""
        messages: list[Message] = []
        size = 0
        try:
            messages.append(self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait())
            size = len(messages[0].payload)
            while len(messages) < BATCH_MESSAGES and size < BATCH_BYTES:
                messages.append(self._queue.get_nowait())
                size += len(messages[-1].payload)
        except queue.Empty:
            pass
        if messages:
            with self._lock:
                for message in messages:
                    self._count(address(message.topic)[0], -1, -len(message.payload))
        return messages

    def _count(self, gateway: str, places: int, octets: int) -> None:
        self._size += places
        self._octet_size += octets
        self._places[gateway] += places
        self._octets[gateway] += octets
        if not self._places[gateway]:
            del self._places[gateway], self._octets[gateway]


def address(topic: str) -> tuple[str, str]:
    """Return (gateway, leaf) of a topic, both empty where it is none of ours."""
    parts = topic.split("/")
    return (parts[2], parts[3]) if len(parts) == 4 else ("", "")
