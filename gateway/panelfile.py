"""What a gateway file may say about a fire panel without Modbus: the schema, before anything is compiled."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from watchroom.durations import Seconds
from watchroom.yamlfile import Strict


class AnalogEntry(Strict):
    """One measured value that a fire transmitter sends (type 3)."""

    part: str = Field(description="Address of the part, loop-number, for example 1-12")
    type: int | None = Field(default=None, ge=1, le=255, description="Type of analog value; any if empty")
    system: int | None = Field(default=None, ge=0, le=255, description="Type of fire system; any if empty")
    unit: str | None = Field(default=None, description="Unit; that of the type if empty")
    scale: float = Field(default=1.0, description="Engineering value = value of the standard * scale + offset")
    offset: float = 0.0
    deadband: float = Field(default=0.0, ge=0)
    range: tuple[float, float] | None = Field(default=None, description="Outside it the sensor is at fault")


class TransmitterEntry(Strict):
    """A fire transmitter after GB/T 26875.3 and the panel behind it."""

    address: str | None = Field(
        default=None, description="Its address, 12 hex digits as on the wire; needed when several use one link"
    )
    senders: list[str] = Field(
        default=[], alias="from", description="IP addresses or networks it may come from; any if empty"
    )
    tz: str = Field(default="Asia/Shanghai", description="IANA zone of its clock")
    zones: int | dict[int, list[str]] = Field(
        default=0, description="Number of zones (a part's loop is its zone), or zone -> parts such as 1-1..1-64"
    )
    systems: list[str] = Field(
        default=[], description="Fire systems asked for their state after connecting: type.address, for example 1.0"
    )
    analogs: dict[str, AnalogEntry] = Field(default={}, description="Signal -> measured value")
    poll: Seconds = Field(default=60.0, ge=1, le=3600, description="Time between questions whether it is there")
    silence: Seconds = Field(default=180.0, ge=2, le=86400, description="A connection that says nothing is closed")
    answer: Seconds = Field(default=10.0, ge=0.1, le=60, description="Longest wait for its answer; three tries")
    sync_clock: Seconds = Field(default=86400.0, ge=0, description="Time between settings of its clock; 0 for never")


class PrinterEntry(Strict):
    """The text that a fire panel prints, or shows on its CRT line."""

    rules: str = Field(description="Name of a set of rules, for example gst9000, or of a file in the site's printers/")
    zones: int | dict[int, list[str]] = Field(
        default=0, description="Number of zones (a part's loop is its zone), or zone -> parts such as 1-1..1-64"
    )
    encoding: Literal["gb18030", "gbk", "utf-8", "latin-1"] | None = Field(
        default=None, description="That of the rules if empty"
    )
    silence: Seconds | None = Field(
        default=None, gt=0, description="Offline after so long without a line, for panels that print regularly"
    )
