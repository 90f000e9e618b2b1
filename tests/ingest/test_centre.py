"""The centre watches itself: what it reports, when, and that a full disk ends in an alarm instead of in silence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.centre import NAMES, REPORT_S, CentreReport
from ingest.disk_watch import DiskWatch
from tests.brokers import Mosquitto, mosquitto, until
from tests.disk_shim import CrashDisk
from tests.ingest.sender import SITE, birth_frame, samples
from tests.ingest.test_receive import Centre, deliver, numbers, sending
from watchroom.births import BirthStore
from watchroom.centre import CENTRE_GATEWAY, INTAKE
from watchroom.disk import RealDisk
from watchroom.frames import SampleFrame, decode
from watchroom.journal import Record, is_tick


class Clock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now_ms = 1_763_800_000_000

    def __call__(self) -> int:
        return self.now_ms


def made(folder: Path, clock: Clock) -> tuple[CentreReport, BirthStore]:
    births = BirthStore(folder / "births")
    (folder / "ingest").mkdir(exist_ok=True)
    return CentreReport(SITE, births=births, folder=folder / "ingest", disk=RealDisk(), now_ms=clock), births


def values(frame: bytes | None) -> dict[str, float]:
    assert frame is not None
    decoded = decode(frame)
    assert isinstance(decoded, SampleFrame)
    return dict(zip(NAMES, decoded.value.tolist(), strict=True))


def test_the_birth_explains_the_samples(tmp_path: Path) -> None:
    """Readers need nothing but the births to understand what the centre says; a restart announces nothing twice."""
    clock = Clock()
    for _ in range(3):
        report, births = made(tmp_path, clock)
        frame = decode(report.frame(0.0, {"disk_use": 81.5}) or b"")
        birth = births.get(SITE, CENTRE_GATEWAY, frame.header.epoch, frame.header.schema)
        assert birth is not None
        assert [signal.key for signal in birth.signals] == [f"CENTRE/{name}" for name in NAMES]
        assert INTAKE in [signal.key for signal in birth.signals]
    assert len(births.all(SITE)) == 1


def test_a_report_comes_every_ten_seconds_and_at_once_when_it_matters(tmp_path: Path) -> None:
    """That frames are not taken in any more is told with the next tick, the rest at leisure."""
    report, _ = made(tmp_path, Clock())
    open_, closed = {"intake": 1.0, "disk_use": 50.0}, {"intake": 0.0, "disk_use": 95.1}
    assert values(report.frame(0.0, open_))["disk_use"] == 50.0
    assert report.frame(1.0, {**open_, "disk_use": 60.0}) is None
    assert values(report.frame(2.0, closed))["intake"] == 0.0
    assert report.frame(3.0, closed) is None
    assert report.frame(2.0 + REPORT_S, closed) is not None


def test_what_is_not_known_has_no_value(tmp_path: Path) -> None:
    """A reading that nobody gives is bad quality, not zero."""
    report, _ = made(tmp_path, Clock())
    frame = decode(report.frame(0.0, {"intake": 1.0}) or b"")
    assert isinstance(frame, SampleFrame)
    by_name = dict(zip(NAMES, zip(frame.value.tolist(), frame.quality.tolist(), strict=True), strict=True))
    assert by_name["intake"] == (1.0, 0)
    assert math.isnan(by_name["set_aside"][0])
    assert by_name["set_aside"][1] == 2


def test_refused_messages_are_told_as_a_rate(tmp_path: Path) -> None:
    """Ten bad messages last year are no alarm; ten in the last minute are."""
    report, _ = made(tmp_path, Clock())
    rates = [
        values(report.frame(second, {"refused": min(second, 60.0)}))["refused_rate"] for second in range(0, 150, 10)
    ]
    assert rates == [0, 10, 20, 30, 40, 50, 60, 50, 40, 30, 20, 10, 0, 0, 0]


def test_a_clock_set_back_starts_a_new_generation(tmp_path: Path) -> None:
    """After the centre's clock was set back its samples count at once, not only when the old time comes again."""
    clock = Clock()
    generations = []
    for step in (0, 10_000, -3_600_000, 10_000):
        clock.now_ms += step
        if step in (0, -3_600_000):
            report, _ = made(tmp_path, clock)
        generations.append(decode(report.frame(0.0, {}) or b"").header.clock_gen)
        report._next_s = -1.0
    assert generations == [1, 1, 2, 2]
    clock.now_ms -= 60_000
    assert decode(report.frame(0.0, {}) or b"").header.clock_gen == 3


def test_a_disk_that_refuses_does_not_stop_the_report(tmp_path: Path) -> None:
    """The generation of the clock is kept when that is possible; the samples come in any case."""
    disk = CrashDisk(tmp_path / "morgue")
    (tmp_path / "ingest").mkdir()
    births = BirthStore(tmp_path / "births")
    report = CentreReport(SITE, births=births, folder=tmp_path / "ingest", disk=disk, now_ms=Clock())
    disk.refusing = {"write"}
    assert values(report.frame(0.0, {"disk_use": 99.0}))["disk_use"] == 99.0


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.5, 0.19, 0.051, 0.049, 0.052, 0.054, 0.056], [False, False, False, True, True, True, False]),
        ([0.0499, 0.0501], [True, True]),
    ],
)
def test_the_disk_is_full_until_there_is_real_room(shares: list[float], expected: list[bool]) -> None:
    """At the edge it does not open and close with every megabyte."""
    left = list(shares)
    watch = DiskWatch(lambda: left.pop(0))
    found = [(watch.look(), watch.is_high) for _ in shares]
    assert [is_full for is_full, _ in found] == expected
    assert [is_high for _, is_high in found] == [share < 0.2 for share in shares]


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as broker:
        yield broker


def records(centre: Centre) -> list[Record]:
    found: list[Record] = []
    while rows := centre.journal.read(SITE, found[-1].offset + 1 if found else 0):
        found += rows
    return found


def told(centre: Centre, name: str) -> list[float]:
    return [values(row.payload)[name] for row in records(centre) if row.gateway == CENTRE_GATEWAY]


def test_a_full_disk_is_told_through_the_journal(real: Mosquitto, tmp_path: Path) -> None:
    """At 95 % nothing is taken in, but ticks and the centre's own samples go on: the alarm engine hears of it."""
    with Centre(tmp_path, real, readings={"set_aside": 3.0}) as centre, sending(real) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.put(1, birth_frame(1, "pump-house"))
        deliver(sender, 1)
        until(lambda: told(centre, "intake") == [1.0], "the first report")
        assert told(centre, "set_aside") == [3.0]
        assert centre.status["problems"] == []
        centre.free = 0.15
        until(lambda: centre.status["problems"] == ["disk.high"], "people are told early")
        centre.free = 0.04
        until(lambda: told(centre, "intake") == [1.0, 0.0], "the full disk stands in the journal")
        assert told(centre, "disk_use")[-1] == 96.0
        assert centre.status["problems"] == ["disk.full"]
        ticks = sum(map(is_tick, records(centre)))
        sender.put(2, samples(2))
        until(lambda: sum(map(is_tick, records(centre))) >= ticks + 2, "the clock goes on")
        assert numbers(centre.journal, "pump-house") == [1]
        centre.free = 0.5
        until(lambda: told(centre, "intake") == [1.0, 0.0, 1.0], "it is told that there is room again")
        deliver(sender, 2)
        assert centre.status["gateways"].keys() == {"pump-house"}


def test_nobody_else_may_speak_for_the_centre(real: Mosquitto, tmp_path: Path) -> None:
    """Frames on the broker under the centre's name are refused: an alarm about the disk cannot be forged."""
    with Centre(tmp_path, real) as centre, sending(real, CENTRE_GATEWAY) as liar:
        until(lambda: centre.status["broker"], "ingest is up")
        liar.send("u", birth_frame(1, CENTRE_GATEWAY))
        until(lambda: centre.status["quarantined"] == {"topic": 1}, "refused")
        assert not any(row.gateway for row in records(centre))
