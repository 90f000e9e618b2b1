"""The journal: what every reader may rely on, whatever the crash point."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.disk_shim import CrashDisk, PowerCut
from watchroom.errors import StoreError
from watchroom.journal import FileJournal, Record, fresh_offset, is_tick

SITE = "spruce-court"


def payload(number: int, size: int = 200) -> bytes:
    """Return bytes that say which record they belong to."""
    return random.Random(number).randbytes(size)


def read_all(journal: FileJournal, offset: int = 0, max_bytes: int = 1 << 20) -> list[Record]:
    """Read as a reader does: on from the last offset until nothing comes."""
    found: list[Record] = []
    while records := journal.read(SITE, offset, max_bytes=max_bytes):
        found += records
        offset = records[-1].offset + 1
    return found


def fill(journal: FileJournal, first: int, count: int, size: int = 200) -> None:
    for number in range(first, first + count):
        assert journal.append(SITE, "pump-house", payload(number, size), arrived_ms=number) == number
    journal.sync(SITE)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FileJournal]:
    made = FileJournal(tmp_path / "journal", segment_bytes=20_000, tail_bytes=4_000)
    yield made
    made.close()


def test_what_is_synced_is_read_in_order(journal: FileJournal) -> None:
    """Readers get every record once, in the order of arrival, with its gateway and its time."""
    fill(journal, 0, 300)
    assert read_all(journal) == [Record(number, number, "pump-house", payload(number)) for number in range(300)]
    assert (journal.begin(SITE), journal.end(SITE)) == (0, 300)


def test_nobody_sees_what_is_not_durable(journal: FileJournal) -> None:
    """An alarm must not be raised on a frame that a power cut could still take back."""
    fill(journal, 0, 3)
    journal.append(SITE, "pump-house", payload(3), arrived_ms=3)
    assert journal.end(SITE) == 3
    assert [record.offset for record in read_all(journal)] == [0, 1, 2]
    assert not journal.wait(SITE, 3, 0.0)
    journal.sync(SITE)
    assert [record.offset for record in journal.read(SITE, 3)] == [3]


def test_a_tick_is_a_record_without_sender_and_content(journal: FileJournal) -> None:
    """The centre's clock stands in the journal, so that a replay judges silence exactly as it was."""
    journal.append(SITE, "", b"", arrived_ms=1_763_800_000_000)
    fill(journal, 1, 1)
    assert [is_tick(record) for record in read_all(journal)] == [True, False]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=12), min_size=1, max_size=12),
    max_bytes=st.integers(1, 9000),
    start=st.integers(0, 60),
)
def test_any_reader_from_any_offset_sees_the_same(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]], max_bytes: int, start: int
) -> None:
    """From memory or from files, in this process or another, in any portion: the records are the same."""
    folder = tmp_path_factory.mktemp("journal")
    writer = FileJournal(folder, segment_bytes=5_000, tail_bytes=2_000)
    wanted: list[bytes] = []
    for sizes in batches:
        for size in sizes:
            wanted.append(payload(len(wanted), size))
            writer.append(SITE, "gw", wanted[-1], arrived_ms=0)
        writer.sync(SITE)
    follower = FileJournal(folder, read_only=True)
    for reader in (writer, follower):
        found = read_all(reader, start, max_bytes)
        assert [record.payload for record in found] == wanted[start:]
        assert [record.offset for record in found] == list(range(min(start, len(wanted)), len(wanted)))
    writer.close()
    again = FileJournal(folder, read_only=False)
    assert [record.payload for record in read_all(again, start, max_bytes)] == wanted[start:]
    again.close()


def test_a_portion_is_as_large_as_asked(journal: FileJournal) -> None:
    """A reader bounds its memory by max_bytes, and still gets on when one record alone is larger."""
    fill(journal, 0, 100)
    assert len(journal.read(SITE, 0, max_bytes=1000)) == 5
    assert len(journal.read(SITE, 99, max_bytes=1)) == 1
    assert len(journal.read(SITE, 10, max_bytes=1)) == 1
    assert journal.read(SITE, 100) == []
    assert journal.read(SITE, 5000) == []


def test_a_waiting_reader_is_woken(journal: FileJournal) -> None:
    """An alarm does not wait for a polling interval."""
    fill(journal, 0, 1)
    woken: list[tuple[bool, float]] = []

    def wait() -> None:
        found = journal.wait(SITE, 1, 10.0)
        woken.append((found, time.monotonic()))

    reader = threading.Thread(target=wait)
    reader.start()
    fill(journal, 1, 1)
    synced = time.monotonic()
    reader.join(10)
    assert woken[0][0]
    assert woken[0][1] - synced < 1.0


def test_another_process_follows(tmp_path: Path) -> None:
    """The dashboard reads the files that the engine writes, segment after segment, while they grow."""
    folder = tmp_path / "journal"
    code = (
        "import sys; from pathlib import Path; from watchroom.journal import FileJournal\n"
        f"journal = FileJournal(Path(sys.argv[1]), segment_bytes=20000)\n"
        "for number in range(400):\n"
        f"    journal.append({SITE!r}, 'gw', number.to_bytes(4, 'big') * 100, arrived_ms=number)\n"
        f"    journal.sync({SITE!r})\n"
        "journal.close()\n"
    )
    follower = FileJournal(folder, read_only=True)
    assert follower.end(SITE) == 0
    assert follower.begin(SITE) == 0
    assert follower.read(SITE, 0) == []
    with subprocess.Popen([sys.executable, "-c", code, str(folder)]) as process:
        found: list[Record] = []
        while len(found) < 400:
            assert follower.wait(SITE, len(found), 20.0), f"nothing after {len(found)}"
            found += follower.read(SITE, len(found))
        assert process.wait(20) == 0
    assert [record.payload for record in found] == [number.to_bytes(4, "big") * 100 for number in range(400)]
    assert len(list((folder / SITE).glob("*.seg"))) > 3
    with pytest.raises(StoreError, match="reading only"):
        follower.append(SITE, "gw", b"", arrived_ms=0)


def test_only_one_process_writes(journal: FileJournal, tmp_path: Path) -> None:
    """A second engine on the same folder is told so instead of spoiling the files."""
    fill(journal, 0, 1)
    with pytest.raises(StoreError, match="another process"):
        FileJournal(tmp_path / "journal").end(SITE)
    journal.close()
    second = FileJournal(tmp_path / "journal")
    assert second.end(SITE) == 1
    second.close()


def test_sites_are_apart(journal: FileJournal) -> None:
    """Each site has its own offsets, and a site's name cannot leave the folder."""
    fill(journal, 0, 2)
    assert journal.append("other-site", "gw", b"x", arrived_ms=0) == 0
    journal.sync("other-site")
    assert (journal.end(SITE), journal.end("other-site")) == (2, 1)
    with pytest.raises(ValueError, match="id of a site"):
        journal.end("../outside")


# --- trimming -------------------------------------------------------------------------------------------------


def segments(tmp_path: Path) -> list[int]:
    return sorted(int(path.stem) for path in (tmp_path / "journal" / SITE).glob("*.seg"))


def test_nothing_is_trimmed_that_a_durable_reader_still_needs(journal: FileJournal, tmp_path: Path) -> None:
    """However old or many: what alarms or history have not taken stays."""
    for batch in range(10):
        fill(journal, batch * 30, 30, size=1000)
    before = segments(tmp_path)
    assert len(before) > 5
    drop_all = {"now_ms": 1 << 50, "keep_bytes": 0, "keep_ms": 0}
    assert journal.trim(SITE, **drop_all) == 0  # a reader that was never here needs everything
    journal.checkpoint(SITE, "ingest", 300)
    journal.checkpoint(SITE, "alarms", 300)
    journal.checkpoint(SITE, "history", 100)
    begin = journal.trim(SITE, **drop_all)
    assert begin == max(first for first in before if first <= 100)
    assert [record.offset for record in read_all(journal)] == list(range(begin, 300))
    assert segments(tmp_path) == [first for first in before if first >= begin]


def test_what_nobody_needs_goes_by_age_or_size_only(journal: FileJournal) -> None:
    """The journal keeps hours to days for replay, and no more than its share of the disk."""
    for batch in range(10):
        fill(journal, batch * 30, 30, size=1000)
    for reader in ("ingest", "alarms", "history"):
        journal.checkpoint(SITE, reader, 300)
    assert journal.trim(SITE, now_ms=300, keep_bytes=1 << 30, keep_ms=1000) == 0
    by_age = journal.trim(SITE, now_ms=1100, keep_bytes=1 << 30, keep_ms=1000)
    assert 0 < by_age <= 100
    by_size = journal.trim(SITE, now_ms=1100, keep_bytes=70_000, keep_ms=1 << 40)
    assert by_age < by_size < 300
    assert [record.offset for record in read_all(journal)] == list(range(by_size, 300))


def test_checkpoints_never_move_back_and_outlive_a_restart(tmp_path: Path) -> None:
    """A reader that is restarted is still known, so nothing is trimmed before it has come back."""
    first = FileJournal(tmp_path / "journal")
    fill(first, 0, 10)
    first.checkpoint(SITE, "alarms", 7)
    first.checkpoint(SITE, "alarms", 5)
    first.close()
    second = FileJournal(tmp_path / "journal")
    assert second.checkpoints(SITE) == {"ingest": 0, "alarms": 7, "history": 0}
    second.close()


def test_a_follower_survives_trimming(tmp_path: Path) -> None:
    """A screen that fell behind goes on with the oldest record kept."""
    writer = FileJournal(tmp_path / "journal", segment_bytes=20_000, durable_readers=())
    for batch in range(10):
        fill(writer, batch * 30, 30, size=1000)
    follower = FileJournal(tmp_path / "journal", read_only=True)
    assert follower.read(SITE, 0, max_bytes=1)[0].offset == 0
    begin = writer.trim(SITE, now_ms=1 << 50, keep_bytes=0, keep_ms=0)
    assert begin == 300
    assert follower.read(SITE, 1) == []
    fill(writer, 300, 5)
    assert follower.read(SITE, 2, max_bytes=1)[0].offset == begin
    assert follower.begin(SITE) == begin
    writer.close()


# --- crashes --------------------------------------------------------------------------------------------------


def write_until_cut(disk: CrashDisk, folder: Path, rounds: int) -> tuple[dict[int, bytes], int]:
    """Append and sync until the power goes.

    Returns:
        Everything appended by offset, and how many of those a sync confirmed.
    """
    appended: dict[int, bytes] = {}
    confirmed = 0
    journal = FileJournal(folder, disk=disk, segment_bytes=3_000, tail_bytes=1_000, durable_readers=("alarms",))
    try:
        confirmed = journal.end(SITE)
        for round_ in range(rounds):
            for _ in range(round_ % 4 + 1):
                data = random.Random(f"{disk.steps} {len(appended)}").randbytes(300)
                appended[journal.append(SITE, "gw", data, arrived_ms=round_)] = data
            confirmed = journal.sync(SITE)
            if round_ % 5 == 4:
                journal.checkpoint(SITE, "alarms", max(0, confirmed - 20))
                journal.trim(SITE, now_ms=0, keep_bytes=0, keep_ms=1 << 40)
    except PowerCut:
        pass
    with suppress(PowerCut):
        journal.close()
    return appended, confirmed


def total_steps(tmp_path: Path, rounds: int) -> int:
    disk = CrashDisk(tmp_path / "morgue-0")
    write_until_cut(disk, tmp_path / "journal-0", rounds)
    return disk.steps


@pytest.mark.parametrize("chance", range(4))
def test_readers_see_every_confirmed_record_whatever_the_crash_point(tmp_path: Path, chance: int) -> None:
    """Cut the power before each single step, spoil what was not synced: every confirmed record is still there."""
    steps = total_steps(tmp_path, 16)
    assert steps > 60
    for step in range(1, steps + 1):
        folder = tmp_path / f"journal-{step}"
        disk = CrashDisk(tmp_path / f"morgue-{step}", cut_at=step)
        appended, confirmed = write_until_cut(disk, folder, 16)
        disk.cut(random.Random(f"{chance} {step}"))
        check_survivors(folder, appended, confirmed)


def check_survivors(folder: Path, appended: dict[int, bytes], confirmed: int) -> None:
    """Every confirmed record not trimmed is there and right; writing goes on after it."""
    journal = FileJournal(folder, segment_bytes=3_000, durable_readers=("alarms",))
    begin, end = journal.begin(SITE), journal.end(SITE)
    assert end >= confirmed
    found = read_all(journal, begin)
    assert [record.offset for record in found] == list(range(begin, end))
    assert begin <= max(0, confirmed - 20)
    for record in found:
        assert record.payload == appended[record.offset]
    journal.append(SITE, "gw", b"after the crash", arrived_ms=9)
    journal.sync(SITE)
    assert journal.read(SITE, end) == [Record(end, 9, "gw", b"after the crash")]
    follower = FileJournal(folder, read_only=True)
    assert len(read_all(follower, begin)) == end - begin + 1
    journal.close()


def test_a_second_crash_during_the_repair_harms_nothing(tmp_path: Path) -> None:
    """A box that loses power again while it starts up still has every confirmed record."""
    folder = tmp_path / "journal"
    disk = CrashDisk(tmp_path / "m1", cut_at=55)
    appended, confirmed = write_until_cut(disk, folder, 12)
    disk.cut(random.Random(5))
    for step in range(1, 12):
        again = CrashDisk(tmp_path / f"m2-{step}", cut_at=step)
        with suppress(PowerCut):
            reopened = FileJournal(folder, disk=again, segment_bytes=3_000)
            assert reopened.end(SITE) >= confirmed
            with suppress(PowerCut):
                reopened.close()
        again.cut(random.Random(step))
    journal = FileJournal(folder)
    survivors = {record.offset: record.payload for record in read_all(journal, journal.begin(SITE))}
    assert all(survivors[offset] == appended[offset] for offset in range(journal.begin(SITE), confirmed))
    journal.close()


def test_a_refused_sync_takes_back_the_whole_batch(tmp_path: Path) -> None:
    """On a full disk nothing half written counts, and the same frames may be appended again afterwards."""
    disk = CrashDisk(tmp_path / "morgue")
    journal = FileJournal(tmp_path / "journal", disk=disk)
    fill(journal, 0, 5)
    for refused in ("write", "sync", "open", "truncate"):
        end = journal.end(SITE)
        disk.refusing = {refused} if refused in {"write", "sync"} else {"sync"}
        journal.append(SITE, "gw", b"lost", arrived_ms=0)
        with pytest.raises(StoreError, match="no space"):
            journal.sync(SITE)
        assert journal.end(SITE) == end
        disk.refusing = {refused}
        if refused not in {"write", "sync"}:
            # mending the file needs the disk too; as long as it refuses, nothing is confirmed
            journal.append(SITE, "gw", b"lost again", arrived_ms=0)
            with pytest.raises(StoreError):
                journal.sync(SITE)
        disk.refusing = set()
        assert journal.append(SITE, "gw", payload(end), arrived_ms=0) == end
        assert journal.sync(SITE) == end + 1
    assert [record.payload for record in read_all(journal)] == [payload(number) for number in range(9)]
    journal.close()
    disk.cut(random.Random(1))
    again = FileJournal(tmp_path / "journal")
    assert [record.payload for record in read_all(again)] == [payload(number) for number in range(9)]
    again.close()


def test_a_failed_sync_of_one_thread_is_told_to_the_others(tmp_path: Path) -> None:
    """Frames that another thread's failed sync took with it are never acknowledged: their own sync fails as well."""
    disk = CrashDisk(tmp_path / "morgue")
    journal = FileJournal(tmp_path / "journal", disk=disk)
    fill(journal, 0, 3)
    journal.append(SITE, "pump-house", payload(3), arrived_ms=3)

    def fails() -> None:
        journal.append(SITE, "centre", b"card", arrived_ms=3)
        disk.refusing = {"write"}
        with pytest.raises(StoreError, match="no space"):
            journal.sync(SITE)
        disk.refusing = set()
        journal.append(SITE, "centre", b"card", arrived_ms=4)
        assert journal.sync(SITE) == 4

    other = threading.Thread(target=fails)
    other.start()
    other.join(20)
    journal.append(SITE, "pump-house", payload(4), arrived_ms=5)
    with pytest.raises(StoreError, match="another thread"):
        journal.sync(SITE)
    for number in (3, 4):
        journal.append(SITE, "pump-house", payload(number), arrived_ms=6)
    journal.sync(SITE)
    assert [row.payload for row in read_all(journal)] == [*map(payload, range(3)), b"card", payload(3), payload(4)]
    journal.close()


def test_a_segment_that_cannot_be_started_stops_nothing(tmp_path: Path) -> None:
    """When no new file can be made the journal goes on in the old one."""
    disk = CrashDisk(tmp_path / "morgue")
    journal = FileJournal(tmp_path / "journal", disk=disk, segment_bytes=1_000)
    fill(journal, 0, 2)
    disk.refusing = {"sync_folder"}
    fill(journal, 2, 20)
    assert segments(tmp_path) == [0]
    disk.refusing = set()
    fill(journal, 22, 3)
    assert segments(tmp_path) == [0, 25]
    assert [record.payload for record in read_all(journal)] == [payload(number) for number in range(25)]
    journal.close()


def spoil_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("where", [1, -1])
def test_a_damaged_record_costs_itself_and_nothing_more(tmp_path: Path, where: int) -> None:
    """A bad sector in an old segment or in the newest is counted; readers go on with the record behind it."""
    journal = FileJournal(tmp_path / "journal", segment_bytes=20_000, tail_bytes=0)
    for batch in range(10):
        fill(journal, batch * 30, 15 if batch == 9 else 30, size=1000)
    first = segments(tmp_path)[where]
    spoil_middle(tmp_path / "journal" / SITE / f"{first:020d}.seg")
    for reader in (journal, FileJournal(tmp_path / "journal", read_only=True)):
        found = {record.offset: record.payload for record in read_all(reader)}
        (missing,) = set(range(285)) - set(found)
        assert first < missing < first + 30
        assert all(found[offset] == payload(offset, 1000) for offset in found)
        assert reader.lost(SITE) == 1
        assert reader.read(SITE, missing, max_bytes=1)[0].offset == missing + 1
    journal.close()


def test_a_segment_that_lost_its_rest_is_passed_over(tmp_path: Path) -> None:
    """A file cut short by a bad disk stops no reader, and every record missing is counted."""
    journal = FileJournal(tmp_path / "journal", segment_bytes=20_000, tail_bytes=0)
    for batch in range(4):
        fill(journal, batch * 30, 30, size=1000)
    first, following = segments(tmp_path)[1:3]
    path = tmp_path / "journal" / SITE / f"{first:020d}.seg"
    path.write_bytes(path.read_bytes()[:5000])
    missing = sorted(set(range(120)) - {record.offset for record in read_all(journal)})
    assert missing == list(range(missing[0], following))
    assert journal.lost(SITE) == len(missing) > 20
    journal.close()


def test_confirmed_records_behind_a_damage_survive_a_restart(tmp_path: Path) -> None:
    """Rubbish before the confirmed end is a bad disk, not a torn write: what stands behind it is kept and read."""
    journal = FileJournal(tmp_path / "journal")
    fill(journal, 0, 50)
    journal.close()
    spoil_middle(tmp_path / "journal" / SITE / f"{0:020d}.seg")
    again = FileJournal(tmp_path / "journal")
    found = [record.offset for record in read_all(again)]
    assert again.end(SITE) == 50
    assert len(found) == 49
    assert again.lost(SITE) == 1
    fill(again, 50, 5)
    assert [record.offset for record in read_all(again)] == [*found, *range(50, 55)]
    again.close()


def test_numbers_of_lost_records_are_never_used_again(tmp_path: Path) -> None:
    """The confirmed tail is gone: what comes now gets new numbers, or readers that had been there would skip it."""
    journal = FileJournal(tmp_path / "journal")
    fill(journal, 0, 50)
    journal.close()
    path = tmp_path / "journal" / SITE / f"{0:020d}.seg"
    path.write_bytes(path.read_bytes()[:4000])
    again = FileJournal(tmp_path / "journal")
    assert again.end(SITE) == 50
    fill(again, 50, 3)
    found = [record.offset for record in read_all(again)]
    assert found[-3:] == [50, 51, 52]
    assert again.lost(SITE) == 53 - len(found) > 20
    again.close()
    third = FileJournal(tmp_path / "journal")
    assert [record.offset for record in read_all(third)] == found
    third.close()


def test_what_a_torn_write_left_is_kept_for_people(tmp_path: Path) -> None:
    """What is cut off at the start is copied first: a bad disk looks the same as a half-written record."""
    journal = FileJournal(tmp_path / "journal")
    fill(journal, 0, 50)
    journal.close()
    folder = tmp_path / "journal" / SITE
    (folder / "end").unlink()  # nobody was told how far it goes
    whole = (folder / f"{0:020d}.seg").read_bytes()
    spoil_middle(folder / f"{0:020d}.seg")
    again = FileJournal(tmp_path / "journal")
    assert 20 < again.end(SITE) < 30
    torn = (folder / "torn").read_bytes()
    assert len(torn) > len(whole) // 3
    assert whole.endswith(torn[1000:])
    again.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_costs_only_the_records_it_hits(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Spoil any stretch of bytes of a segment: every record outside the stretch is still read, and no wrong one."""
    folder = tmp_path_factory.mktemp("journal")
    journal = FileJournal(folder, segment_bytes=1 << 20, tail_bytes=0)
    sizes = data.draw(st.lists(st.integers(0, 400), min_size=5, max_size=30))
    places, at = [], 24
    for number, size in enumerate(sizes):
        journal.append(SITE, "gw", payload(number, size), arrived_ms=1_763_800_000_000 + number)
        places.append((at, at := at + 18 + 2 + size))
    journal.sync(SITE)
    path = folder / SITE / f"{0:020d}.seg"
    content = bytearray(path.read_bytes())
    assert len(content) == at
    low = data.draw(st.integers(24, at - 1))
    high = data.draw(st.integers(low + 1, min(at, low + 900)))
    content[low:high] = bytes(255 - octet for octet in content[low:high])
    path.write_bytes(content)
    whole = [number for number, (begin, end) in enumerate(places) if end <= low or begin >= high]
    reader = FileJournal(folder, read_only=True)
    found: list[Record] = []
    with suppress(StoreError):  # the confirmed tail is gone: told, because the next start mends it
        while records := reader.read(SITE, found[-1].offset + 1 if found else 0):
            found += records
    assert [record.offset for record in found] == whole
    assert all(record.payload == payload(record.offset, sizes[record.offset]) for record in found)
    journal.close()


def test_a_journal_begun_anew_is_beyond_the_old_one(tmp_path: Path) -> None:
    """A wiped journal uses no number again: a reader's old position can neither skip nor repeat anything of it."""
    ends = []
    for now_ms in (1_763_800_000_000, 1_763_800_060_000):
        journal = FileJournal(tmp_path / "journal", begins_at=partial(fresh_offset, now_ms))
        begin = journal.end(SITE)
        assert journal.begin(SITE) == begin
        for number in range(20):
            assert journal.append(SITE, "gw", payload(number), arrived_ms=number) == begin + number
        ends.append(journal.sync(SITE))
        journal.close()
        again = FileJournal(tmp_path / "journal", begins_at=lambda: 7)
        assert again.end(SITE) == ends[-1], "a journal that is there goes on"
        again.close()
        shutil.rmtree(tmp_path / "journal")
    journal = FileJournal(tmp_path / "journal", begins_at=lambda: fresh_offset(1_763_800_120_000))
    fill_from = journal.end(SITE)
    journal.append(SITE, "gw", b"new", arrived_ms=0)
    journal.sync(SITE)
    assert ends[0] < ends[1] < fill_from < 1 << 53
    assert [record.payload for record in journal.read(SITE, ends[0])] == [b"new"]
    journal.close()


def test_what_is_kept_for_the_slowest_reader_is_known(journal: FileJournal) -> None:
    """People are told before the journal of a reader that stopped fills the disk."""
    for batch in range(10):
        fill(journal, batch * 30, 30, size=1000)
    for reader, offset in (("ingest", 300), ("alarms", 290), ("history", 95)):
        journal.checkpoint(SITE, reader, offset)
    unread = journal.unread(SITE)
    assert (unread.reader, unread.records, unread.since_ms) == ("history", 205, 95)
    assert 205_000 < unread.size < 245_000
    journal.checkpoint(SITE, "history", 300)
    journal.checkpoint(SITE, "alarms", 300)
    assert journal.unread(SITE)[1:] == (0, journal.unread(SITE).size, None)
    assert journal.unread(SITE).size < 21_000


@pytest.mark.parametrize("spoil", [lambda _: b"", lambda data: data[:7], lambda _: b"rubbish rubbish rubbish!"])
def test_a_follower_is_not_misled_by_a_torn_end_mark(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """Reading the mark while it is written shows the last true end, never a wrong one."""
    writer = FileJournal(tmp_path / "journal")
    fill(writer, 0, 5)
    follower = FileJournal(tmp_path / "journal", read_only=True)
    assert follower.end(SITE) == 5
    mark = tmp_path / "journal" / SITE / "end"
    good = mark.read_bytes()
    mark.write_bytes(spoil(good))
    assert follower.end(SITE) == 5
    mark.write_bytes(good)
    fill(writer, 5, 1)
    assert follower.end(SITE) == 6
    writer.close()


def test_a_large_batch_costs_little(tmp_path: Path) -> None:
    """A batch of 256 frames of 2 KiB is one sync and cheap to read back: one compound's second on a small box."""
    journal = FileJournal(tmp_path / "journal")
    data = payload(1, 2048)
    begun = time.process_time()
    for batch in range(20):
        for number in range(256):
            journal.append(SITE, "gw", data, arrived_ms=number)
        assert journal.sync(SITE) == (batch + 1) * 256
    written = time.process_time() - begun
    begun = time.process_time()
    assert len(read_all(FileJournal(tmp_path / "journal", read_only=True))) == 5120
    read = time.process_time() - begun
    # measured 5 and 2.5 microseconds a frame; the limits only catch a change of kind
    assert written / 5120 < 60e-6
    assert read / 5120 < 40e-6
    journal.close()
