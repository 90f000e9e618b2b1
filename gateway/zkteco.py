"""The push protocol of ZKTeco readers, ``/iclock``: what they ask and post, and what they are answered. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from watchroom.errors import ContractError

MAX_LINES = 5_000
SERIAL = re.compile(r"[A-Za-z0-9_-]{1,40}")
ATTLOG = ("pin", "time", "status", "verify", "workcode", "reserved1", "reserved2", "mask", "temperature")
_EVENT_TABLES = frozenset({"attlog", "rtlog"})
Kind = Literal["handshake", "records", "other", "poll", "registry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One request of a reader.

    Attributes:
        kind: ``records`` holds events; ``other`` is something we take and throw away (users, pictures, states).
        serial: Serial number of the reader.
        table: What is posted, lower case.
        stamp: The reader's mark of how far it has sent; empty if it says none.
    """

    kind: Kind
    serial: str
    table: str = ""
    stamp: str = ""


def parse_push(method: str, path: str, query: Mapping[str, str]) -> Push:
    """Return what a request is.

    Raises:
        ContractError: ``path`` if this protocol has no such request, ``serial`` if it does not say whose it is.
    """
    serial = query.get("SN", "")
    if not SERIAL.fullmatch(serial):
        raise ContractError("serial", f"{serial[:40]!r} is not a serial number")
    table = query.get("table", "").lower()
    match (method, path.rstrip("/").rpartition("/")[2].lower()):
        case ("GET", "cdata" | "push"):
            return Push(kind="handshake", serial=serial)
        case ("POST", "push"):
            return Push(kind="handshake", serial=serial)
        case ("POST", "cdata"):
            kind: Kind = "records" if table in _EVENT_TABLES else "other"
            return Push(kind=kind, serial=serial, table=table, stamp=query.get("Stamp", "")[:20])
        case ("GET" | "POST", "registry"):
            return Push(kind="registry", serial=serial)
        case ("GET" | "POST", "getrequest" | "ping"):
            return Push(kind="poll", serial=serial)
        case ("POST", "devicecmd" | "fdata" | "querydata"):
            return Push(kind="other", serial=serial)
    raise ContractError("path", f"{method} {path[:80]}")


def parse_records(table: str, body: bytes) -> list[dict[str, Any]]:
    """Return the records of a post, one a line.

    Raises:
        ContractError: ``text`` if it is no text, ``lines`` if there are too many, ``line`` if one is no record.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = body.decode("gb18030", errors="replace")
    lines = [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
    if len(lines) > MAX_LINES:
        raise ContractError("lines", f"{len(lines)} records in one post")
    return [_pairs(line) if "=" in line.partition("\t")[0] else _row(table, line) for line in lines]


def handshake_text(serial: str, *, stamp: str, zone_h: float) -> bytes:
    """Return the options of a session: send at once, from this stamp on, attendance and operation log only."""
    lines = (
        f"GET OPTION FROM: {serial}",
        f"ATTLOGStamp={stamp or 'None'}",
        "OPERLOGStamp=9999",
        "ATTPHOTOStamp=9999",
        "ErrorDelay=10",
        "Delay=10",
        "TransTimes=00:00;12:00",
        "TransInterval=1",
        "TransFlag=TransData AttLog",
        f"TimeZone={zone_h:g}",
        "Realtime=1",
        "Encrypt=None",
    )
    return "".join(f"{line}\r\n" for line in lines).encode()


def _pairs(line: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cell in line.strip().split("\t"):
        name, sign, value = cell.partition("=")
        if not sign or not name.strip():
            raise ContractError("line", f"{cell[:60]!r} is not name=value")
        found.setdefault(name.strip().lower(), value.strip())
    return found


def _row(table: str, line: str) -> dict[str, Any]:
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) < 4:
        raise ContractError("line", f"{len(cells)} cells in a line of {table or 'no table'}")
    return dict(zip(ATTLOG, cells, strict=False))
