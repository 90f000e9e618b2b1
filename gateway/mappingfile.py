"""What a gateway file may say about a reader behind an MQTT broker: the schema, before anything is compiled."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gateway.modelfile import SignalClass
from watchroom.durations import Seconds
from watchroom.yamlfile import Strict, Text


class TimeEntry(Strict):
    """Where a message says when it happened."""

    path: str = Field(description="JSON path, or the name of a column")
    format: str = Field(default="iso", description="s, ms, us, iso, or a strptime pattern")
    tz: str | None = Field(default=None, description="IANA zone of times that carry none")
    cut: str | None = Field(default=None, description="Regular expression: what it finds is cut out before reading")


class FieldEntry(Strict):
    """One field of an event."""

    path: str | None = Field(default=None, description="JSON path or column; the field's own name if empty")
    type: Literal["text", "int", "float", "bool"] | None = Field(default=None, description="Converted to this")
    enum: dict[str | int, str] = Field(default={}, description="Value of the reader -> our word; others are unmatched")
    other: str | None = Field(default=None, description="Our word for values that enum does not list")
    pii: Literal["hash"] | None = Field(default=None, description="hash: only a keyed hash leaves the gateway")
    const: str | int | float | bool | None = Field(default=None, description="Always this value")


class SignalMap(Strict):
    """One signal in a message."""

    path: str | None = Field(default=None, description="JSON path or column; the signal's own name if empty")
    kind: Literal["measure", "state", "counter"] = "measure"
    signal_class: SignalClass | None = Field(default=None, alias="class", description="state and alarm are urgent")
    unit: str = ""
    enum: dict[str | int, float] = Field(default={}, description="Value of the reader -> number; others are unmatched")
    others: Literal["unmatched", "skip"] = Field(
        default="unmatched", description="skip: a value that enum does not list says nothing about this signal"
    )
    texts: dict[int, str | Text] = Field(default={}, description="For states: number -> text")
    scale: float = Field(default=1.0, description="Engineering value = number * scale + offset")
    offset: float = 0.0
    deadband: float = Field(default=0.0, ge=0)
    range: tuple[float, float] | None = Field(default=None, description="Outside it the sensor is at fault")
    modulus: float | None = Field(default=None, gt=0)
    max_silence: Seconds = Field(default=60.0, gt=0)
    is_optional: bool = Field(default=True, alias="optional", description="false: a message without it is unmatched")


class ReplyEntry(Strict):
    """What the reader waits for before it forgets a record."""

    topic: str
    body: Any = Field(default=None, description="JSON or text; {name} is a captured name, a field or id")
    after: Literal["durable", "received"] = "durable"


class OnlineEntry(Strict):
    """How the reader shows that it is alive: signal ``online``."""

    topic: str
    when: str | None = None
    timeout: Seconds = Field(default=90.0, gt=0)


class MqttEntry(Strict):
    """How messages of one kind of reader become samples and events."""

    like: str | None = Field(default=None, description="A ready mapping, for example frigate_face; own keys win")
    topic: str = Field(description="{name} captures one level")
    format: Literal["json", "csv", "pairs", "plain"] = Field(
        default="json", description="pairs: name=value cells; plain: the whole message is column 'text'"
    )
    columns: list[str] = Field(default=[], description="For csv and pairs: the names of the columns")
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    equipment: str | None = Field(default=None, description="Equipment id, may hold a captured name")
    only: list[str] = Field(default=[], description="Values of that captured name; others belong to other gateways")
    match: dict[str, str] = Field(default={}, description="Captured name -> pattern with * and ?")
    when: str | None = Field(default=None, description="Messages for which it is false are none of ours")
    each: str | None = Field(default=None, description="Path to a list: every item is a record")
    event: str | None = Field(default=None, description="Kind of the event, for example access")
    id: str | None = Field(default=None, description="De-duplication key: a path, or a text with {name}")
    time: TimeEntry | None = Field(default=None, description="Arrival time if empty")
    fields: dict[str, str | FieldEntry] = {}
    signals: dict[str, str | SignalMap] = {}
    drop: list[str] = Field(default=[], description="Paths that are thrown away before anything is stored")
    reply: ReplyEntry | None = None
    online: OnlineEntry | None = None
    on_unmatched: Literal["quarantine", "ignore"] = "quarantine"
