"""What is known about each gateway that sends: counters, clock, whether it is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from watchroom.births import format_epoch
from watchroom.frames import Header


@dataclass(slots=True)
class Source:
    """One gateway as ingest sees it.

    Attributes:
        is_online: What its status topic says; None before the first word.
        epoch: Of the newest frame, heartbeat or status; None before.
        last_ms: Centre's clock at the last message that was no repetition, UTC ms.
        offset_ms: Centre's clock minus the gateway's at the last live frame: transport and clock error.
        early: Heartbeats that came before their birth and were left out.
    """

    is_online: bool | None = None
    epoch: int | None = None
    last_ms: int | None = None
    offset_ms: int | None = None
    frames: int = 0
    samples: int = 0
    heartbeats: int = 0
    duplicates: int = 0
    quarantined: int = 0
    early: int = 0

    def heard(self, header: Header, *, now_ms: int, is_live: bool) -> None:
        """Note a good frame; backlog says nothing about the clock."""
        self.last_ms, self.epoch = now_ms, header.epoch
        if is_live:
            self.offset_ms = now_ms - header.complete_ms
        if header.is_heartbeat:
            self.heartbeats += 1
        else:
            self.frames += 1
            self.samples += header.n if header.kind == "D" else 0

    def to_json(self) -> dict[str, Any]:
        """Return what `Receiver.status` shows."""
        return {
            "online": self.is_online,
            "epoch": None if self.epoch is None else format_epoch(self.epoch),
            "last_ms": self.last_ms,
            "offset_ms": self.offset_ms,
            "frames": self.frames,
            "samples": self.samples,
            "heartbeats": self.heartbeats,
            "duplicates": self.duplicates,
            "quarantined": self.quarantined,
            "early": self.early,
        }
