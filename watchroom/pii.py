"""Personal data leaves a gateway only as a keyed hash: cards and persons can be told apart, not read."""

from __future__ import annotations

import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path

from watchroom.errors import ConfigError
from watchroom.settings import Settings

PREFIX = "k:"


def keyed_hash(key: bytes, text: str) -> str:
    """Return ``k:`` and the first 16 hex digits of HMAC-SHA256.

    The same text gives the same hash everywhere the key is the same; without the key the few million possible
    card numbers cannot be tried out.
    """
    return PREFIX + hmac.digest(key, text.encode(), "sha256").hex()[:16]


def load_key(settings: Settings) -> bytes:
    """Return the key of the settings, or the one in the data folder, which is made at the first start.

    Raises:
        ConfigError: If the key file is empty or cannot be made or read.
    """
    if settings.key is not None and settings.key.get_secret_value():
        return settings.key.get_secret_value().encode()
    path = settings.data / "key"
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        _make(path)
        key = path.read_bytes().strip()
    except OSError as exc:
        raise ConfigError(f"cannot make or read the key for hashing: {exc.strerror}", path=path) from exc
    if len(key) < 16:
        raise ConfigError("the key for hashing is too short", path=path, hint="put it back from your backup")
    return key


def _make(path: Path) -> None:
    """Write a new key unless there is one; several gateways of a box may start at once."""
    if path.exists():
        return
    draft = path.with_name(f"key.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_hex(32).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        # a link, unlike a rename, never replaces the key another process has just made
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def fingerprint(key: bytes) -> str:
    """Return eight hex digits that show in a log whether two boxes have the same key."""
    return sha256(b"fingerprint" + key).hexdigest()[:8]
