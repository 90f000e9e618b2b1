"""MQTT topics with captured names, ``door/{door}/io``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

NAME = re.compile(r"\{([A-Za-z][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class TopicPattern:
    """A topic in which ``{name}`` captures one level.

    Attributes:
        text: As written.
        names: Captured names.
        filters: What to subscribe to.
    """

    text: str
    names: tuple[str, ...]
    filters: tuple[str, ...]
    _pattern: re.Pattern[str]
    _match: Mapping[str, str]

    def capture(self, topic: str) -> dict[str, str] | None:
        """Return the captured names of a topic, None if it is another topic."""
        match = self._pattern.fullmatch(topic)
        if match is None:
            return None
        captures = match.groupdict()
        if any(not fnmatchcase(captures[name], glob) for name, glob in self._match.items()):
            return None
        return captures


def compile_topic(
    text: str, *, only: tuple[str, Sequence[str]] | None = None, match: Mapping[str, str] | None = None
) -> TopicPattern:
    """Return a topic pattern.

    Args:
        text: The topic; ``{name}`` stands for one whole level.
        only: A captured name and the values that are wanted: then each is subscribed by itself.
        match: Captured name -> pattern with * and ?.

    Raises:
        ValueError: With a sentence for people.
    """
    levels = text.split("/")
    names: list[str] = []
    parts: list[str] = []
    for level in levels:
        found = NAME.fullmatch(level)
        if found:
            if found[1] in names:
                raise ValueError(f"{text!r} captures {{{found[1]}}} twice")
            names.append(found[1])
            values = "|".join(re.escape(value) for value in only[1]) if only and only[0] == found[1] else "[^/]+"
            parts.append(f"(?P<{found[1]}>{values})")
        elif not level or any(sign in level for sign in "+#{}"):
            raise ValueError(f"{text!r}: {level!r} is not a level of a topic; write {{name}} for one that varies")
        else:
            parts.append(re.escape(level))
    for name in match or {}:
        if name not in names:
            raise ValueError(f"{text!r} does not capture {{{name}}}")
    wild = [_filter_level(level, only) for level in levels]
    if only and only[0] in names:
        filters = tuple("/".join(part or value for part in wild) for value in only[1])
    else:
        filters = ("/".join(part or "+" for part in wild),)
    return TopicPattern(text, tuple(names), filters, re.compile("/".join(parts)), dict(match or {}))


def _filter_level(level: str, only: tuple[str, Sequence[str]] | None) -> str:
    """A level of a filter; empty where the wanted values go."""
    found = NAME.fullmatch(level)
    if not found:
        return level
    return "" if only and only[0] == found[1] else "+"
