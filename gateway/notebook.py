"""What a gateway remembers over a restart besides its frames, kept in the outbox's notes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.outbox import Outbox

KEEP_MS = 600_000
"""A command's id is remembered so long after its time is over."""


class Notebook:
    """Positions in device logs, and the commands that were begun; durable with the next urgent frame.

    Args:
        outbox: Keeps the notes.
        now_ms: The gateway's clock, UTC ms.
    """

    def __init__(self, outbox: Outbox, now_ms: Callable[[], int]) -> None:
        self._outbox, self._now_ms = outbox, now_ms

    def recall(self, name: str) -> int | None:
        """Return the position in a device's log, None at the very first time."""
        found = self._outbox.notes.get("logs", {}).get(name)
        return None if found is None else int(found)

    def remember(self, name: str, number: int) -> None:
        """Keep the position in a device's log."""
        self._outbox.note(logs=self._outbox.notes.get("logs", {}) | {name: number})

    def begun(self) -> dict[str, list[Any]]:
        """Return id -> [expires_ms, target] of commands; the target is empty when the outcome is known."""
        return dict(self._outbox.notes.get("commands", {}))

    def begin(self, id_: str, expires_ms: int, target: str) -> None:
        """Note a command before it is sent."""
        now_ms = self._now_ms()
        kept = {key: entry for key, entry in self.begun().items() if entry[1] or entry[0] > now_ms - KEEP_MS}
        self._outbox.note(commands=kept | {id_: [expires_ms, target]})

    def end(self, id_: str) -> None:
        """Note that a command's outcome is known."""
        commands = self.begun()
        if id_ in commands:
            self._outbox.note(commands=commands | {id_: [commands[id_][0], ""]})
