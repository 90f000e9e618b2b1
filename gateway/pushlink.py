"""Readers that push over HTTP: 200 only when the event is on the disk, 503 while there is no room."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from gateway import isapi, zkteco
from gateway.desk import Desk
from gateway.httpserver import BUSY, HttpServer, Request, Response
from gateway.pushfile import Place, PushDevice
from gateway.sink import Sink, keep
from watchroom.disk import RealDisk, replace_file
from watchroom.errors import ContractError, StoreError
from watchroom.frames import Event

if TYPE_CHECKING:
    from gateway.config import LinkConfig

log = structlog.get_logger(__name__)

ANSWER_S = 8.0
"""A reader that waits longer comes again by itself; what was kept meanwhile is known by its id."""
MAX_EVENTS = 5_000
OK = Response(status=200, body=b"OK")
STRANGER = Response(status=403)


class PushLink:
    """Keeps one HTTP port for readers.

    Args:
        link: Where to listen.
        devices: The readers.
        aliases: Signal key -> alias of the birth.
        sink: Where samples and events go.
        now_ms: The gateway's clock, UTC ms.
        key: For hashing personal data.
        folder: For stamps, and for messages that fit no mapping.
    """

    def __init__(
        self,
        link: LinkConfig,
        devices: Sequence[PushDevice],
        *,
        aliases: Mapping[str, int],
        sink: Sink,
        now_ms: Callable[[], int],
        key: bytes,
        folder: Path,
    ) -> None:
        self._link, self._devices = link, tuple(devices)
        self._sink, self._now_ms = sink, now_ms
        mappings = [mapping for device in devices for mapping in device.mappings]
        self._desk = Desk(
            mappings, aliases=aliases, sink=sink, now_ms=now_ms, key=key, folder=folder / "unmatched" / link.name
        )
        self._server = HttpServer(link, self._handle)
        self._stamp_file = folder / "push" / f"{link.name}.json"
        self._stamps = _read_stamps(self._stamp_file)
        self._counts: Counter[str] = Counter()

    @property
    def is_down(self) -> bool:
        """Whether the port is not open."""
        return self._desk.is_down

    @property
    def commands(self) -> frozenset[str]:
        """Keys of the signals that take a command: none."""
        return frozenset()

    async def command(self, key: str, value: Any) -> str:
        """Readers take no commands.

        Raises:
            KeyError: Always.
        """
        raise KeyError(key)

    def status(self) -> dict[str, Any]:
        """Return what the health page shows."""
        return self._desk.status() | self._server.status() | {"requests": dict(self._counts)}

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._desk.watch_online(), name=f"online {self._link.name}")
            group.create_task(self._server.run(self._desk.restored), name=f"http {self._link.name}")

    async def _handle(self, request: Request) -> Response:
        for device in self._devices:
            if device.entry.protocol == "zkteco" and request.path.startswith("/iclock/"):
                return await self._zkteco(device, request)
            if device.entry.protocol == "isapi" and request.path.startswith(device.entry.path):
                return await self._isapi(device, request)
        self._counts["path"] += 1
        return Response(status=404)

    # Hikvision

    async def _isapi(self, device: PushDevice, request: Request) -> Response:
        if request.method not in {"POST", "PUT"}:
            return Response(status=405)
        try:
            found = isapi.notifications(request.content_type, request.body)
        except ContractError as exc:
            self._set_aside(device, request, exc)
            # it would come again for ever
            return OK
        events: list[Event] = []
        for notification in found:
            place = self._place(device, (*isapi.identities(notification), request.host), request.host)
            if place is None:
                return STRANGER
            self._desk.is_alive(place.equipment, self._now_ms())
            if isapi.is_heartbeat(notification):
                continue
            record = notification | {"recordId": _isapi_id(notification)}
            events += self._record(device, place, record)
        return await self._keep(events, OK)

    # ZKTeco

    async def _zkteco(self, device: PushDevice, request: Request) -> Response:
        try:
            push = zkteco.parse_push(request.method, request.path, request.query)
        except ContractError as exc:
            self._counts[exc.reason] += 1
            return Response(status=400)
        place = self._place(device, (push.serial,), request.host)
        if place is None:
            return STRANGER
        self._desk.is_alive(place.equipment, self._now_ms())
        if push.kind == "handshake":
            now = datetime.fromtimestamp(self._now_ms() / 1000, device.zone)
            offset = now.utcoffset()
            zone_h = offset.total_seconds() / 3600 if offset else 0.0
            stamp = self._stamps.get(push.serial, "")
            return Response(status=200, body=zkteco.handshake_text(push.serial, stamp=stamp, zone_h=zone_h))
        if push.kind == "registry":
            code = sha256(push.serial.encode()).hexdigest()[:10]
            return Response(status=200, body=f"RegistryCode={code}".encode())
        if push.kind != "records":
            # users, pictures and states stay where they are: we have no use for them
            return OK
        try:
            records = zkteco.parse_records(push.table, request.body)
        except ContractError as exc:
            self._set_aside(device, request, exc)
            return OK
        events: list[Event] = []
        for record in records:
            if record.get("cardno") in {"", "0"}:
                del record["cardno"]
            if record.get("pin") in {"", "0"}:
                del record["pin"]
            whole = record | {"recordId": _digest(record)}
            events += self._record(device, place, whole if push.table == "rtlog" else whole | {"granted": True})
        answer = await self._keep(events, Response(status=200, body=f"OK: {len(records)}".encode()))
        if answer.status == 200 and push.table == "attlog" and push.stamp:
            await self._keep_stamp(push.serial, push.stamp)
        return answer

    # both

    def _place(self, device: PushDevice, names: Sequence[str], host: str) -> Place | None:
        for name in names:
            place = device.places.get(name.lower())
            if place is not None and place.admits(host):
                return place
        if not self._counts["stranger"]:
            log.warning("reader is not in the file", device=device.name, host=host, says=names[:1])
        self._counts["stranger"] += 1
        return None

    def _record(self, device: PushDevice, place: Place, record: dict[str, Any]) -> list[Event]:
        """Report the signals of one record and return its events."""
        arrived_ms = self._now_ms()
        payload = json.dumps(record, ensure_ascii=False).encode()
        topic = f"push/{place.equipment}/{place.reader}"
        captures = {"door": place.equipment, "reader": place.reader}
        wanted = [item for item in device.mappings if item.when is None or item.when(record, record)]
        if not wanted:
            error = ContractError("kind", "an event that no mapping is for")
            self._desk.set_aside(device.access, topic, payload, error=error, arrived_ms=arrived_ms)
        events: list[Event] = []
        for mapping in wanted:
            found, _ = self._desk.take(mapping, captures, topic=topic, payload=payload, arrived_ms=arrived_ms)
            events += [_directed(event, place) for event in found]
        self._counts["records"] += 1
        return events

    async def _keep(self, events: list[Event], answer: Response) -> Response:
        """Return the answer when everything is on the disk, 503 when it cannot be now."""
        if self._sink.is_full:
            self._counts["busy"] += 1
            return BUSY
        try:
            async with asyncio.timeout(ANSWER_S):
                await keep(self._sink, events)
        except (TimeoutError, StoreError):
            self._counts["busy"] += 1
            return BUSY
        self._counts["answered"] += len(events)
        return answer

    def _set_aside(self, device: PushDevice, request: Request, error: ContractError) -> None:
        self._desk.set_aside(
            device.access, f"{request.method} {request.path}", request.body, error=error, arrived_ms=self._now_ms()
        )

    async def _keep_stamp(self, serial: str, stamp: str) -> None:
        if self._stamps.get(serial) == stamp:
            return
        self._stamps[serial] = stamp
        data = json.dumps(self._stamps, sort_keys=True).encode()
        try:
            await asyncio.to_thread(_write, self._stamp_file, data)
        except StoreError as exc:
            # the reader sends some records again after a restart; their ids make them known
            log.warning("stamp of a reader not kept", reason=str(exc))


def _directed(event: Event, place: Place) -> Event:
    if place.direction is None:
        direction = event.fields.get("direction")
        return (
            event if direction else replace(event, fields={k: v for k, v in event.fields.items() if k != "direction"})
        )
    return replace(event, fields=event.fields | {"direction": place.direction})


def _isapi_id(notification: Mapping[str, Any]) -> str:
    inner = notification.get("AccessControllerEvent")
    serial = inner.get("serialNo") if isinstance(inner, dict) else None
    if serial in (None, ""):
        return _digest(notification)
    # a device that was reset counts from 1 again: the time makes the number its own
    return f"{serial}:{notification.get('dateTime', '')}"


def _digest(record: Mapping[str, Any]) -> str:
    return sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _read_stamps(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        log.warning("stamps of readers cannot be read", path=str(path), reason=str(exc))
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _write(path: Path, data: bytes) -> None:
    disk = RealDisk()
    disk.make_folder(path.parent)
    replace_file(disk, path, data)
