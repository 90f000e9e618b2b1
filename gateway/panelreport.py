"""Reports a panel's memory to the sink and keeps it on the disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import structlog

from gateway.panel import Panel
from gateway.sink import Sink
from watchroom.disk import RealDisk, replace_file
from watchroom.errors import StoreError
from watchroom.signals import Quality

log = structlog.get_logger(__name__)


class PanelReport:
    """The signals of one panel.

    Args:
        panel: Its memory; what the file holds is entered.
        key: Name of a signal -> its key.
        aliases: Signal key -> alias of the birth.
        sink: Where samples go.
        now_ms: The gateway's clock, UTC ms.
        path: File of the memory.
    """

    def __init__(
        self,
        panel: Panel,
        key: Callable[[str], str],
        *,
        aliases: Mapping[str, int],
        sink: Sink,
        now_ms: Callable[[], int],
        path: Path,
    ) -> None:
        self._panel, self._key, self._aliases = panel, key, aliases
        self._sink, self._now_ms, self._path = sink, now_ms, path
        self._extra: dict[str, float] = {}
        self._saved = b""
        self.is_online = False
        self._load()

    def set(self, **values: float) -> None:
        """Give values of signals that are not in the panel's memory; reported with the next `tell`."""
        self._extra |= values

    def tell(self) -> None:
        """Report everything that is known; good when the panel has told it, uncertain when it is assumed."""
        values = self._panel.values()
        if not self.is_online:
            self._report(values, np.nan, Quality.NO_COMMUNICATION)
        else:
            self._report(values, None, Quality.GOOD if self._panel.is_known else Quality.UNCERTAIN)
        self._report(self._extra | {"online": float(self.is_online)}, None, Quality.GOOD)

    def begin(self) -> None:
        """The panel can be heard."""
        self.is_online = True
        self.tell()

    def end(self) -> None:
        """The panel cannot be heard any more."""
        self.is_online = False
        self.tell()

    async def save(self) -> None:
        """Keep the memory if it has changed; a disk that refuses costs it at the next restart, not now."""
        data = json.dumps(self._panel.to_json(), ensure_ascii=False, sort_keys=True).encode()
        if data == self._saved:
            return
        try:
            await asyncio.to_thread(self._write, data)
        except StoreError as exc:
            log.error("memory of the panel not kept", path=str(self._path), reason=str(exc))
        else:
            self._saved = data

    def _write(self, data: bytes) -> None:
        disk = RealDisk()
        disk.make_folder(self._path.parent)
        replace_file(disk, self._path, data)

    def _load(self) -> None:
        try:
            self._saved = self._path.read_bytes()
            memory = json.loads(self._saved)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as exc:
            log.error("memory of the panel cannot be read", path=str(self._path), reason=str(exc))
            return
        if isinstance(memory, dict):
            self._panel.restore(memory)

    def _report(self, values: Mapping[str, float], instead: float | None, quality: Quality) -> None:
        names = [name for name in values if self._key(name) in self._aliases]
        if names:
            self._sink.report(
                np.array([self._aliases[self._key(name)] for name in names], dtype=np.uint32),
                self._now_ms(),
                np.array([values[name] if instead is None else instead for name in names], dtype=np.float64),
                np.full(len(names), quality, dtype=np.uint8),
            )
