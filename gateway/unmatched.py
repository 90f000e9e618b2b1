"""Messages that fit no mapping: kept for the integrator, counted by reason, and never in the way."""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024
"""Size at which the file is put aside; one older file is kept beside it."""
_MAX_PAYLOAD = 64 * 1024


class Unmatched:
    """A folder with ``unmatched.jsonl``: one line a message, with topic, reason and payload.

    The payload may hold personal data in clear (without what ``drop`` names), so only the service's own account
    may read the file.

    Args:
        folder: Made when the first message comes.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "unmatched.jsonl"
        self.counts: Counter[str] = Counter()

    def keep(self, topic: str, payload: bytes, *, device: str, reason: str, detail: str, time_ms: int) -> None:
        """Write a message down; blocks for one short append.

        Raises:
            OSError: If the disk refuses; the message is counted all the same.
        """
        self.counts[reason] += 1
        record = {"time_ms": time_ms, "device": device, "topic": topic, "reason": reason, "detail": detail}
        cut = payload[:_MAX_PAYLOAD]
        try:
            record["text"] = cut.decode()
        except UnicodeDecodeError:
            record["base64"] = base64.b64encode(cut).decode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size > MAX_BYTES:
            self._path.replace(self._path.with_name("unmatched.1.jsonl"))
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
