"""``watchroom quarantine list|show|retry``: messages that broke the contract, for people; works without an engine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ingest import quarantine_file
from ingest.quarantine_file import Quarantined
from watchroom.disk import Disk, RealDisk
from watchroom.errors import ConfigError, ContractError
from watchroom.frames import peek_header

SHOWN_BYTES: Final = 512
POLL_S: Final = 0.1


class QuarantineFolder:
    """The quarantine of a data folder.

    Args:
        data: The data folder.
        disk: File operations.
    """

    def __init__(self, data: Path, disk: Disk | None = None) -> None:
        self._disk: Disk = RealDisk() if disk is None else disk
        self._folder = data / "ingest" / "quarantine"

    def items(self) -> list[Quarantined]:
        """Return the messages, oldest first.

        Raises:
            ConfigError: If there is no quarantine here.
        """
        if not self._folder.is_dir():
            raise ConfigError(
                "there is no quarantine in this folder", path=self._folder, hint="name the data folder with --data"
            )
        return quarantine_file.listed(self._disk, self._folder)

    def lines(self, reason: str | None = None) -> Iterator[str]:
        """Yield a line for each message and a sum."""
        items = [item for item in self.items() if reason in (None, item.reason)]
        total = 0
        for item in items:
            try:
                content = quarantine_file.read(self._disk, self._folder, item)
            except (FileNotFoundError, ValueError, KeyError):
                continue
            total += len(content.payload)
            asked = "  (to be tried again)" if item.is_asked else ""
            detail = f"  {content.detail}" if content.detail else ""
            yield (
                f"{item.digest}  {_time(item.time_ms)}  {item.reason:<8} {len(content.payload):>7} B  "
                f"{content.topic!r}{detail}{asked}"
            )
        yield f"{len(items)} messages, {total} bytes"

    def shown(self, digest: str) -> Iterator[str]:
        """Yield everything about one message.

        Raises:
            ConfigError: If no message, or more than one, has an id that begins so.
        """
        item = self._one(digest)
        content = quarantine_file.read(self._disk, self._folder, item)
        yield f"id       {item.digest}"
        yield f"arrived  {_time(item.time_ms)}"
        yield f"topic    {content.topic!r}"
        yield f"refused  {item.reason}" + (f": {content.detail}" if content.detail else "")
        yield f"file     {self._folder / item.name}"
        try:
            header, version = peek_header(content.payload)
        except ContractError as exc:
            yield f"frame    none: {exc}"
        else:
            yield (
                f"frame    WR1{header.kind} version {version}, epoch {header.epoch:016x}, seq {header.seq}, "
                f"lane {header.lane}, schema {header.schema}, n {header.n}"
            )
        yield f"content  {len(content.payload)} bytes"
        yield from _dump(content.payload[:SHOWN_BYTES])
        if len(content.payload) > SHOWN_BYTES:
            yield f"... {len(content.payload) - SHOWN_BYTES} more"

    def ask(self, digests: Sequence[str], *, reason: str | None, everything: bool) -> list[Quarantined]:
        """Mark messages to be tried again; return them.

        Raises:
            ConfigError: If nothing was chosen, or an id is not known.
        """
        if not (digests or reason or everything):
            raise ConfigError("nothing was chosen", hint="name ids from 'quarantine list', --reason REASON or --all")
        chosen = [self._one(digest) for digest in digests]
        chosen += [item for item in self.items() if everything or item.reason == reason]
        if not chosen and reason:
            raise ConfigError(f"no message was refused for {reason!r}", key="--reason")
        for item in dict.fromkeys(chosen):
            if not item.is_asked:
                self._disk.rename(self._folder / item.name, self._folder / item.other)
        self._disk.sync_folder(self._folder)
        return list(dict.fromkeys(chosen))

    def outcome(self, asked: Sequence[Quarantined], wait_s: float) -> dict[str, int]:
        """Wait until the engine has tried them; return how many it took in, refused again, has not looked at."""
        deadline = time.monotonic() + wait_s
        while True:
            now = {item.digest: item.is_asked for item in self.items()}
            waiting = sum(now.get(item.digest, False) for item in asked)
            if not waiting or time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)
        refused = sum(now.get(item.digest) is False for item in asked)
        return {"taken in": len(asked) - waiting - refused, "refused again": refused, "waiting for the engine": waiting}

    def _one(self, digest: str) -> Quarantined:
        found = [item for item in self.items() if digest and item.digest.startswith(digest)]
        if len(found) != 1:
            problem = f"{len(found)} messages have an id that begins so" if found else "no message has this id"
            raise ConfigError(problem, key=digest, hint="see 'watchroom quarantine list'")
        return found[0]


def _dump(payload: bytes) -> Iterator[str]:
    for at in range(0, len(payload), 16):
        row = payload[at : at + 16]
        text = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in row)
        yield f"  {at:06x}  {row.hex(' '):<47}  {text}"


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
