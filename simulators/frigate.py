"""A Frigate video recorder on the broker: faces and plates its cameras recognise, and whether it is there."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Literal, Protocol

Mode = Literal["healthy", "failing", "lying"]
UPDATES = "frigate/tracked_object_update"
AVAILABLE = "frigate/available"


class Publisher(Protocol):
    """Who brings messages to the broker, for example an ``aiomqtt.Client``."""

    async def publish(self, topic: str, payload: str, qos: int = 0, retain: bool = False) -> Any:
        """Publish one message."""


class Frigate:
    """Tells what cameras see, in the shapes of its documentation.

    Args:
        publisher: The broker.
        now_ms: Wall clock, UTC.
        mode: ``failing`` repeats messages and sends some in halves; ``lying`` has a clock that is five hours ahead and
            sees people who are not there, with a low score.
        seed: Of everything left to chance.
    """

    def __init__(
        self, publisher: Publisher, *, now_ms: Callable[[], int], mode: Mode = "healthy", seed: int = 1
    ) -> None:
        self._publisher, self._now_ms, self.mode = publisher, now_ms, mode
        self._random = random.Random(seed)
        self._number = 0

    async def begin(self) -> None:
        """Say that it is there."""
        await self._publisher.publish(AVAILABLE, "online", qos=1, retain=True)

    async def end(self) -> None:
        """Say that it stops."""
        await self._publisher.publish(AVAILABLE, "stopped", qos=1, retain=True)

    async def face(self, camera: str, name: str | None, *, score: float = 0.95) -> None:
        """A camera recognises a face; no name when it is a stranger's."""
        await self._tell({"type": "face", "name": name, "score": score, "camera": camera})

    async def plate(self, camera: str, plate: str, *, name: str | None = None, score: float = 0.95) -> None:
        """A camera reads a number plate."""
        content = {"type": "lpr", "name": name, "plate": plate, "score": score, "camera": camera}
        await self._tell(content | {"plate_box": [917, 487, 1029, 529]})

    async def _tell(self, content: dict[str, Any]) -> None:
        self._number += 1
        ahead_s = 5 * 3600 if self.mode == "lying" else 0
        stamp = self._now_ms() / 1000 + ahead_s
        message = {"id": f"{stamp:.6f}-{self._number:06d}", "timestamp": stamp} | content
        if self.mode == "lying":
            ghost = message | {"id": f"ghost-{self._number}", "score": round(self._random.uniform(0, 0.3), 2)}
            await self._send(json.dumps(ghost))
        body = json.dumps(message)
        if self.mode == "failing":
            await self._send(body[: self._random.randrange(len(body))])
            await self._send(body)
        await self._send(body)

    async def _send(self, body: str) -> None:
        await self._publisher.publish(UPDATES, body, qos=1)
