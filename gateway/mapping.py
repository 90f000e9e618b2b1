"""Messages of readers to samples and events: the mapping of one kind of reader, compiled once. Pure."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Names
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from gateway.jsonpath import MISSING, JsonPath
from gateway.mappingfile import FieldEntry, MqttEntry, SignalMap
from gateway.times import ToMs
from gateway.topicpattern import NAME, TopicPattern
from watchroom.errors import ContractError
from watchroom.frames import Event
from watchroom.pii import keyed_hash
from watchroom.signals import Kind, Lane, Quality, SignalSpec

ONLINE = "online"
CLOCK_TOLERANCE_MS = 5000
"""A sample whose device clock is farther off is stamped on arrival, with quality CLOCK_DOUBTFUL."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One sample out of a message; value NaN where the reader sends null."""

    key: str
    time_ms: int
    value: float
    quality: Quality


@dataclass(frozen=True, slots=True)
class Reply:
    """What the reader waits for."""

    topic: str
    payload: bytes
    is_after_commit: bool


@dataclass(frozen=True, slots=True)
class Mapped:
    """What one message means, in the order of its records.

    Attributes:
        refused: Why some of its records do not fit; the others do.
    """

    readings: tuple[Reading, ...] = ()
    events: tuple[Event, ...] = ()
    replies: tuple[Reply, ...] = ()
    refused: tuple[ContractError, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One compiled field of an event or signal of a message."""

    name: str
    path: JsonPath
    entry: FieldEntry


@dataclass(frozen=True, slots=True)
class SignalRule:
    """One compiled signal of a message."""

    name: str
    path: JsonPath
    entry: SignalMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """The compiled mapping of one device entry of a gateway file.

    Attributes:
        name: The device's name.
        topic: Which messages it takes.
        equipment: Every equipment id it can report signals of.
        online_topic: Messages that show that the reader is alive.
    """

    name: str
    entry: MqttEntry
    topic: TopicPattern
    equipment: tuple[str, ...]
    online_topic: TopicPattern | None
    when: Callable[[Any, Any], bool] | None
    online_when: Callable[[Any, Any], bool] | None
    each: JsonPath | None
    id_path: JsonPath | None
    time_path: JsonPath | None
    to_ms: ToMs | None
    fields: tuple[FieldRule, ...]
    signals: tuple[SignalRule, ...]
    drop: tuple[JsonPath, ...]

    @property
    def filters(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return (*self.topic.filters, *(self.online_topic.filters if self.online_topic else ()))

    def specs(self) -> Iterator[SignalSpec]:
        """Yield the signals it can report; their aliases are not final."""
        for equipment in self.equipment:
            for rule in self.signals:
                yield _spec(f"{equipment}/{rule.name}", rule.entry)
            if self.entry.online is not None:
                texts = {"0": {"zh": "离线", "en": "offline"}, "1": {"zh": "在线", "en": "online"}}
                yield SignalSpec(alias=0, key=f"{equipment}/{ONLINE}", kind=Kind.STATE, lane=Lane.URGENT, texts=texts)

    def online(self, topic: str, payload: bytes) -> str | None:
        """Return the equipment id a message shows to be alive, None if it shows nothing."""
        captures = self.online_topic.capture(topic) if self.online_topic else None
        if captures is None or self.entry.equipment is None:
            return None
        if self.online_when is not None:
            try:
                message = json.loads(payload)
            except ValueError:
                return None
            if not self.online_when(message, message):
                return None
        equipment = _fill(self.entry.equipment, captures)
        return equipment if equipment in self.equipment else None

    def convert(self, captures: Names[str, str], payload: bytes, *, arrived_ms: int, key: bytes) -> Mapped:
        """Return what a message means.

        Args:
            captures: What ``topic.capture`` gave.
            payload: The message.
            arrived_ms: The gateway's clock on arrival, UTC ms.
            key: For hashing personal data.

        Raises:
            ContractError: If nothing in the message fits the mapping.
        """
        records, message = self._records(payload)
        parts: list[Mapped] = []
        refused: list[ContractError] = []
        for number, record in enumerate(records, start=1):
            try:
                parts.append(self._one(record, message, captures, arrived_ms, key))
            except ContractError as exc:
                refused.append(ContractError(exc.reason, f"record {number}: {exc.detail}") if len(records) > 1 else exc)
        if refused and len(refused) == len(records):
            raise refused[0]
        return Mapped(
            readings=tuple(reading for part in parts for reading in part.readings),
            events=tuple(event for part in parts for event in part.events),
            replies=tuple(reply for part in parts for reply in part.replies),
            refused=tuple(refused),
        )

    def _one(self, record: Any, message: Any, captures: Names[str, str], arrived_ms: int, key: bytes) -> Mapped:
        """Return what one record of a message means."""
        if self.entry.format == "csv":
            record = self._row(record)
        elif self.entry.format == "pairs":
            record = self._pairs(record)
        if self.when is not None and not self.when(record, message):
            return Mapped()
        time_ms = self._time(record, message, arrived_ms)
        equipment = _fill(self.entry.equipment, captures) if self.entry.equipment else None
        readings = tuple(self._readings(record, message, equipment, time_ms, arrived_ms))
        names: dict[str, Any] = dict(captures)
        events: tuple[Event, ...] = ()
        if self.entry.event:
            event = self._event(record, message, captures, equipment, time_ms, arrived_ms, key)
            events = (event,)
            names |= {**event.fields, "id": self._plain_id(record, message, {**captures, **event.fields})}
        replies = () if self.entry.reply is None else (self._reply(record, names),)
        return Mapped(readings, events, replies)

    def without_dropped(self, payload: bytes) -> bytes:
        """Return a message as it may be kept: without what ``drop`` names."""
        if not self.drop or self.entry.format != "json":
            return payload
        try:
            message = json.loads(payload)
        except ValueError:
            return payload
        for path in self.drop:
            for record in (self.each.every(message, message) if self.each else [message]) or [message]:
                path.remove(record)
            path.remove(message)
        return json.dumps(message, ensure_ascii=False).encode()

    def _records(self, payload: bytes) -> tuple[list[Any], Any]:
        """The records of a message and the message itself."""
        try:
            text = payload.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise ContractError("text", f"not UTF-8: {exc.reason}") from exc
        if self.entry.format == "csv":
            rows = list(csv.reader(text.splitlines(), delimiter=self.entry.delimiter))
            return [row for row in rows if row], text
        if self.entry.format == "pairs":
            return [line for line in text.splitlines() if line.strip()], text
        if self.entry.format == "plain":
            return [{"text": text.strip()}], text
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise ContractError("json", str(exc)) from exc
        if self.each is None:
            return [message], message
        return self.each.every(message, message), message

    def _row(self, row: Sequence[str]) -> dict[str, str]:
        if len(row) != len(self.entry.columns):
            raise ContractError("columns", f"{len(row)} columns instead of {len(self.entry.columns)}")
        return dict(zip(self.entry.columns, (cell.strip() for cell in row), strict=True))

    def _pairs(self, line: str) -> dict[str, str]:
        """One line of name=value cells; names that are no columns are left out."""
        found: dict[str, str] = {}
        for cell in line.split(self.entry.delimiter):
            name, sign, value = cell.partition("=")
            if not sign:
                raise ContractError("columns", f"{cell[:60]!r} is not name=value")
            if name.strip() in self.entry.columns:
                found.setdefault(name.strip(), value.strip())
        return found

    def _time(self, record: Any, message: Any, arrived_ms: int) -> int:
        """The device's time; arrival where it says none."""
        if self.time_path is None or self.to_ms is None:
            return arrived_ms
        value = self.time_path.first(record, message)
        if value is MISSING or value is None or value == "":
            return arrived_ms
        try:
            return self.to_ms(value)
        except (ValueError, TypeError, OverflowError) as exc:
            raise ContractError("time", f"{self.time_path.text}: {exc}") from exc

    def _readings(
        self, record: Any, message: Any, equipment: str | None, time_ms: int, arrived_ms: int
    ) -> Iterator[Reading]:
        is_doubtful = abs(time_ms - arrived_ms) > CLOCK_TOLERANCE_MS
        stamp = arrived_ms if is_doubtful else time_ms
        for rule in self.signals:
            found = rule.path.first(record, message)
            if found is MISSING:
                if rule.entry.is_optional:
                    continue
                raise ContractError("missing", f"{rule.path.text} is not in the message")
            if rule.entry.others == "skip" and rule.entry.enum and _word(found) not in rule.entry.enum:
                continue
            value = _number(found, rule)
            quality = Quality.CLOCK_DOUBTFUL if is_doubtful else Quality.GOOD
            if math.isnan(value):
                quality = Quality.INVALID
            elif rule.entry.range and not rule.entry.range[0] <= value <= rule.entry.range[1]:
                quality = Quality.SENSOR_FAULT
            yield Reading(f"{equipment}/{rule.name}", stamp, value, quality)

    def _event(
        self,
        record: Any,
        message: Any,
        captures: Names[str, str],
        equipment: str | None,
        time_ms: int,
        arrived_ms: int,
        key: bytes,
    ) -> Event:
        fields = {}
        for rule in self.fields:
            found = rule.path.first(record, message) if rule.entry.const is None else rule.entry.const
            if found is MISSING or found is None:
                continue
            fields[rule.name] = _converted(found, rule, key)
        plain = self._plain_id(record, message, {**captures, **fields})
        if plain is None:
            # without an id of its own a record is known by its content, and by its arrival if it says no time
            stamp = "" if self.time_path is not None else str(arrived_ms)
            content = json.dumps([record, sorted(captures.items()), stamp], sort_keys=True, default=str)
            plain = sha256(key + content.encode()).hexdigest()[:16]
        return Event(
            id=f"{self.name}:{plain}",
            kind=str(self.entry.event),
            equipment=equipment,
            time_ms=time_ms,
            seen_ms=arrived_ms,
            fields=fields,
        )

    def _plain_id(self, record: Any, message: Any, names: Names[str, Any]) -> str | None:
        if self.entry.id is None:
            return None
        if self.id_path is not None:
            found = self.id_path.first(record, message)
            if found is MISSING or found is None:
                raise ContractError("id", f"{self.entry.id} is not in the message")
            return str(found)
        return _fill(self.entry.id, {**(record if isinstance(record, dict) else {}), **names})

    def _reply(self, record: Any, names: Names[str, Any]) -> Reply:
        reply = self.entry.reply
        assert reply is not None
        known = {**(record if isinstance(record, dict) else {}), **names}
        body = _fill_all(reply.body, known)
        payload = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
        return Reply(_fill(reply.topic, known), b"" if body is None else payload, reply.after == "durable")


def _number(found: Any, rule: SignalRule) -> float:
    """A value of a message as a number in the signal's unit; NaN for null."""
    if found is None:
        return math.nan
    if rule.entry.enum:
        number = rule.entry.enum.get(_word(found))
        if number is None:
            raise ContractError("enum", f"{rule.path.text}: {found!r} is none of {sorted(map(str, rule.entry.enum))}")
        return number
    try:
        value = float(found)
    except (TypeError, ValueError) as exc:
        raise ContractError("value", f"{rule.path.text}: {found!r} is not a number") from exc
    if math.isinf(value):
        raise ContractError("value", f"{rule.path.text}: {found!r} is not a number")
    return value * rule.entry.scale + rule.entry.offset


def _converted(found: Any, rule: FieldRule, key: bytes) -> Any:
    """A value of a message as a field of an event."""
    entry = rule.entry
    if entry.enum:
        word = entry.enum.get(_word(found), entry.other)
        if word is None:
            raise ContractError("enum", f"{rule.path.text}: {found!r} is none of {sorted(map(str, entry.enum))}")
        return word
    if entry.pii == "hash":
        return keyed_hash(key, str(found).strip())
    try:
        match entry.type:
            case "text":
                return str(found)
            case "int":
                return int(found)
            case "float":
                return float(found)
            case "bool":
                return _truth(found)
    except (TypeError, ValueError) as exc:
        raise ContractError("value", f"{rule.path.text}: {found!r} is not {entry.type}") from exc
    return found


def _truth(found: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return words[str(found).strip().lower()]
    except KeyError:
        raise ValueError(found) from None


def _word(found: Any) -> str:
    """A value as the key of an enum: true, 1 and "1" as they are written in YAML."""
    return str(found).lower() if isinstance(found, bool) else str(found).strip()


def _fill(template: str, names: Names[str, Any]) -> str:
    def replace(name: str) -> str:
        if names.get(name) is None:
            raise ContractError("missing", f"{{{name}}} of {template!r} is not in the message")
        return str(names[name])

    return NAME.sub(lambda match: replace(match[1]), template)


def _fill_all(body: Any, names: Names[str, Any]) -> Any:
    if isinstance(body, dict):
        return {key: _fill_all(item, names) for key, item in body.items()}
    if isinstance(body, list):
        return [_fill_all(item, names) for item in body]
    return _fill(body, names) if isinstance(body, str) else body


def _spec(key: str, entry: SignalMap) -> SignalSpec:
    kind = Kind(entry.kind)
    signal_class = entry.signal_class or ("state" if kind is Kind.STATE else "telemetry")
    return SignalSpec(
        alias=0,
        key=key,
        kind=kind,
        unit=entry.unit,
        lane=Lane.TELEMETRY if signal_class == "telemetry" else Lane.URGENT,
        max_silence_s=entry.max_silence,
        texts={
            str(number): {"zh": text, "en": text} if isinstance(text, str) else {"zh": text.zh, "en": text.en}
            for number, text in entry.texts.items()
        },
        modulus=entry.modulus,
        deadband=entry.deadband,
    )
