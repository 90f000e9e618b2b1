"""Recordings as registers."""

from __future__ import annotations

import itertools
import math
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.replay import FOLDER, Fault, Recording, read_recording, replays_of
from tests.simulators.places import RECORDINGS, spruce_court
from watchroom.errors import ConfigError

NAB = FOLDER / "machine_temperature_system_failure.csv"


def recorded(folder: Path, text: str, name: str = "run.csv", step_s: float | None = None) -> Recording:
    (folder / name).write_text(text, encoding="utf-8")
    return read_recording(folder / name, step_s=step_s)


def test_nab_machine_temperature() -> None:
    """The shipped recording: 22,695 rows, five minutes apart, of which the twelve that repeat a time are skipped."""
    recording = read_recording(NAB)
    assert len(recording.times_s) + len(recording.faults) == 22_695
    assert len(recording.faults) == 12
    assert recording.faults[0].line == 10_151
    assert recording.step_s == 300.0
    assert recording.at("value", 0.0) == 73.96732207
    assert all(b > a for a, b in itertools.pairwise(recording.times_s))


def test_its_licence_is_shipped() -> None:
    """MIT asks for its text beside the data."""
    assert "Permission is hereby granted, free of charge" in (FOLDER / "NAB-LICENSE.txt").read_text()


def test_damage_is_told_with_its_line(tmp_path: Path) -> None:
    """Damaged cells become NaN, wrong rows are skipped, each with its line; the rest is used."""
    text = "timestamp;a;b\n2026-01-01 00:00:00;1;2\n2026-01-01 00:00:01;18. Jan;3\n2026-01-01 00:00:02;4\n"
    text += "yesterday;5;6\n2026-01-01 00:00:01;7;8\n2026-01-01 00:00:03;9;inf\n"
    recording = recorded(tmp_path, text)
    assert recording.times_s == (0.0, 1.0, 3.0)
    assert recording.columns["a"][0] == 1.0
    assert math.isnan(recording.columns["a"][1])
    assert recording.columns["b"][:2] == (2.0, 3.0)
    assert recording.faults == (
        Fault(line=3, column="a", reason="'18. Jan' is not a number"),
        Fault(line=4, column="", reason="2 cells in place of 3"),
        Fault(line=5, column="timestamp", reason="'yesterday' is not a time"),
        Fault(line=6, column="", reason="its time is not later than the row before"),
        Fault(line=7, column="b", reason="'inf' is not a number"),
    )


def test_gaps_have_no_value(tmp_path: Path) -> None:
    """Within ten usual steps the last value holds; in a longer gap there is none."""
    rows = "".join(f"2026-01-01 00:00:{s:02d},{s}\n" for s in (0, 1, 2, 3, 50, 51))
    recording = recorded(tmp_path, "timestamp,v\n" + rows)
    assert recording.at("v", 3.9) == 3.0
    assert recording.at("v", 13.0) == 3.0
    assert math.isnan(recording.at("v", 13.1))
    assert math.isnan(recording.at("v", 49.9))
    assert recording.at("v", 50.0) == 50.0


@settings(deadline=None)
@given(st.floats(0, 1e7))
def test_starts_over_at_its_end(time_s: float) -> None:
    """After the last row comes the first, for ever."""
    recording = read_recording_once()
    assert recording.at("value", time_s) == pytest.approx(
        recording.at("value", time_s % recording.duration_s), nan_ok=True
    )


@cache
def read_recording_once() -> Recording:
    """Read the shipped recording one time for all examples."""
    return read_recording(NAB)


def test_no_time_column_needs_a_step(tmp_path: Path) -> None:
    """Without times the rows are a step apart; without a step that is an error with a hint."""
    assert recorded(tmp_path, "v\n1\n2\n3\n", step_s=0.25).times_s == (0.0, 0.25, 0.5)
    with pytest.raises(ConfigError, match=r"run.csv:1: this recording has no time \(a column named timestamp"):
        recorded(tmp_path, "v\n1\n")


def test_useless_files_are_told(tmp_path: Path) -> None:
    """A file that is not there, is not text or has no usable row is refused with its name."""
    with pytest.raises(ConfigError, match=r"nothing.csv: cannot read"):
        read_recording(tmp_path / "nothing.csv")
    with pytest.raises(ConfigError, match="no usable row"):
        recorded(tmp_path, "timestamp,v\nnever,1\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match=r"binary.csv: cannot read"):
        read_recording(tmp_path / "binary.csv")


def test_site_names_its_recording() -> None:
    """MC-01 replays the temperature at 300 recorded seconds a second."""
    (replay,) = replays_of(spruce_court())
    assert (replay.equipment, replay.factor) == ("MC-01", 300.0)
    assert dict(replay.values(1.0)) == {"MC-01/temperature": 74.93588199999998}


@pytest.mark.skipif(not (RECORDINGS / "skab").is_dir(), reason="needs the recordings of SKAB in ../shared/data")
@pytest.mark.parametrize("run", ["valve1/0.csv", "valve1/5.csv", "anomaly-free/anomaly-free.csv"])
def test_skab_pump_runs(run: str) -> None:
    """Runs of a real pump, separated by semicolons, with gaps: every row is used, gaps have no value."""
    path = RECORDINGS / "skab" / run
    recording = read_recording(path)
    rows = path.read_text().strip().count("\n")
    assert len(recording.times_s) + len(recording.faults) == rows
    assert len(recording.faults) < 0.01 * rows
    assert recording.step_s == 1.0
    assert {"Pressure", "Current", "Volume Flow RateRMS"} <= set(recording.columns)
    gaps = [(a, b) for a, b in itertools.pairwise(recording.times_s) if b - a > 10]
    for begin, end in gaps:
        assert math.isnan(recording.at("Pressure", (begin + end) / 2 + 5.1)) or end - begin <= 20


@pytest.mark.skipif(not (RECORDINGS / "elevator").is_dir(), reason="needs the lift recording in ../shared/data")
def test_spreadsheet_damage_of_a_real_file() -> None:
    """5,777 cells that a spreadsheet turned into dates are counted and skipped, the other rows are used."""
    recording = read_recording(RECORDINGS / "elevator" / "predictive-maintenance-dataset.csv", step_s=0.25)
    dates = [fault for fault in recording.faults if fault.reason != "'' is not a number"]
    assert len(dates) == 5_777
    assert len(recording.times_s) == 112_001
