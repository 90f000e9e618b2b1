"""What a device model file may say: the schema of ``gateway/models/*.yaml``, before anything is compiled."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from watchroom.durations import Seconds
from watchroom.yamlfile import Path_, Strict, Text, YamlFile

SignalClass = Literal["telemetry", "state", "alarm", "event"]


class FieldEntry(Strict):
    """One field of a record in a device's event log."""

    type: str = Field(description="u8, i16, u32, f32 ..., dt48 (year-2000, month, day, hour, minute, second), str6")
    enum: dict[int, str | Text] = Field(default={}, description="Value -> text")
    pii: Literal["hash"] | None = Field(default=None, description="hash: personal, leaves the gateway only as a hash")


class RecordEntry(Strict):
    """How a device keeps its event log."""

    regs: int = Field(ge=1, le=60, description="Registers a record takes")
    depth: int = Field(default=16, ge=1, le=1000, description="How many records the device keeps")
    fields: dict[str, str | FieldEntry] = Field(min_length=1, description="Name -> type, in the order of the bytes")
    zone: str = Field(default="Asia/Shanghai", description="Time zone of dt48")


class SignalEntry(Strict):
    """One signal of a model."""

    at: str | int | None = Field(default=None, description="table:offset, with .bit or .low-high; or 40001 style")
    type: str | None = Field(
        default=None, description="u16, i32, f32, bcd16, bit, u4, str8 (registers) ...; log; bit where at is one"
    )
    order: str | None = Field(default=None, description="Byte order; A is the most significant byte")
    scale: float = Field(default=1.0, description="Engineering value = raw * scale + offset")
    offset: float = Field(default=0.0, description="In the engineering unit")
    unit: str = Field(default="", description="Engineering unit")
    signal_class: SignalClass | None = Field(default=None, alias="class", description="state and alarm are urgent")
    kind: Literal["measure", "state", "counter"] | None = Field(default=None, description="What the number means")
    enum: dict[int, str | Text] = Field(default={}, description="Value -> text")
    map: dict[int, float | str | Text] = Field(
        default={}, description="Raw -> value (a raw number that is not listed is invalid), or raw -> text"
    )
    when_true: str | Text | None = Field(default=None, alias="true", description="Text of a set bit")
    when_false: str | Text | None = Field(default=None, alias="false", description="Text of a cleared bit")
    bits: dict[int, str] = Field(default={}, description="For type bitfield: bit -> name of a signal")
    group: str | None = Field(default=None, description="Polling group; the first one if empty")
    deadband: float | str = Field(default=0.0, description="Report by exception, in the unit or in % of the range")
    range: tuple[float, float] | None = Field(default=None, description="Outside it the sensor is at fault")
    invalid: list[float] = Field(default=[], description="Raw values that mean 'no value'")
    counter: bool = Field(default=False, description="Only grows, and rolls over at the modulus")
    modulus: float | None = Field(default=None, gt=0, description="Value after the largest, in the unit")
    max_silence: Seconds = Field(default=60.0, gt=0, description="Sent again at least this often")
    expr: str | None = Field(default=None, description="Calculated from other signals and parameters of the model")
    repeat: dict[str, str] = Field(default={}, description="Variables of a family of signals, for example l: 1..8")
    write: bool | str = Field(default=False, description="true, or 'pulse 500ms' for something that is only commanded")
    confirm: bool = Field(default=False, description="A person confirms before it is written")
    roles: list[str] = Field(default=[], description="Roles that may write it; empty for all who may send commands")
    count_at: str | None = Field(
        default=None, description="For type log: the register that counts all records ever, or those that wait"
    )
    record: RecordEntry | None = Field(default=None, description="For type log: what a record holds")
    ack: str | None = Field(
        default=None, description="For type log: count_at says how many wait; writing that number here removes them"
    )
    name: Text | None = Field(default=None, description="For people")


class Workarounds(Strict):
    """How the planner treats a device that cannot do what the standard allows."""

    max_regs: int | None = Field(default=None, ge=1, le=125, description="Longest read, in registers")
    max_gap: int | None = Field(default=None, ge=0, le=124, description="Unused registers read to save a request")
    holes: list[str] = Field(default=[], description="Ranges that are never read, for example input:20-39")
    write_multiple: bool = Field(default=False, description="Functions 15 and 16 also for a single coil or register")


class ModelFile(Strict):
    """One device model."""

    model: str
    name: Text | None = None
    source: str = Field(default="", description="Where the register map comes from")
    trust: str = Field(default="", description="How far that source can be trusted")
    purpose: Literal["fire"] | None = Field(default=None, description="fire: nothing of its equipment is ever written")
    base: Literal[0, 1] = Field(description="0: offsets as on the wire; 1: the maker counts from 1")
    order: Literal["ABCD", "CDAB", "BADC", "DCBA"] = Field(
        default="ABCD", description="Byte order of 32 and 64-bit values; single registers are AB unless they say BA"
    )
    groups: dict[str, Seconds] = Field(default={"default": 1.0}, min_length=1, description="Group -> polling period")
    params: dict[str, float] = Field(default={}, description="Numbers for expr, set per device")
    signals: dict[str, SignalEntry] = Field(min_length=1)
    workarounds: Workarounds = Workarounds()


def named_booleans(file: YamlFile) -> YamlFile:
    """Return the file with the keys ``true:`` and ``false:`` as words, as pydantic wants keys."""

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return {_word(key): convert(item) for key, item in value.items()}
        return [convert(item) for item in value] if isinstance(value, list) else value

    lines: dict[Path_, int] = {tuple(_word(part) for part in place): line for place, line in file.lines.items()}
    return YamlFile(file.path, convert(file.data), lines)


def with_overrides(file: YamlFile, overrides: Mapping[str, Any]) -> YamlFile:
    """Return the file with ``signal.key``, ``groups.name`` or ``workarounds.key`` replaced.

    Raises:
        ValueError: If the first part of an override is neither a signal nor groups or workarounds.
    """
    data = copy.deepcopy(file.data)
    lines = dict(file.lines)
    for key, value in overrides.items():
        *parents, last = key.split(".")
        if len(parents) != 1:
            raise ValueError(f"{key!r} is not signal.key, groups.name or workarounds.key")
        parent = parents[0]
        known = [*data["signals"], "groups", "workarounds"]
        if parent not in known:
            near = difflib.get_close_matches(parent, known, n=1, cutoff=0.5)
            raise ValueError(f"model {data['model']} has no signal {parent!r}{_suggestion(near)}")
        if parent == "groups" and last not in (groups := data.get("groups", {"default": 1.0})):
            near = difflib.get_close_matches(last, groups, n=1, cutoff=0.5)
            raise ValueError(f"model {data['model']} has no group {last!r}{_suggestion(near)}")
        holder = data.setdefault(parent, {}) if parent in {"groups", "workarounds"} else data["signals"][parent]
        holder[last] = value
        # so that a message about a key that only the override has can name it
        lines.setdefault((parent, last) if parent in {"groups", "workarounds"} else ("signals", parent, last), 1)
    return YamlFile(file.path, data, lines)


def _suggestion(near: list[str]) -> str:
    return f" (did you mean {near[0]!r}?)" if near else ""


def _word(key: Any) -> Any:
    return str(key).lower() if isinstance(key, bool) else key
