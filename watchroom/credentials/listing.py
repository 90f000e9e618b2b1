"""A list of credentials as a CSV file: read, checked, hashed and masked. Pure.

Columns: ``kind`` (card, face, qr), ``number`` as the reader reports it, ``owner``, ``list`` (white, black, lost,
revoked), ``valid_from`` and ``valid_until`` (dates of the site, both inclusive, or empty). Kind and number are needed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from watchroom.errors import ConfigError
from watchroom.pii import keyed_hash

KINDS: Final = ("card", "face", "qr")
STANDINGS: Final = ("white", "black", "lost", "revoked")
COLUMNS: Final = ("kind", "number", "owner", "list", "valid_from", "valid_until")
MOST_ROWS: Final = 200_000
NUMBER_LENGTH: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One card, face or code.

    Attributes:
        key: Keyed hash of its number, as gateways report it.
        hint: What people see of the number: its last two characters.
        owner: What people see of the owner: the first character.
        standing: white, black, lost or revoked.
        from_ms: UTC ms from which it is valid, None for always.
        until_ms: UTC ms from which it no longer is, None for never.
    """

    key: str
    kind: str
    hint: str
    owner: str
    standing: str
    from_ms: int | None = None
    until_ms: int | None = None


def masked_number(text: str) -> str:
    """Return the end of a number: enough to find a card in a drawer, too little to copy it."""
    return f"…{text[-2:]}" if len(text) > 4 else "…"


def masked_name(text: str) -> str:
    """Return the first character of a name."""
    return f"{text[:1]}*" if text else ""


def read_listing(text: str, *, path: Path | None = None, key: bytes, zone: str) -> list[Credential]:
    """Return the credentials of a CSV text; of a number that stands there twice the last line counts.

    Args:
        text: With a header line.
        path: For error messages.
        key: Key of the keyed hashes, the same as the gateways'.
        zone: IANA zone of the site, for the dates.

    Raises:
        ConfigError: With file, line and column of the first thing that is wrong.
    """
    found: dict[str, Credential] = {}
    for line, row in _rows(text, path):
        number = row["number"].strip()
        kind, standing = row["kind"].strip().lower(), (row.get("list") or "white").strip().lower()
        if not number or len(number) > NUMBER_LENGTH:
            raise _error(path, line, "number", f"expected 1 to {NUMBER_LENGTH} characters")
        if kind not in KINDS:
            raise _error(path, line, "kind", f"expected one of {', '.join(KINDS)}, not {kind!r}")
        if standing not in STANDINGS:
            raise _error(path, line, "list", f"expected one of {', '.join(STANDINGS)}, not {standing!r}")
        start, end = (_day(row.get(name), path, line, name, zone) for name in ("valid_from", "valid_until"))
        until_ms = None if end is None else _ms(end + timedelta(days=1), zone)
        from_ms = None if start is None else _ms(start, zone)
        if from_ms is not None and until_ms is not None and until_ms <= from_ms:
            raise _error(path, line, "valid_until", "it ends before it begins")
        hashed = keyed_hash(key, number)
        found[hashed] = Credential(
            key=hashed,
            kind=kind,
            hint=masked_number(number),
            owner=masked_name((row.get("owner") or "").strip()),
            standing=standing,
            from_ms=from_ms,
            until_ms=until_ms,
        )
        if len(found) > MOST_ROWS:
            raise _error(path, line, "", f"more than {MOST_ROWS} credentials in one file")
    return list(found.values())


def _rows(text: str, path: Path | None) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")), skipinitialspace=True)
    names = [name.strip() for name in reader.fieldnames or []]
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or "kind" not in names or "number" not in names:
        problem = f"there is no column {unknown[0]!r}" if unknown else "the columns kind and number must be there"
        raise _error(path, 1, "", problem)
    reader.fieldnames = names
    try:
        for row in reader:
            if None in row or None in row.values():
                raise _error(path, reader.line_num, "", f"expected {len(names)} values")
            yield reader.line_num, row
    except csv.Error as exc:
        raise _error(path, reader.line_num, "", str(exc)) from exc


def _error(path: Path | None, line: int, column: str, problem: str) -> ConfigError:
    return ConfigError(problem, path=path, line=line, key=column, hint=f"columns: {', '.join(COLUMNS)}")


def _day(text: str | None, path: Path | None, line: int, column: str, zone: str) -> date | None:
    if not text or not text.strip():
        return None
    try:
        found = date.fromisoformat(text.strip())
        _ms(found + timedelta(days=1), zone)
    except (ValueError, OverflowError) as exc:
        raise _error(path, line, column, f"expected a date such as 2026-12-31, not {text.strip()!r}") from exc
    return found


def _ms(day: date, zone: str) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp() * 1000)
