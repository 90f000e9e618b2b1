"""The one tree of errors; each leaf says what the caller does about it."""

from __future__ import annotations

from pathlib import Path


class WatchroomError(Exception):
    """Base of every error that Watchroom raises on purpose."""


class ConfigError(WatchroomError):
    """A file or setting is wrong; a person must mend it. Commands exit with 2.

    Args:
        problem: What is wrong, in one sentence.
        path: The file, None for a setting from the environment or the command line.
        line: Line in that file, counted from 1; 0 when unknown.
        key: Dotted key, for example ``devices.pump-01.model``.
        hint: What was expected, or the nearest known key.
    """

    def __init__(
        self, problem: str, *, path: Path | str | None = None, line: int = 0, key: str = "", hint: str = ""
    ) -> None:
        self.problem, self.path, self.line, self.key, self.hint = problem, path, line, key, hint
        place = "" if path is None else f"{path}:{line}: " if line else f"{path}: "
        text = place + (f"{key}: " if key else "") + problem
        super().__init__(f"{text} ({hint})" if hint else text)


class LinkError(WatchroomError):
    """A device, broker or network link does not answer; retry with back-off."""


class ContractError(WatchroomError):
    """Input from outside breaks the contract; count it, quarantine it, go on.

    Args:
        reason: One word for counters: ``crc``, ``length``, ``version``, ``magic``, ``json``, ``topic`` ...
        detail: For people.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


class StoreError(WatchroomError):
    """A store (disk, SQL, time series) refuses or is away; nothing is lost, try again later."""


class RightsError(WatchroomError):
    """The person or token may not do this (HTTP 401 or 403)."""


class StateError(WatchroomError):
    """The object is not in a state that allows this (HTTP 409).

    Args:
        code: Stable word that both languages translate, for example ``alarm.superseded``.
        detail: For logs.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.code, self.detail = code, detail
        super().__init__(f"{code}: {detail}" if detail else code)
