"""Births: what the aliases of a gateway's frames mean, and the folder that keeps them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from watchroom.disk import Disk, RealDisk, replace_file
from watchroom.errors import ContractError
from watchroom.signals import Kind, Lane, SignalSpec, split_key

log = structlog.get_logger(__name__)

FORMAT = "WR1"
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""Ids of sites and gateways; they become topic levels and file names."""
_EPOCH = re.compile(r"[0-9a-f]{16}")
_FILE = re.compile(r"([0-9a-f]{16})-(\d+)\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """One birth of a gateway.

    Attributes:
        gateway: Id of the gateway.
        epoch: Number of the outbox, 64 bits.
        schema: Counts the births of that epoch.
        time_ms: When it was made, gateway's clock, UTC ms.
        heartbeat_s: Interval of the heartbeats.
        version: Version of the gateway's program.
        signals: By alias: ``signals[3].alias == 3``.
        clock: What disciplines the gateway's clock, for people.
    """

    gateway: str
    epoch: int
    schema: int
    time_ms: int
    heartbeat_s: float
    version: str
    signals: tuple[SignalSpec, ...]
    clock: str = ""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Birth:
        """Return a checked birth.

        Raises:
            ContractError: ``birth`` with what is wrong.
        """
        try:
            return cls._parse(content)
        except ContractError as exc:
            raise ContractError("birth", str(exc)) from exc
        except KeyError as exc:
            raise ContractError("birth", f"{exc} is missing") from exc
        except (TypeError, ValueError, AttributeError) as exc:
            raise ContractError("birth", str(exc)) from exc

    @classmethod
    def _parse(cls, content: Mapping[str, Any]) -> Birth:
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r} is not {FORMAT}")
        gateway = content["gateway"]
        if not ID.fullmatch(gateway["id"]):
            raise ValueError(f"gateway id {gateway['id']!r} is not valid")
        signals = tuple(_signal(index, row) for index, row in enumerate(content["signals"]))
        if len({signal.key for signal in signals}) != len(signals):
            raise ValueError("two signals have one key")
        return cls(
            gateway=gateway["id"],
            epoch=parse_epoch(content["epoch"]),
            schema=_whole(content["schema"]),
            time_ms=_whole(content["time_ms"]),
            heartbeat_s=_positive(gateway["heartbeat_s"]),
            version=str(gateway.get("version", "")),
            signals=signals,
            clock=str(gateway.get("clock", "")),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the birth as it travels."""
        gateway: dict[str, Any] = {"id": self.gateway, "version": self.version, "heartbeat_s": _tidy(self.heartbeat_s)}
        if self.clock:
            gateway["clock"] = self.clock
        return {
            "format": FORMAT,
            "epoch": format_epoch(self.epoch),
            "schema": self.schema,
            "time_ms": self.time_ms,
            "gateway": gateway,
            "signals": [_signal_json(signal) for signal in self.signals],
        }


def format_epoch(epoch: int) -> str:
    """Return an epoch as it stands in JSON, 16 hexadecimal digits."""
    return f"{epoch:016x}"


def parse_epoch(text: object) -> int:
    """Return the number of an epoch.

    Raises:
        ContractError: ``epoch`` if the text is not 16 hexadecimal digits.
    """
    if not isinstance(text, str) or not _EPOCH.fullmatch(text):
        raise ContractError("epoch", f"{text!r} is not 16 hexadecimal digits")
    return int(text, 16)


def _signal(index: int, row: Mapping[str, Any]) -> SignalSpec:
    if row["alias"] != index:
        raise ValueError(f"aliases must be dense from 0: {row['alias']!r} stands at {index}")
    split_key(row["key"])
    modulus = row.get("modulus")
    texts = row.get("texts", {})
    if not all(isinstance(key, str) and isinstance(text, dict) for key, text in texts.items()):
        raise ValueError(f"{row['key']}: texts are objects by value")
    return SignalSpec(
        alias=index,
        key=row["key"],
        kind=Kind(row["kind"]),
        unit=str(row.get("unit", "")),
        lane=Lane(row["lane"]),
        max_silence_s=_positive(row["max_silence_s"]),
        texts=texts,
        modulus=None if modulus is None else _positive(modulus),
    )


def _signal_json(signal: SignalSpec) -> dict[str, Any]:
    row: dict[str, Any] = {"alias": signal.alias, "key": signal.key, "kind": str(signal.kind)}
    if signal.unit:
        row["unit"] = signal.unit
    row |= {"lane": int(signal.lane), "max_silence_s": _tidy(signal.max_silence_s)}
    if signal.texts:
        row["texts"] = signal.texts
    if signal.modulus is not None:
        row["modulus"] = _tidy(signal.modulus)
    return row


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a whole number from 0 on")
    return value


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{value!r} is not a number above 0")
    return float(value)


def _tidy(value: float) -> float | int:
    return int(value) if value == int(value) else value


class BirthStore:
    """The births of all gateways, one small file each; safe for threads, readable by other processes.

    Args:
        folder: Holds ``SITE/GATEWAY/EPOCH-SCHEMA.json``.
        disk: File operations.
    """

    def __init__(self, folder: Path, *, disk: Disk | None = None) -> None:
        self._folder = folder
        self._disk: Disk = RealDisk() if disk is None else disk
        self._known: dict[tuple[str, str, int, int], Birth] = {}
        self._lock = threading.Lock()

    def put(self, site: str, birth_json: Mapping[str, Any]) -> Birth:
        """Keep a birth, durable on return; the same birth again costs nothing.

        Raises:
            ContractError: ``birth`` if it is not valid, or another one has its epoch and schema.
            StoreError: If the disk refuses.
        """
        birth = Birth.from_json(birth_json)
        with self._lock:
            old = self._find(site, birth.gateway, birth.epoch, birth.schema)
            if old is None:
                path = self._path(site, birth.gateway, birth.epoch, birth.schema)
                self._disk.make_folder(path.parent)
                text = json.dumps(birth.to_json(), ensure_ascii=False, indent=1)
                replace_file(self._disk, path, text.encode())
                self._known[site, birth.gateway, birth.epoch, birth.schema] = birth
            elif old.signals != birth.signals:
                raise ContractError("birth", f"{birth.gateway} gave schema {birth.schema} two meanings")
        return old or birth

    def get(self, site: str, gateway: str, epoch: int, schema: int) -> Birth | None:
        """Return the birth that explains a frame, None if it has not arrived yet."""
        birth = self._known.get((site, gateway, epoch, schema))
        if birth is not None:
            return birth
        with self._lock:
            return self._find(site, gateway, epoch, schema)

    def all(self, site: str) -> list[Birth]:
        """Return every birth of a site, in the order of the gateways' names, then of their times."""
        births: list[Birth] = []
        for gateway in self._disk.names(self._folder / site):
            for name in self._disk.names(self._folder / site / gateway):
                match = _FILE.fullmatch(name)
                birth = self.get(site, gateway, int(match[1], 16), int(match[2])) if match else None
                if birth is not None:
                    births.append(birth)
        return sorted(births, key=lambda birth: (birth.gateway, birth.time_ms, birth.schema))

    def _find(self, site: str, gateway: str, epoch: int, schema: int) -> Birth | None:
        key = (site, gateway, epoch, schema)
        birth = self._known.get(key)
        if birth is None:
            try:
                birth = Birth.from_json(json.loads(self._disk.read(self._path(*key))))
            except FileNotFoundError:
                return None
            except (ValueError, ContractError) as exc:
                # as good as missing: the gateway's birth is retained at the broker and is put again
                log.error("birth cannot be read", path=str(self._path(*key)), error=str(exc))
                return None
            self._known[key] = birth
        return birth

    def _path(self, site: str, gateway: str, epoch: int, schema: int) -> Path:
        if not ID.fullmatch(site) or not ID.fullmatch(gateway):
            raise ContractError("topic", f"{site}/{gateway} is not a site and a gateway")
        return self._folder / site / gateway / f"{format_epoch(epoch)}-{schema}.json"
