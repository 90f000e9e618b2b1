"""The files of the quarantine, as the engine writes them and a person's command reads them.

``TIME-REASON-DIGEST.bad``: a line of JSON that says why, then the bytes as they came. A person who wants a message
tried again renames it to ``.retry``: one step that needs no engine, and the engine looks for such names each second.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final, NamedTuple

from watchroom.disk import Disk

_NAME: Final = re.compile(r"(\d+)-([a-z]+)-([0-9a-f]{16})\.(bad|retry)")


class Quarantined(NamedTuple):
    """One message of the quarantine.

    Attributes:
        digest: Of topic and content, 16 hex digits; names the message.
        is_asked: A person wants it tried again.
    """

    name: str
    time_ms: int
    reason: str
    digest: str
    is_asked: bool

    @property
    def other(self) -> str:
        """The name it has before, or after, a person asks for it."""
        return self.name.rpartition(".")[0] + (".bad" if self.is_asked else ".retry")


class Content(NamedTuple):
    """What a file of the quarantine holds."""

    topic: str
    detail: str
    payload: bytes


def named(name: str) -> Quarantined | None:
    """Return what a file name says, None for a file that is none of ours."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return Quarantined(name, int(match[1]), match[2], match[3], match[4] == "retry")


def listed(disk: Disk, folder: Path) -> list[Quarantined]:
    """Return the messages in a folder, oldest first."""
    found = [item for name in disk.names(folder) if (item := named(name)) is not None]
    return sorted(found, key=lambda item: (item.time_ms, item.digest))


def read(disk: Disk, folder: Path, item: Quarantined) -> Content:
    """Return one message.

    Raises:
        FileNotFoundError: If it is gone meanwhile.
        ValueError: If the file was changed so that it is none any more.
    """
    head, _, payload = disk.read(folder / item.name).partition(b"\n")
    content = json.loads(head)
    return Content(str(content["topic"]), str(content.get("detail", "")), payload)
