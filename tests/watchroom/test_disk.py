"""The disk, and the shim that stands for it when the power goes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.disk_shim import CrashDisk, PowerCut
from watchroom.disk import Disk, RealDisk, replace_file
from watchroom.errors import StoreError


@pytest.fixture(params=["real", "shim"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return RealDisk() if request.param == "real" else CrashDisk(tmp_path / "morgue")


def test_files_grow_and_are_read_back(disk: Disk, tmp_path: Path) -> None:
    """Append, sync, cut, read in pieces: both disks do the same."""
    folder = tmp_path / "a" / "b"
    disk.make_folder(folder)
    file = disk.open_append(folder / "log")
    file.write(b"hello ")
    file.write(b"world")
    file.sync()
    disk.sync_folder(folder)
    assert file.size == disk.size(folder / "log") == 11
    file.truncate(7)
    file.write(b"!")
    file.close()
    again = disk.open_append(folder / "log")
    assert again.size == 8
    again.close()
    assert disk.read(folder / "log") == b"hello w!"
    assert disk.read(folder / "log", 6, 1) == b"w"
    assert disk.read(folder / "log", 100) == b""
    assert disk.names(folder) == ["log"]


def test_names_come_and_go(disk: Disk, tmp_path: Path) -> None:
    """Replace, unlink, list: missing things are no error where that is harmless, and one where it is not."""
    replace_file(disk, tmp_path / "mark", b"one")
    replace_file(disk, tmp_path / "mark", b"two")
    assert disk.read(tmp_path / "mark") == b"two"
    assert "mark.new" not in disk.names(tmp_path)
    disk.unlink(tmp_path / "mark")
    disk.unlink(tmp_path / "mark")
    assert disk.names(tmp_path / "nowhere") == []
    with pytest.raises(FileNotFoundError):
        disk.read(tmp_path / "mark")
    with pytest.raises(FileNotFoundError):
        disk.size(tmp_path / "mark")


def test_a_refusal_is_a_store_error(tmp_path: Path) -> None:
    """Whatever the system says, callers see one error that means: try again later."""
    disk = RealDisk()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        disk.open_append(tmp_path)
    with pytest.raises(StoreError):
        disk.names(tmp_path / "file")
    with pytest.raises(StoreError):
        disk.make_folder(tmp_path / "file" / "folder")


def test_a_really_full_disk_is_a_store_error() -> None:
    """The device that is always full is refused like any full disk."""
    file = RealDisk().open_append(Path("/dev/full"))
    with pytest.raises(StoreError, match="space"):
        file.write(b"x")
    file.close()


@pytest.mark.parametrize("chance", range(30))
def test_the_shim_keeps_exactly_what_was_synced(tmp_path: Path, chance: int) -> None:
    """After a cut the synced bytes are there, and nothing of the rest can be relied on."""
    disk = CrashDisk(tmp_path / "morgue")
    folder = tmp_path / "data"
    disk.make_folder(folder)
    file = disk.open_append(folder / "log")
    file.write(b"A" * 100)
    file.sync()
    disk.sync_folder(folder)
    file.write(b"B" * 100)
    file.close()
    disk.cut(random.Random(chance))
    found = (folder / "log").read_bytes()
    assert found[:100] == b"A" * 100
    assert len(found) <= 200


def test_the_shim_is_as_nasty_as_a_power_cut() -> None:
    """Over many cuts each kind of damage really happens, or the durability tests would prove nothing."""
    seen: set[str] = set()
    for chance in range(200):
        found = _one_cut(chance)
        seen |= found
    assert seen == {
        "name lost", "name kept", "tail lost", "tail whole", "tail short", "tail zero", "tail rubbish",
        "unlink undone", "unlink done", "rename undone", "rename done", "truncate undone", "truncate done",
    }  # fmt: skip


def _one_cut(chance: int) -> set[str]:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        disk = CrashDisk(Path(name) / "morgue")
        disk.make_folder(folder)
        for path in ("log", "gone", "mark", "cut"):
            file = disk.open_append(folder / path)
            file.write(b"old")
            file.sync()
            if path == "cut":
                file.truncate(1)
        disk.sync_folder(folder)
        disk.open_append(folder / "log").write(b"x" * 50)
        draft = disk.open_append(folder / "draft")
        draft.write(b"new")
        draft.sync()
        disk.rename(folder / "draft", folder / "mark")
        disk.unlink(folder / "gone")
        fresh = disk.open_append(folder / "fresh")
        fresh.sync()
        disk.cut(random.Random(chance))
        tail = (folder / "log").read_bytes()[3:]
        kinds = {b"": "tail lost", b"x" * 50: "tail whole", bytes(50): "tail zero"}
        short = "tail short" if set(tail) == {ord("x")} else "tail rubbish"
        return {
            "name kept" if (folder / "fresh").exists() else "name lost",
            kinds.get(tail, short),
            "unlink undone" if (folder / "gone").exists() else "unlink done",
            "rename done" if (folder / "mark").read_bytes() == b"new" else "rename undone",
            "truncate done" if len((folder / "cut").read_bytes()) == 1 else "truncate undone",
        }


def test_after_the_cut_nothing_works_any_more(tmp_path: Path) -> None:
    """A program that goes on after the power is gone is a test with a mistake."""
    disk = CrashDisk(tmp_path / "morgue", cut_at=2)
    file = disk.open_append(tmp_path / "log")
    with pytest.raises(PowerCut):
        file.write(b"1234")
    with pytest.raises(PowerCut):
        file.sync()
    assert disk.steps == 2


@pytest.mark.parametrize("chance", range(6))
def test_a_replaced_file_is_old_or_new_at_any_crash_point(tmp_path: Path, chance: int) -> None:
    """A snapshot, a birth, a checkpoint is never half written."""
    for step in range(1, 8):
        path = tmp_path / f"d{step}" / "mark"
        path.parent.mkdir()
        path.write_bytes(b"old" * 1000)
        disk = CrashDisk(tmp_path / f"m{step}", cut_at=step)
        try:
            replace_file(disk, path, b"new!" * 1000)
            allowed = [b"new!" * 1000]
        except PowerCut:
            allowed = [b"old" * 1000, b"new!" * 1000]
        disk.cut(random.Random(f"{chance} {step}"))
        assert path.read_bytes() in allowed
    assert allowed == [b"new!" * 1000]
