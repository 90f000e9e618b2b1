"""An outbox on a card that forgets: one damaged byte costs the frame it stands in, and is told."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.outbox import Outbox
from tests.gateway.memory_disk import MemoryDisk
from tests.gateway.test_outbox import FOLDER, D, U, held, opened, put
from watchroom.signals import Lane


def filled(lanes: list[Lane], *, segment_bytes: int = 1500) -> tuple[MemoryDisk, dict[int, bytes]]:
    """A disk with one committed frame a lane given, and what they hold."""
    disk = MemoryDisk()
    outbox = opened(disk, segment_bytes=segment_bytes)
    for lane in lanes:
        put(outbox, lane, size=80)
        outbox.commit()
    return disk, held(outbox)


def files(disk: MemoryDisk) -> list[tuple[Path, int]]:
    """Every byte's file, as (path, length)."""
    return [(FOLDER / name, disk.size(FOLDER / name)) for name in disk.names(FOLDER)]


def flip(disk: MemoryDisk, place: int, bit: int) -> None:
    """Damage one byte, counted over all files."""
    for path, size in files(disk):
        if place < size:
            data = bytearray(disk.read(path))
            data[place] ^= 1 << bit
            disk.unlink(path)
            disk.open_append(path).write(bytes(data))
            return
        place -= size


def lost(outbox: Outbox) -> set[int]:
    return {seq for loss in outbox.losses() for a, b in loss.ranges for seq in range(a, b + 1)}


@settings(max_examples=300, deadline=None)
@given(
    lanes=st.lists(st.sampled_from([U, D]), min_size=1, max_size=40),
    share=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_any_damaged_byte_costs_its_own_frame_at_most(lanes: list[Lane], share: float, bit: int) -> None:
    """Whatever byte is damaged: all other frames are sent, the lost one is told, and no number is used twice."""
    disk, before = filled(lanes)
    flip(disk, int(share * sum(size for _, size in files(disk))), bit)
    again = opened(disk)
    after, gone = held(again), lost(again)
    assert all(before[seq] == payload for seq, payload in after.items())
    assert len(before) - len(after) <= 1
    assert set(before) - set(after) <= gone
    assert not gone & set(after)
    assert put(again, U) > max(before), "a number that the centre may know must not mean something else"


def test_damage_in_the_newest_file_keeps_what_follows() -> None:
    """The frames behind the damaged one are not cut off, and their numbers are not used again."""
    disk, before = filled([U] * 9, segment_bytes=1 << 20)
    (_, size), *_ = files(disk)
    flip(disk, size // 2, 3)
    again = opened(disk, segment_bytes=1 << 20)
    (missing,) = set(before) - set(held(again))
    assert 2 <= missing <= 8
    assert lost(again) == {missing}
    assert put(again, U) == 10


def test_a_damaged_last_frame_is_not_overwritten_by_a_new_one() -> None:
    """The last frame may have reached the centre before its bytes were damaged: its number is skipped."""
    disk, before = filled([U, U, U], segment_bytes=1 << 20)
    flip(disk, sum(size for _, size in files(disk)) - 5, 1)
    again = opened(disk, segment_bytes=1 << 20)
    assert set(held(again)) == {1, 2}
    assert 3 in lost(again)
    new = put(again, U)
    assert new > 3
    again.commit()
    third = opened(disk, segment_bytes=1 << 20)
    assert set(held(third)) == {1, 2, new}
    assert lost(third) == set(), "told once"
    assert set(before) == {1, 2, 3}


def test_a_write_that_the_power_cut_ended_is_no_damage() -> None:
    """A torn tail was never committed: nothing is lost, and its number is free."""
    disk, before = filled([U, U, U], segment_bytes=1 << 20)
    (path, size), *_ = files(disk)
    for length in range(1, 100):
        torn = MemoryDisk()
        torn.make_folder(FOLDER)
        torn.open_append(path).write(disk.read(path)[: size - length])
        again = opened(torn, segment_bytes=1 << 20)
        assert set(held(again)) == {1, 2}
        assert not again.has_losses
        assert put(again, U) == 3
    assert set(before) == {1, 2, 3}


def test_a_damaged_state_costs_no_epoch() -> None:
    """The outbox's own facts stand in every file: one damaged copy changes nothing."""
    disk, before = filled([U, D, U, D], segment_bytes=1 << 20)
    epoch = opened(disk).epoch
    flip(disk, 40, 0)  # the first record of the first file is its state
    again = opened(disk)
    assert again.epoch == epoch
    assert held(again) == before
