"""Quarantine: bad messages are kept for people, counted, bounded, and in nobody's way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ingest.quarantine import NEW_PER_SECOND, Quarantine
from tests.disk_shim import CrashDisk
from watchroom.disk import RealDisk
from watchroom.errors import StoreError


def make(folder: Path, limit: int = 1 << 20) -> tuple[Quarantine, CollectorRegistry]:
    registry = CollectorRegistry()
    return Quarantine(folder / "bad", disk=RealDisk(), registry=registry, limit_bytes=limit), registry


def test_a_message_is_kept_with_its_reason(tmp_path: Path) -> None:
    """A person finds what came, on which topic, when, and why it was refused."""
    quarantine, registry = make(tmp_path)
    assert quarantine.put("crc", "wr1/s/gw/d", b"\x00\xffbytes", now_ms=1_763_800_000_000, detail="sum")
    (path,) = (tmp_path / "bad").iterdir()
    head, payload = path.read_bytes().split(b"\n", 1)
    assert payload == b"\x00\xffbytes"
    assert json.loads(head) == {
        "reason": "crc", "detail": "sum", "topic": "wr1/s/gw/d", "time_ms": 1_763_800_000_000,
    }  # fmt: skip
    assert path.name.startswith("1763800000000-crc-")
    assert registry.get_sample_value("watchroom_quarantined_total", {"reason": "crc"}) == 1


def test_the_same_message_again_is_only_counted(tmp_path: Path) -> None:
    """A gateway that repeats one bad frame for a week fills no disk, also over restarts."""
    for _ in range(3):
        quarantine, _ = make(tmp_path)
        for now_ms in range(5):
            assert quarantine.put("crc", "t", b"same", now_ms=now_ms)
        assert quarantine.counts["crc"] == 5
    assert len(list((tmp_path / "bad").iterdir())) == 1


def test_the_oldest_goes_when_it_is_full(tmp_path: Path) -> None:
    """Quarantine never takes more of the disk than it was given."""
    quarantine, _ = make(tmp_path, limit=3_000)
    for number in range(20):
        assert quarantine.put("json", "t", bytes([number]) * 500, now_ms=number * 1000)
        assert quarantine.size_bytes == sum(path.stat().st_size for path in (tmp_path / "bad").iterdir()) <= 3_000
    times = sorted(int(path.name.split("-")[0]) for path in (tmp_path / "bad").iterdir())
    assert times == [number * 1000 for number in range(20 - len(times), 20)]
    assert not quarantine.put("json", "t", bytes(5_000), now_ms=21_000)


def test_frames_of_a_newer_version_are_not_pushed_out(tmp_path: Path) -> None:
    """A frame that a newer program will read was acknowledged, so it must stay, or not be acknowledged."""
    quarantine, _ = make(tmp_path, limit=3_000)
    kept = [quarantine.put("version", "t", bytes([number]) * 500, now_ms=number) for number in range(20)]
    assert kept == [True] * 5 + [False] * 15
    assert not quarantine.put("crc", "t", b"other" * 100, now_ms=99_000)
    assert len([path for path in (tmp_path / "bad").iterdir() if "-version-" in path.name]) == 5


def test_a_flood_of_rubbish_does_not_wear_out_the_disk(tmp_path: Path) -> None:
    """A device gone mad is counted completely and kept in samples."""
    quarantine, _ = make(tmp_path)
    for number in range(NEW_PER_SECOND * 3):
        quarantine.put("length", "t", b"%d" % number, now_ms=1_000)
    assert quarantine.counts["length"] == NEW_PER_SECOND * 3
    assert len(list((tmp_path / "bad").iterdir())) == NEW_PER_SECOND
    assert quarantine.put("length", "t", b"next second", now_ms=2_000)


def test_what_could_not_be_kept_is_told(tmp_path: Path) -> None:
    """On a full disk the caller learns that the message is not safe, and may try again."""
    disk = CrashDisk(tmp_path / "morgue")
    quarantine = Quarantine(tmp_path / "bad", disk=disk, registry=CollectorRegistry())
    disk.refusing = {"write"}
    with pytest.raises(StoreError):
        quarantine.put("crc", "t", b"x", now_ms=0)
    disk.refusing = set()
    assert quarantine.put("crc", "t", b"x", now_ms=0)
    names = [path.name for path in (tmp_path / "bad").iterdir()]
    assert [name.endswith(".bad") for name in names] == [True]
