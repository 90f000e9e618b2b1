"""Event notifications of Hikvision ISAPI as devices post them: JSON, XML, or multipart with pictures. Pure.

Every notification becomes one dict in the shape of the JSON form. Pictures are thrown away before anything is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from watchroom.errors import ContractError

MAX_PARTS = 32
MAX_DEPTH = 8
_BOUNDARY = re.compile(r'boundary="?([^";]{1,200})"?', re.IGNORECASE)
_NUMBERS = frozenset(
    {"majorEventType", "subEventType", "serialNo", "frontSerialNo", "cardReaderNo", "doorNo", "channelID"}
)
"""Elements of XML that are numbers in the JSON form."""
IDENTITIES = ("deviceID", "macAddress", "ipAddress")
"""Where a notification says whose it is."""


def notifications(content_type: str, body: bytes) -> list[dict[str, Any]]:
    """Return the notifications of one request.

    Raises:
        ContractError: ``json``, ``xml``, ``multipart``, ``text`` or ``empty``.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        found = [_one(kind_, part) for kind_, part in _parts(content_type, body) if _is_text(kind_, part)]
    else:
        found = [_one(kind, body)]
    if not found:
        raise ContractError("empty", "no notification in the request")
    return found


def is_heartbeat(notification: dict[str, Any]) -> bool:
    """Whether a notification only says that the device is there."""
    return str(notification.get("eventType", "")).lower() in {"heartbeat", "videoloss"} and not isinstance(
        notification.get("AccessControllerEvent"), dict
    )


def identities(notification: dict[str, Any]) -> Iterator[str]:
    """Yield what a notification says about whose it is, best first."""
    inner = notification.get("AccessControllerEvent")
    for holder in (notification, inner if isinstance(inner, dict) else {}):
        for name in IDENTITIES:
            value = holder.get(name)
            if isinstance(value, str | int) and str(value):
                yield str(value)


def _is_text(kind: str, part: bytes) -> bool:
    if kind.startswith("image/"):
        return False
    return part.lstrip()[:1] in (b"{", b"<")


def _one(kind: str, body: bytes) -> dict[str, Any]:
    start = body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start == b"<" or (kind.endswith("xml") and start != b"{"):
        return _from_xml(body)
    try:
        found = json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise ContractError("text", f"not UTF-8: {exc.reason}") from exc
    except (ValueError, RecursionError) as exc:
        raise ContractError("json", str(exc)) from exc
    if not isinstance(found, dict):
        raise ContractError("json", "not an object")
    return found


def _from_xml(body: bytes) -> dict[str, Any]:
    if b"<!" in body.replace(b"<!--", b""):
        raise ContractError("xml", "a document type or entity has no place in an event")
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError) as exc:
        raise ContractError("xml", str(exc)) from exc
    found = _element(root, MAX_DEPTH)
    if not isinstance(found, dict):
        raise ContractError("xml", f"<{_name(root.tag)}> holds no elements")
    return found


def _element(element: ElementTree.Element, depth: int) -> Any:
    if depth == 0:
        raise ContractError("xml", "elements within elements, too deep")
    if len(element) == 0:
        text = (element.text or "").strip()
        return int(text) if _name(element.tag) in _NUMBERS and text.isdecimal() and len(text) < 16 else text
    found: dict[str, Any] = {}
    for child in element:
        found.setdefault(_name(child.tag), _element(child, depth - 1))
    return found


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]


def _parts(content_type: str, body: bytes) -> Iterator[tuple[str, bytes]]:
    """The parts of a multipart body with their content types."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise ContractError("multipart", "no boundary")
    pieces = (b"\r\n" + body).split(b"\r\n--" + match[1].strip().encode())
    if len(pieces) < 2:
        raise ContractError("multipart", "the boundary does not occur")
    if len(pieces) > MAX_PARTS:
        raise ContractError("multipart", f"more than {MAX_PARTS} parts")
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            return
        head, blank, content = piece.partition(b"\r\n\r\n")
        if not blank:
            raise ContractError("multipart", "a part without an end of its head")
        kind = ""
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-type":
                kind = value.partition(b";")[0].strip().decode("latin-1").lower()
        yield kind, content
