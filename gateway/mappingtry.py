"""Tries a reader's mapping on one sample message: what would be reported, without any broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from gateway.config import GatewayConfig
from gateway.mapping import Mapped
from watchroom.errors import ConfigError, ContractError
from watchroom.signals import Quality

_KEY = b"only for trying a mapping"


def try_mapping(config: GatewayConfig, topic: str, payload: bytes, *, arrived_ms: int) -> list[str]:
    """Return, line by line, what the readers of a gateway file make of a message.

    Args:
        config: The gateway file.
        topic: Topic of the message.
        payload: The message.
        arrived_ms: When it is taken to arrive, UTC ms.

    Raises:
        ConfigError: If the file has no readers on a broker.
    """
    if not config.readers:
        raise ConfigError("this file has no reader on a broker", path=config.path)
    lines: list[str] = []
    for reader in config.readers.values():
        mapping = reader.mapping
        if (equipment := mapping.online(topic, payload)) is not None:
            lines.append(f"{reader.name}: {equipment} is online")
        captures = mapping.topic.capture(topic)
        if captures is None:
            continue
        named = ", ".join(f"{name} = {value}" for name, value in captures.items()) or "no names in the topic"
        lines.append(f"{reader.name}: takes this topic ({named})")
        try:
            lines += _told(mapping.convert(captures, payload, arrived_ms=arrived_ms, key=_KEY))
        except ContractError as exc:
            lines.append(f"  would be put aside: {exc}")
    if lines:
        return lines
    filters = [f"{reader.name}: {', '.join(reader.mapping.filters)}" for reader in config.readers.values()]
    return [f"no reader takes the topic {topic!r}; they subscribe to", *filters]


def _told(mapped: Mapped) -> Iterator[str]:
    for reading in mapped.readings:
        quality = Quality(reading.quality).name.lower()
        yield f"  signal {reading.key} = {reading.value:g} ({quality}) at {_time(reading.time_ms)}"
    for event in mapped.events:
        fields = json.dumps(event.fields, ensure_ascii=False)
        yield f"  event {event.kind} of {event.equipment} at {_time(event.time_ms)}, id {event.id}: {fields}"
    for reply in mapped.replies:
        yield f"  reply on {reply.topic}: {reply.payload.decode(errors='replace')}"
    for refused in mapped.refused:
        yield f"  would be put aside: {refused}"
    if not (mapped.readings or mapped.events or mapped.refused):
        yield "  nothing: the condition in when: is not met"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
