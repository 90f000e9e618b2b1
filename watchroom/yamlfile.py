"""YAML files whose errors name the file, the line, the key and what was expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from watchroom.errors import ConfigError

Path_ = tuple[str | int, ...]
T = TypeVar("T")


class Strict(BaseModel):
    """Base of configuration models: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Text(Strict):
    """A text for people in both languages."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class YamlFile:
    """Parsed content of one file, with the line of every key.

    Attributes:
        path: Where it was read from.
        data: Plain dicts, lists and scalars; an empty file gives an empty dict.
        lines: Path of a key or list item -> line, counted from 1.
    """

    path: Path
    data: Any
    lines: Mapping[Path_, int]

    def line(self, where: Sequence[str | int]) -> int:
        """Return the line of a key, or of its nearest parent that the file has."""
        place = tuple(where)
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, where: Sequence[str | int], problem: str, *, hint: str = "") -> ConfigError:
        """Return an error that points at one key of this file."""
        key = ".".join(str(part) for part in where)
        return ConfigError(problem, path=self.path, line=self.line(where), key=key, hint=hint)

    def parse(self, kind: type[T] | Any, where: Sequence[str | int] = ()) -> T:
        """Return the part of the file at a place, checked against a model.

        Args:
            kind: A pydantic model or any type that pydantic understands.
            where: Keys from the top of the file down to that part.

        Raises:
            ConfigError: For the first wrong key or value; names the nearest known key.
        """
        value = self.data
        for part in where:
            value = value[part]
        try:
            result: T = TypeAdapter(kind).validate_python(value)
        except ValidationError as exc:
            raise self._explain(kind, tuple(where), exc) from exc
        return result

    def _explain(self, kind: Any, where: Path_, exc: ValidationError) -> ConfigError:
        # a misspelt key is also a missing one: tell the misspelling
        first = min(exc.errors(), key=lambda error: error["type"] != "extra_forbidden")
        known = set(self.lines)
        place = where
        for part in first["loc"]:
            # pydantic adds names of union members and validators to the path: follow only what the file has
            if (*place, part) in known:
                place = (*place, part)
        last = first["loc"][-1] if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(last), _field_names(kind), n=1, cutoff=0.5)
            return self.error(place, "unknown key", hint=f"did you mean {near[0]!r}?" if near else "")
        if first["type"] == "missing":
            return self.error((*place, str(last)), "this key is missing")
        message = first["msg"].removeprefix("Value error, ")
        return self.error(
            place, message, hint="" if repr(first["input"]) in message else f"found {_short(first['input'])}"
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _field_names(kind: Any) -> list[str]:
    """Every field name of a model and of the models inside it."""
    names: set[str] = set()
    todo, seen = [kind], set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, type) and issubclass(item, BaseModel):
            for name, field in item.model_fields.items():
                names.add(field.alias or name)
                todo.append(field.annotation)
        todo.extend(getattr(item, "__args__", ()))
        if hasattr(item, "__value__"):
            todo.append(item.__value__)
    return sorted(names)


def _convert(node: yaml.Node, path: Path, where: Path_, lines: dict[Path_, int], loader: yaml.SafeLoader) -> Any:
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key: Any = loader.construct_object(key_node, deep=True)
            place = (*where, key)
            line = key_node.start_mark.line + 1
            if key in result:
                raise ConfigError("this key stands here twice", path=path, line=line, key=".".join(map(str, place)))
            lines[place] = line
            result[key] = _convert(value_node, path, place, lines, loader)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, path, (*where, i), lines, loader) for i, item in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


# the C parser is about ten times quicker, where PyYAML was built with it
_Fastest: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Fastest):  # type: ignore[misc]
    """YAML 1.2 booleans: only true and false, so that ``on``, ``off``, ``yes`` and ``no`` stay words."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, regexp)
        for tag, regexp in resolvers
        if tag != "tag:yaml.org,2002:bool" and tag != "tag:yaml.org,2002:timestamp"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def load_yaml(path: Path) -> YamlFile:
    """Read one YAML file.

    Raises:
        ConfigError: If the file is missing, not UTF-8, not YAML, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise ConfigError("this file does not exist", path=path) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read this file: {exc}", path=path) from exc
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> YamlFile:
    """Return the content of YAML text; the path is for messages only.

    Raises:
        ConfigError: If the text is not YAML, or has a key twice.
    """
    lines: dict[Path_, int] = {}
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        data = {} if node is None else _convert(node, path, (), lines, loader)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 0
        raise ConfigError(f"not valid YAML: {exc.problem}", path=path, line=line) from exc
    finally:
        loader.dispose()
    return YamlFile(path, data, lines)
