"""What a fire panel prints: bytes to lines, lines to states, by rules from a file. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from gateway.firewords import STATES_ZH
from watchroom.errors import ConfigError
from watchroom.yamlfile import Strict, Text, load_yaml

PACKAGE_PRINTERS = Path(__file__).parent / "printers"
MAX_LINE = 512
# ESC @ and FS & stand alone, the others have one parameter; a second byte of a Chinese character is never one of them
_CONTROL = re.compile(rb"\x1b[@2]|\x1b..|\x1c[&.]|\x1c..|\x1d..", re.DOTALL)
_OTHER = re.compile(rb"[\x00-\x09\x0b\x0c\x0e-\x1a\x7f]")


class RuleEntry(Strict):
    """What one kind of line means; the first rule whose words are found decides."""

    find: str = Field(description="Regular expression; may capture (?P<loop>...) and (?P<number>...)")
    what: Literal["state", "reset", "note"] = Field(default="state", description="note: kept as an event only")
    of: Literal["part", "panel"] = Field(default="part", description="Whose state it is")
    begins: list[str] = Field(default=[], description="States that begin: fire, fault, disabled, supervisory ...")
    ends: list[str] = Field(default=[], description="States that end")


class PrinterFile(Strict):
    """Rules of one panel's printer line."""

    printer: str
    name: Text
    source: str
    trust: str
    encoding: Literal["gb18030", "gbk", "utf-8", "latin-1"] = "gb18030"
    columns: dict[Literal["loop", "number"], tuple[int, int]] = Field(
        default={}, description="First and last byte of loop and number in a line, counted from 1"
    )
    rules: list[RuleEntry] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule."""

    pattern: re.Pattern[str]
    entry: RuleEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterRules:
    """The compiled rules of one panel's printer line."""

    name: str
    encoding: str
    columns: dict[str, tuple[int, int]]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """One line of a panel.

    Attributes:
        part: Loop in the high, number in the low 16 bits; None if the line names none.
        rule: What it means; None if no rule is for it.
    """

    text: str
    part: int | None = None
    rule: RuleEntry | None = None


class LineSplitter:
    """Cuts what a printer would get into lines, without its control sequences.

    Attributes:
        counts: ``length``: lines that were too long and were cut.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.counts: Counter[str] = Counter()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what the line gave and return the lines that are complete now, empty ones left out."""
        self._buffer += data
        *lines, rest = re.split(rb"[\r\n]+", bytes(self._buffer))
        while len(rest) > MAX_LINE:
            self.counts["length"] += 1
            lines.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        self._buffer = bytearray(rest)
        cleaned = (_OTHER.sub(b"", _CONTROL.sub(b"", line)) for line in lines)
        return [line[:MAX_LINE] for line in cleaned if line.strip()]


def read_line(rules: PrinterRules, line: bytes) -> Printed:
    """Return what a line says."""
    text = line.decode(rules.encoding, errors="replace")
    for rule in rules.rules:
        match = rule.pattern.search(text)
        if match is not None:
            return Printed(text=text.strip(), part=_part(rules, line, match), rule=rule.entry)
    return Printed(text=text.strip())


def load_rules(name: str, *, own: Path | None = None, encoding: str | None = None) -> PrinterRules:
    """Return the rules of that name; those in the site's own ``printers/`` win.

    Raises:
        ConfigError: If there are none of that name, or their file is wrong.
    """
    folders = [folder for folder in (own, PACKAGE_PRINTERS) if folder is not None]
    for folder in folders:
        path = folder / f"{name}.yaml"
        if "/" not in name and path.is_file():
            return _compile(path, encoding)
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise ConfigError(f"there are no printer rules {name!r}", hint=f"known: {', '.join(known)}")


def _compile(path: Path, encoding: str | None) -> PrinterRules:
    file = load_yaml(path)
    entry: PrinterFile = file.parse(PrinterFile)
    rules: list[Rule] = []
    for i, rule in enumerate(entry.rules):
        for state in (*rule.begins, *rule.ends):
            if state not in STATES_ZH:
                raise file.error(("rules", i), f"{state!r} is not a state", hint=", ".join(sorted(STATES_ZH)))
        if (rule.what == "state") != bool(rule.begins or rule.ends):
            raise file.error(("rules", i), "a rule has begins: or ends:, or says what: reset or note")
        try:
            rules.append(Rule(re.compile(rule.find), rule))
        except re.error as exc:
            raise file.error(("rules", i, "find"), f"{rule.find!r} is not a regular expression: {exc}") from exc
    for name, (first, last) in entry.columns.items():
        if not 1 <= first <= last <= MAX_LINE:
            raise file.error(("columns", name), f"bytes {first} to {last} are no column")
    columns = {str(name): column for name, column in entry.columns.items()}
    return PrinterRules(name=entry.printer, encoding=encoding or entry.encoding, columns=columns, rules=tuple(rules))


def _part(rules: PrinterRules, line: bytes, match: re.Match[str]) -> int | None:
    found = match.groupdict()
    numbers = [_number(found.get(name) or _column(rules, line, name)) for name in ("loop", "number")]
    if numbers[0] is None or numbers[1] is None:
        return None
    return numbers[0] << 16 | numbers[1]


def _column(rules: PrinterRules, line: bytes, name: str) -> str:
    first, last = rules.columns.get(name, (1, 0))
    return line[first - 1 : last].decode("ascii", errors="replace")


def _number(text: str) -> int | None:
    digits = text.strip()
    return int(digits) if re.fullmatch(r"[0-9]{1,5}", digits) and int(digits) <= 0xFFFF else None
