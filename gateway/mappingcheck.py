"""Compiles what a gateway file says about a reader, and says where it is wrong. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from gateway.jsonpath import JsonPath, compile_condition, compile_path
from gateway.mapping import FieldRule, Mapping, SignalRule
from gateway.mappingfile import FieldEntry, MqttEntry, SignalMap
from gateway.times import ToMs, compile_time, cutting
from gateway.topicpattern import NAME, TopicPattern, compile_topic
from watchroom.signals import EQUIPMENT_ID, SIGNAL_NAME
from watchroom.yamlfile import Path_, YamlFile

T = TypeVar("T")


def compile_mapping(file: YamlFile, where: Path_, entry: MqttEntry, *, name: str) -> Mapping:
    """Return the mapping of one device entry.

    Args:
        file: The gateway file, for messages.
        where: Path of the entry in it.
        entry: The parsed entry.
        name: The device's name.

    Raises:
        ConfigError: With file, line, key and what was expected.
    """
    _check_shape(file, where, entry)
    only = _only(file, where, entry)
    topic = _attempt(file, (*where, "topic"), lambda: compile_topic(entry.topic, only=only, match=entry.match))
    equipment = _equipment(file, where, entry, topic)
    online_topic = None
    if entry.online is not None:
        online = entry.online
        place = (*where, "online", "topic")
        online_topic = _attempt(file, place, lambda: compile_topic(online.topic, only=only))
        missing = set(NAME.findall(entry.equipment or "")) - set(online_topic.names)
        if missing:
            raise file.error(place, f"it does not capture {{{missing.pop()}}}, which equipment: needs")
    time_path, to_ms = _time(file, where, entry)
    fields = tuple(_field(file, where, entry, key) for key in entry.fields)
    return Mapping(
        name=name,
        entry=entry,
        topic=topic,
        equipment=equipment,
        online_topic=online_topic,
        when=_condition(file, (*where, "when"), entry.when),
        online_when=_condition(file, (*where, "online", "when"), entry.online.when if entry.online else None),
        each=None if entry.each is None else _path(file, (*where, "each"), entry, entry.each, is_column=False),
        id_path=_id_path(file, where, entry, topic, fields),
        time_path=time_path,
        to_ms=to_ms,
        fields=fields,
        signals=tuple(_signal(file, where, entry, key) for key in entry.signals),
        drop=tuple(_path(file, (*where, "drop", i), entry, text, is_column=False) for i, text in enumerate(entry.drop)),
    )


def _check_shape(file: YamlFile, where: Path_, entry: MqttEntry) -> None:
    if not entry.event and not entry.signals:
        raise file.error(where, "a mapping needs event: or signals:")
    if entry.event and not entry.fields:
        raise file.error((*where, "fields"), "this key is missing", hint="which fields the event has")
    if not entry.event:
        for key in ("fields", "id"):
            if (*where, key) in file.lines:
                raise file.error((*where, key), "this key belongs to an event", hint="add event: access")
    if entry.format in {"csv", "pairs"} and not entry.columns:
        raise file.error((*where, "columns"), "this key is missing", hint="columns: [time, card, result]")
    if entry.format != "json" and entry.each:
        raise file.error((*where, "each"), f"every line of {entry.format} is a record already")
    if entry.format in {"json", "plain"} and entry.columns:
        raise file.error((*where, "columns"), "this key is for format: csv")
    if entry.format in {"csv", "pairs"} and "time" in entry.columns and entry.time is None:
        raise file.error(
            (*where, "time"), "this key is missing", hint="time: {path: time, format: iso, tz: Asia/Shanghai}"
        )
    if entry.signals or entry.online:
        if entry.equipment is None:
            raise file.error((*where, "equipment"), "this key is missing", hint="signals belong to equipment")
        if NAME.search(entry.equipment) and not entry.only:
            raise file.error((*where, "only"), "this key is missing", hint=f"list the values of {entry.equipment}")


def _only(file: YamlFile, where: Path_, entry: MqttEntry) -> tuple[str, list[str]] | None:
    used = NAME.findall(entry.equipment or "")
    if len(used) > 1:
        raise file.error((*where, "equipment"), "it may hold one captured name", hint=f"found {len(used)}")
    if entry.only and not used:
        raise file.error((*where, "only"), "equipment: holds no captured name it could be about")
    if used and used[0] not in NAME.findall(entry.topic):
        raise file.error((*where, "equipment"), f"the topic does not capture {{{used[0]}}}")
    for i, value in enumerate(entry.only):
        if entry.only.index(value) != i:
            raise file.error((*where, "only", i), f"{value!r} stands here twice")
    return (used[0], entry.only) if used and entry.only else None


def _equipment(file: YamlFile, where: Path_, entry: MqttEntry, topic: TopicPattern) -> tuple[str, ...]:
    if entry.equipment is None:
        return ()
    used = NAME.findall(entry.equipment)
    if used and not entry.only:
        return ()
    ids = tuple(NAME.sub(value, entry.equipment) for value in (entry.only if used else [""]))
    for item in ids:
        if not EQUIPMENT_ID.fullmatch(item):
            raise file.error((*where, "equipment"), f"{item!r} is not an equipment id", hint="for example DR-S1")
    return ids


def _time(file: YamlFile, where: Path_, entry: MqttEntry) -> tuple[JsonPath | None, ToMs | None]:
    if entry.time is None:
        return None, None
    time = entry.time
    key = "tz" if time.tz and (*where, "time", "tz") in file.lines else "format"
    to_ms = _attempt(file, (*where, "time", key), lambda: compile_time(time.format, time.tz))
    if time.cut is not None:
        to_ms = _attempt(file, (*where, "time", "cut"), lambda: cutting(str(time.cut), to_ms))
    return _path(file, (*where, "time", "path"), entry, time.path), to_ms


def _field(file: YamlFile, where: Path_, entry: MqttEntry, name: str) -> FieldRule:
    given = entry.fields[name]
    field = FieldEntry(path=given) if isinstance(given, str) else given
    place = (*where, "fields", name)
    if not SIGNAL_NAME.fullmatch(name):
        raise file.error(place, f"{name!r} is not a field name", hint="lower case letters, digits and _")
    if field.other is not None and not field.enum:
        raise file.error((*place, "other"), "this key belongs to enum:")
    if field.pii and (field.enum or field.type):
        raise file.error(place, "a hashed field is text: neither enum nor type fit it")
    path = JsonPath(name, ()) if field.const is not None else _path(file, place, entry, field.path or name)
    enum: dict[str | int, str] = {str(key): value for key, value in field.enum.items()}
    return FieldRule(name, path, field.model_copy(update={"enum": enum}))


def _signal(file: YamlFile, where: Path_, entry: MqttEntry, name: str) -> SignalRule:
    given = entry.signals[name]
    signal = SignalMap(path=given) if isinstance(given, str) else given
    place = (*where, "signals", name)
    if not SIGNAL_NAME.fullmatch(name):
        raise file.error(place, f"{name!r} is not a signal name", hint="lower case letters, digits and _")
    if signal.range and signal.range[0] >= signal.range[1]:
        raise file.error((*place, "range"), "the lower end of a range comes first")
    path = _path(file, place, entry, signal.path or name)
    enum: dict[str | int, float] = {str(key): value for key, value in signal.enum.items()}
    return SignalRule(name, path, signal.model_copy(update={"enum": enum}))


def _id_path(
    file: YamlFile, where: Path_, entry: MqttEntry, topic: TopicPattern, fields: Iterable[FieldRule]
) -> JsonPath | None:
    """The path of the id; None for a template. Neither may carry personal data in clear."""
    if entry.id is None:
        return None
    place = (*where, "id")
    secret = {key for rule in fields if rule.entry.pii for key in rule.path.keys}
    names = NAME.findall(entry.id)
    plain = {rule.name for rule in fields} | set(topic.names)
    leaks = [name for name in names if name in secret and name not in plain]
    path = None
    if not names:
        path = _path(file, place, entry, entry.id)
        leaks = sorted(path.keys & secret)
    if leaks:
        raise file.error(place, f"{leaks[0]!r} is personal data (pii: hash), it cannot be the id", hint="use the field")
    return path


def _path(file: YamlFile, place: Path_, entry: MqttEntry, text: str, *, is_column: bool = True) -> JsonPath:
    path = _attempt(file, place, lambda: compile_path(text))
    columns = ["text"] if entry.format == "plain" else entry.columns
    if entry.format != "json" and is_column and text not in columns:
        near = difflib.get_close_matches(text, columns, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"columns: {', '.join(columns)}"
        raise file.error(place, f"there is no column {text!r}", hint=hint)
    return path


def _condition(file: YamlFile, place: Path_, text: str | None) -> Callable[[Any, Any], bool] | None:
    return None if text is None else _attempt(file, place, lambda: compile_condition(text))


def _attempt(file: YamlFile, place: Path_, make: Callable[[], T]) -> T:
    try:
        return make()
    except ValueError as exc:
        raise file.error(place, str(exc)) from exc
