"""``watchroom history export|import`` as a person types it, beside a running engine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "sites" / "spruce-court"
START = "2026-03-01 08:00:00"


def watchroom(*arguments: str, data: Path) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    command = [sys.executable, "-m", "watchroom", *arguments, "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """The data folder of a running engine; no broker is there, history needs none."""
    folder = tmp_path / "data"
    environment = os.environ | {"WATCHROOM_MQTT__PORT": "1"}
    command = [sys.executable, "-m", "watchroom", "engine", str(SITE), "--data", str(folder), "--log", "error"]
    engine = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "engine.sock").exists():
            assert engine.poll() is None, "the engine ended"
            assert time.monotonic() < deadline, "the engine does not start"
            threading.Event().wait(0.05)
        yield folder
    finally:
        engine.terminate()
        engine.wait(30)


def test_old_data_comes_in_and_goes_out_again(data: Path, tmp_path: Path) -> None:
    """A table of an old system, in local time, is imported twice and exported: the same rows, once, in UTC."""
    old = tmp_path / "old.csv"
    rows = "".join(f"2026-03-01 08:{n // 60:02d}:{n % 60:02d},{n / 8},{n % 2}\n" for n in range(3000))
    old.write_text("time,WP-01/outlet_pressure,WP-01/p1_state\n" + rows)
    for _ in range(2):
        done = watchroom("history", "import", str(old), "--zone", "Asia/Shanghai", "--new-signals", data=data)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"Stored 6000 samples of 2 signals from {old}\n"
    span = ["--start", START, "--end", "2026-03-01 09:00", "--zone", "Asia/Shanghai"]
    done = watchroom("history", "export", str(tmp_path / "new.csv"), *span, data=data)
    assert done.stdout == f"Wrote 6000 samples to {tmp_path / 'new.csv'}\n"
    lines = (tmp_path / "new.csv").read_text().splitlines()
    assert lines[0] == "time,signal,value,quality"
    assert lines[2] == "2026-03-01T08:00:01.000+08:00,WP-01/outlet_pressure,0.125,0"
    assert len(lines) == 6001
    span = ["--start", "2026-03-01T00:00Z", "--end", "2026-03-01T01:00Z", "--signal", "WP-01/p1_state"]
    done = watchroom("history", "export", str(tmp_path / "new.parquet"), *span, data=data)
    assert done.stdout.startswith("Wrote 3000 samples")
    done = watchroom("history", "import", str(tmp_path / "new.parquet"), "--check", data=data)
    assert done.stdout.startswith("Checked 3000 samples of 1 signals")


def test_mistakes_are_told_in_one_line(data: Path, tmp_path: Path) -> None:
    """File, line and column for a wrong cell; the option for a wrong option; never a traceback."""
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("time,signal,value\n2026-03-01T08:00:00Z,WP-01/outlet_pressure,0.6\n2026-03-01 08:00,WP-01/x,1\n")
    cases = [
        (["import", str(wrong), "--new-signals"], f"{wrong}:3: time: '2026-03-01 08:00' has no offset"),
        (["import", str(wrong), "--zone", "Mars/Olympus"], "--zone: there is no time zone 'Mars/Olympus'"),
        (["import", str(tmp_path / "x.xlsx")], "expected NAME.csv or NAME.parquet"),
        (["import", str(tmp_path / "gone.csv")], "gone.csv: cannot read the file: No such file or directory"),
        (["export", str(tmp_path / "x.csv"), "--signal", "WP-99/flow"], "there is no history of 'WP-99/flow'"),
        (["export", str(tmp_path / "x.csv"), "--start", "yesterday"], "--start: 'yesterday' is no time"),
        (["export", str(tmp_path / "no" / "x.csv")], "cannot write the file: No such file or directory"),
    ]
    for arguments, says in cases:
        done = watchroom("history", *arguments, data=data)
        assert done.returncode == 2, arguments
        assert says in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_without_an_engine_the_command_says_so(tmp_path: Path) -> None:
    """Only the engine opens its store; the message says which folder was looked at."""
    done = watchroom("history", "export", str(tmp_path / "x.csv"), data=tmp_path / "nothing")
    assert done.returncode == 1
    assert "no engine answers at" in done.stderr
    assert "--data" in done.stderr
