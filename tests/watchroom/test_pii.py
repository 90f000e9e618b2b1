"""Cards and persons as keyed hashes."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from watchroom.errors import ConfigError
from watchroom.pii import keyed_hash, load_key
from watchroom.settings import Settings


def test_a_card_is_the_same_everywhere_and_readable_nowhere() -> None:
    """The same card and key give the same hash, another key another one; the number is not in it."""
    first = keyed_hash(b"key", "0A1B2C3D")
    assert re.fullmatch(r"k:[0-9a-f]{16}", first)
    assert first == keyed_hash(b"key", "0A1B2C3D")
    assert len({first, keyed_hash(b"key", "0A1B2C3E"), keyed_hash(b"other", "0A1B2C3D")}) == 3
    assert "0A1B2C3D" not in first


def test_a_known_answer() -> None:
    """The hash is HMAC-SHA256, so that another program with the key can find a card: RFC 4231, case 2."""
    assert keyed_hash(b"Jefe", "what do ya want for nothing?") == "k:5bdcc146bf60754e"


def test_the_key_is_made_once_and_kept(tmp_path: Path) -> None:
    """The first start makes a key that only the service's account can read; every later start finds it."""
    settings = Settings(data=tmp_path / "data")
    key = load_key(settings)
    path = tmp_path / "data" / "key"
    assert len(key) == 64
    assert load_key(settings) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["key"]


def test_gateways_that_start_together_agree(tmp_path: Path) -> None:
    """Twelve gateways that start at once on a new box use one key."""
    settings = Settings(data=tmp_path)
    with ThreadPoolExecutor(12) as pool:
        keys = set(pool.map(lambda _: load_key(settings), range(12)))
    assert len(keys) == 1


def test_a_key_from_the_environment_wins(tmp_path: Path) -> None:
    """Several boxes share a key through their settings; nothing is written then."""
    settings = Settings(data=tmp_path, key=SecretStr("shared by all boxes"))
    assert load_key(settings) == b"shared by all boxes"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_key_is_not_replaced_silently(tmp_path: Path) -> None:
    """With a new key all known cards would be strangers: a person must decide."""
    (tmp_path / "key").write_text("\n")
    with pytest.raises(ConfigError, match=r"the key for hashing is too short .put it back from your backup"):
        load_key(Settings(data=tmp_path))
