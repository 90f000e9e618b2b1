"""``watchroom journal``: what stands in the files, told while the engine writes them or when it is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ingest.sender import birth_frame, events, heartbeat, samples
from watchroom.cli import run
from watchroom.journal import FileJournal

SITE = "spruce-court"
T0 = 1_763_800_000_000


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose journal is being written: birth, tick, samples, heartbeat, events, rubbish."""
    journal = FileJournal(tmp_path / "journal", segment_bytes=2_000)
    content = [birth_frame(1, "gw"), b"", samples(2), heartbeat(), events(3), b"rubbish", samples(4), samples(5)]
    for number, payload in enumerate(content):
        journal.append(SITE, "gw" if payload else "", payload, arrived_ms=T0 + number * 1000)
    journal.sync(SITE)
    journal.checkpoint(SITE, "alarms", 5)
    journal.trim(SITE, now_ms=T0, keep_bytes=1 << 40, keep_ms=1 << 40)
    yield tmp_path
    journal.close()


def told(capsys: pytest.CaptureFixture[str], data: Path, *words: str) -> tuple[int, list[str], str]:
    code = run(["journal", *words, "--data", str(data), "--log", "error"])
    out = capsys.readouterr()
    return code, out.out.splitlines(), out.err


def test_ls_tells_size_times_and_readers(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who reads how far behind is seen at a glance."""
    code, lines, _ = told(capsys, data, "ls")
    assert code == 0
    assert lines[0] == SITE
    assert lines[1].split() == ["records", "8", "0", "..", "7"]
    size = sum(path.stat().st_size for path in (data / "journal" / SITE).glob("*.seg"))
    assert lines[2].split() == ["bytes", str(size)]
    assert lines[3] == "  time      2025-11-22T08:26:40.000Z .. 2025-11-22T08:26:47.000Z"
    assert [line.split() for line in lines[4:]] == [
        ["reader", "ingest", "at", "0,", "8", "behind"],
        ["reader", "alarms", "at", "5,", "3", "behind"],
        ["reader", "history", "at", "0,", "8", "behind"],
    ]


def test_cat_prints_a_line_a_record(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of record is named; one that is no frame is told, not hidden."""
    code, lines, _ = told(capsys, data, "cat")
    assert code == 0
    kinds = [line.split()[3] for line in lines]
    assert kinds == ["birth", "tick", "samples", "heartbeat", "events", "unreadable:", "samples", "samples"]
    assert lines[0].startswith("0 2025-11-22T08:26:40.000Z gw birth lane 0 seq 1 schema 1 n 4 ")
    assert lines[1] == "1 2025-11-22T08:26:41.000Z - tick"


@pytest.mark.parametrize(
    ("words", "offsets"),
    [
        (["--from", "4"], [4, 5, 6, 7]),
        (["--from", "-2"], [6, 7]),
        (["--from", "-100"], list(range(8))),
        (["--count", "3"], [0, 1, 2]),
        (["--gateway", "tick"], [1]),
        (["--gateway", "gw", "--count", "2"], [0, 2]),
        (["--from", "100"], []),
    ],
)
def test_cat_prints_what_was_asked_for(
    data: Path, capsys: pytest.CaptureFixture[str], words: list[str], offsets: list[int]
) -> None:
    """From an offset or so many before the end, one gateway, at most so many."""
    lines = told(capsys, data, "cat", *words, "--json")[1]
    assert [json.loads(line)["offset"] for line in lines] == offsets


def test_cat_as_json_holds_everything(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program can read the whole content of a record, whatever it is."""
    rows = [json.loads(line) for line in told(capsys, data, "cat", "--json")[1]]
    assert rows[0]["birth"]["gateway"]["id"] == "gw"
    assert rows[1] == {"offset": 1, "arrived_ms": T0 + 1000, "gateway": "", "kind": "tick"}
    assert rows[2]["samples"] == [[0, T0, 2.0, 0]]
    assert rows[4]["events"][0]["kind"] == "access"
    assert bytes.fromhex(rows[5]["payload"]) == b"rubbish"


def test_verify_names_what_is_damaged(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole journal ends with 0; damage is named with its offsets and ends with 1."""
    code, lines, _ = told(capsys, data, "verify")
    assert (code, lines) == (1, [f"{SITE}: 8 records of 8 are whole", "whole records that are no frame: 1"])
    path = sorted((data / "journal" / SITE).glob("*.seg"))[0]
    content = path.read_bytes()
    at = content.index(samples(2))
    path.write_bytes(content[: at + 10] + b"?" + content[at + 11 :])
    code, lines, _ = told(capsys, data, "verify")
    assert code == 1
    assert lines[:2] == [f"{SITE}: 7 records of 8 are whole", "damaged: 2 .. 2 (1 records)"]


def test_a_whole_journal_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is wrong: exit code 0, so that a nightly job can rely on it."""
    with pytest.raises(AssertionError, match="nothing"):
        assert told(capsys, tmp_path, "ls")[0] == 0, "nothing"
    journal = FileJournal(tmp_path / "journal")
    journal.append(SITE, "gw", samples(1), arrived_ms=T0)
    journal.close()
    assert told(capsys, tmp_path, "verify")[:2] == (0, [f"{SITE}: 1 records of 1 are whole"])


def test_the_site_must_be_named_where_several_are(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong or missing name is answered with the names there are."""
    other = FileJournal(data / "journal")
    other.append("maple", "gw", samples(1), arrived_ms=T0)
    other.close()
    code, _, error = told(capsys, data, "cat")
    assert code == 2
    assert "several sites are here (maple, spruce-court)" in error
    assert told(capsys, data, "cat", "--site", "oak")[0] == 2
    assert len(told(capsys, data, "cat", "--site", "maple")[1]) == 1


def test_looking_changes_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file is written, made or touched: it may be used on a copy, on a read-only disk, beside the engine."""
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    for words in (["ls"], ["cat"], ["verify"]):
        told(capsys, data, *words)
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
