"""The evaluator's checkpoint on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alarms.checkpoint_file import CheckpointFile
from watchroom.disk import RealDisk


def file_in(folder: Path) -> CheckpointFile:
    return CheckpointFile(folder / "alarms" / "site.checkpoint", RealDisk())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(offset=st.integers(0, 2**62), state=st.binary(max_size=300))
def test_what_was_written_is_read(tmp_path: Path, offset: int, state: bytes) -> None:
    """State and position come back as they were, whatever bytes the state has."""
    file = file_in(tmp_path)
    file.write(offset, state, rules="r")
    assert file.read() == (offset, state)


def test_before_the_first_there_is_none(tmp_path: Path) -> None:
    """A first start has no checkpoint."""
    assert file_in(tmp_path).read() is None


def test_every_damage_is_noticed(tmp_path: Path) -> None:
    """Any byte changed, or the file cut anywhere: there is no checkpoint, never a wrong one."""
    file = file_in(tmp_path)
    file.write(7, b"state\nof\x00things", rules="r")
    path = tmp_path / "alarms" / "site.checkpoint"
    whole = path.read_bytes()
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 0x41]) + whole[index + 1 :])
        assert file.read() is None
        path.write_bytes(whole[:index])
        assert file.read() is None
    path.write_bytes(whole)
    assert file.read() == (7, b"state\nof\x00things")


@pytest.mark.parametrize("junk", [b"", b"\n", b"WRAC1\n", b"\x00" * 100])
def test_junk_is_no_checkpoint(tmp_path: Path, junk: bytes) -> None:
    """A file of something else is not believed."""
    file = file_in(tmp_path)
    (tmp_path / "alarms" / "site.checkpoint").write_bytes(junk)
    assert file.read() is None
