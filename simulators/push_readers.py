"""Readers that push over HTTP and keep every record until they are answered 200: Hikvision ISAPI and ZKTeco.

Written from payloads of real devices, without the gateway's code and without an HTTP library.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

Mode = Literal["healthy", "failing", "lying"]
Shape = Literal["json", "xml", "multipart"]
KEEP_RECORDS = 10_000
ANSWER_S = 10.0
RETRY_S = 0.2
PICTURE = b"\xff\xd8\xff\xe0 a picture of nobody \r\n--not the boundary\r\n\xff\xd9"


class _PushReader:
    """What both kinds share: a memory of records, sent in order, one at a time.

    Attributes:
        answered: Records that were answered 200, in order.
        answers: Status codes received, in order.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        zone: ZoneInfo,
        now_ms: Callable[[], int],
        mode: Mode = "healthy",
        seed: int = 1,
        account: tuple[str, str] | None = None,
        prefix: str = "",
    ) -> None:
        self._host, self._port, self._zone, self._now_ms, self.mode = host, port, zone, now_ms, mode
        self._random, self._account, self._prefix = random.Random(seed), account, prefix
        self._records: deque[str] = deque(maxlen=KEEP_RECORDS)
        self._bodies: dict[str, tuple[str, str, bytes]] = {}
        self._news = asyncio.Event()
        self.answered: list[str] = []
        self.answers: list[int] = []
        self._serial = 1000

    @property
    def waiting(self) -> int:
        """Records that were not answered yet."""
        return len(self._records)

    async def run(self) -> None:
        """Send what is kept, until cancelled."""
        while True:
            if not self._records:
                self._news.clear()
                await self._news.wait()
                continue
            record = self._records[0]
            path, kind, body = self._bodies[record]
            status = await self._try(path, kind, body)
            self.answers.append(status)
            if status == 200:
                self._records.popleft()
                del self._bodies[record]
                self.answered.append(record)
            else:
                await asyncio.sleep(RETRY_S)

    def _keep(self, name: str, path: str, kind: str, body: bytes) -> None:
        self._records.append(name)
        self._bodies[name] = (path, kind, body)
        self._news.set()

    def _when(self) -> datetime:
        off_s = 5 * 3600 if self.mode == "lying" else 0
        return datetime.fromtimestamp(self._now_ms() / 1000 + off_s, self._zone)

    async def _try(self, path: str, kind: str, body: bytes) -> int:
        """Return the status of the answer; 0 if there was none."""
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    return await self._exchange(reader, writer, "POST", path, kind, body)
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return 0

    async def ask(self, path: str) -> tuple[int, bytes]:
        """Return status and text of a GET."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            status = await self._exchange(reader, writer, "GET", path, "", b"")
            return status, self._last_body
        finally:
            writer.transport.abort()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        kind: str,
        body: bytes,
    ) -> int:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}", f"Content-Length: {len(body)}"]
        if kind:
            lines.append(f"Content-Type: {kind}")
        if self._account:
            token = base64.b64encode(":".join(self._account).encode()).decode()
            lines.append(f"Authorization: Basic {token}")
        raw = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        if self.mode == "failing" and self._random.random() < 0.3:
            writer.write(raw[: self._random.randrange(len(raw))])
            await writer.drain()
            return 0
        writer.write(raw)
        if self.mode == "failing" and self._random.random() < 0.2:
            await writer.drain()
            return 0  # the line is cut before the answer: the record is sent again
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        )
        self._last_body = await reader.readexactly(length)
        return int(head.split(b" ")[1])


class IsapiReader(_PushReader):
    """A Hikvision terminal that notifies a host of its events.

    Args:
        device: Its device id.
        shape: How it writes notifications.
        path: The URL it was told.
    """

    device = "66666"
    shape: Shape = "json"
    path = "/isapi"

    def read(self, *, person: str = "1001", card: str = "1234567", sub_type: int = 75, status: str = "checkIn") -> None:
        """Somebody shows a face or a card; other sub types are door events."""
        self._serial += 1
        event: dict[str, object] = {
            "deviceName": "Access Controller",
            "majorEventType": 5,
            "subEventType": sub_type,
            "cardNo": card,
            "name": "Resident A",
            "cardReaderNo": 1,
            "employeeNoString": person,
            "serialNo": self._serial,
            "currentVerifyMode": "cardOrFaceOrFp",
            "frontSerialNo": self._serial - 1,
            "attendanceStatus": status,
        }
        message: dict[str, object] = {
            "ipAddress": "192.0.2.11",
            "portNo": 443,
            "protocol": "HTTPS",
            "macAddress": "00:11:22:33:44:55",
            "channelID": 1,
            "dateTime": self._when().isoformat(timespec="seconds"),
            "activePostCount": 1,
            "eventType": "AccessControllerEvent",
            "eventState": "active",
            "deviceID": self.device,
            "AccessControllerEvent": event,
        }
        if self.mode == "lying" and self._random.random() < 0.2:
            # a firmware that writes nonsense now and then; nobody can use it, and it must not stop the next one
            self._keep(f"nonsense {self._serial}", self.path, "application/json", b'{"eventType": ')
        self._keep(str(self._serial), self.path, *self._written(message))

    def beat(self) -> None:
        """Say that it is there."""
        message = {"deviceID": self.device, "eventType": "heartBeat", "eventState": "inactive"}
        self._keep(f"beat {len(self.answers)}", self.path, "application/json", json.dumps(message).encode())

    def _written(self, message: dict[str, object]) -> tuple[str, bytes]:
        if self.shape == "json":
            return "application/json", json.dumps(message).encode()
        if self.shape == "xml":
            return "application/xml", _xml(message)
        body = (
            b'--MIME_boundary\r\nContent-Disposition: form-data; name="AccessControllerEvent"\r\n'
            b"Content-Type: application/json\r\n\r\n" + json.dumps(message).encode() + b"\r\n--MIME_boundary\r\n"
            b'Content-Disposition: form-data; name="Picture"; filename="Picture.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n" + PICTURE + b"\r\n--MIME_boundary--\r\n"
        )
        return "multipart/form-data; boundary=MIME_boundary", body


class ZktecoReader(_PushReader):
    """A ZKTeco reader with the push protocol.

    Attributes:
        device: Its serial number.
    """

    device = "CQUG01"

    def read(self, *, person: str = "123456", card: str = "0", event: int = 0, verify: int = 15, way: int = 0) -> None:
        """Somebody shows a face or a card; event 0 is granted."""
        self._serial += 1
        when = self._when().strftime("%Y-%m-%d %H:%M:%S")
        line = (
            f"time={when}\tpin={person}\tcardno={card}\teventaddr=1\tevent={event}\tinoutstatus={way}"
            f"\tverifytype={verify}\tindex={self._serial}"
        )
        path = f"/iclock/cdata?SN={self.device}&table=rtlog"
        if self.mode == "lying" and self._random.random() < 0.2:
            self._keep(f"nonsense {self._serial}", path, "text/plain", b"\xff\xfe rubbish")
        self._keep(str(self._serial), path, "text/plain", line.encode())

    def attend(self, *, person: str = "2", status: int = 0, verify: int = 15, stamp: int = 9999) -> None:
        """An attendance record of the older kind."""
        self._serial += 1
        when = self._when().strftime("%Y-%m-%d %H:%M:%S")
        line = f"{person}\t{when}\t{status}\t{verify}\t{self._serial}\t0\t0\n"
        path = f"/iclock/cdata?SN={self.device}&table=ATTLOG&Stamp={stamp}"
        self._keep(str(self._serial), path, "text/plain", line.encode())


def _xml(message: dict[str, object]) -> bytes:
    def element(name: str, value: object) -> str:
        inner = "".join(element(key, item) for key, item in value.items()) if isinstance(value, dict) else str(value)
        return f"<{name}>{inner}</{name}>"

    body = "".join(element(key, value) for key, value in message.items())
    head = '<?xml version="1.0" encoding="UTF-8"?><EventNotificationAlert version="2.0"'
    return f'{head} xmlns="http://www.isapi.org/ver20/XMLSchema">{body}</EventNotificationAlert>'.encode()
