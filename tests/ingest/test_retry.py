"""Messages in quarantine: people see them, and have them tried again; with and without a running engine."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Mosquitto, mosquitto, until
from tests.ingest.sender import SITE, birth, birth_frame, samples
from tests.ingest.test_receive import Centre, numbers, sending
from watchroom.cli import run
from watchroom.errors import ContractError
from watchroom.frames import decode_header

BAD_QUALITY = samples(2, quality=99)
NEWER = bytes([*samples(3)[:4], 2, *samples(3)[5:]])


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as broker:
        yield broker


def quarantine(capsys: pytest.CaptureFixture[str], data: Path, *words: str) -> tuple[int, list[str], str]:
    code = run(["quarantine", *words, "--data", str(data), "--log", "error"])
    told = capsys.readouterr()
    # an engine in the same process logs to the same place
    lines = [line for line in told.out.splitlines() if not re.match(r"\{|\d{4}-", line)]
    return code, lines, told.err


def send_bad(centre: Centre, real: Mosquitto) -> None:
    with sending(real) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.put(1, birth_frame(1, "pump-house"))
        sender.put(2, BAD_QUALITY)
        sender.send("birth", b"no json")
        until(lambda: len(list((centre.folder / "ingest" / "quarantine").glob("*.bad"))) == 2, "refused")


def test_people_see_what_was_refused_and_why(
    real: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each message: when, why, on which topic; and everything about one of them."""
    with Centre(tmp_path, real) as centre:
        send_bad(centre, real)
    code, lines, _ = quarantine(capsys, tmp_path, "list")
    assert code == 0
    assert len(lines) == 3
    by_reason = {line.split()[2]: line for line in lines[:2]}
    assert set(by_reason) == {"quality", "json"}
    assert "'wr1/spruce-court/pump-house/d'  quality 99" in by_reason["quality"]
    assert lines[2] == f"2 messages, {len(BAD_QUALITY) + 7} bytes"
    assert quarantine(capsys, tmp_path, "list", "--reason", "json")[1][-1] == "1 messages, 7 bytes"
    digest = by_reason["quality"].split()[0]
    code, lines, _ = quarantine(capsys, tmp_path, "show", digest[:6])
    assert code == 0
    assert "refused  quality: quality 99" in lines
    assert "frame    WR1D version 1, epoch 0123456789abcdef, seq 2, lane 1, schema 1, n 1" in lines
    assert lines[7].startswith("  000000  57 52 31 44 01 01 ")
    assert lines[7][-16:].startswith("WR1D")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["show", "ffff"], "ffff: no message has this id (see 'watchroom quarantine list')"),
        (["retry"], "nothing was chosen"),
        (["retry", "0123"], "no message has this id"),
        (["retry", "--reason", "crc"], "--reason: no message was refused for 'crc'"),
    ],
)
def test_mistakes_are_told_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """A wrong id or a missing choice changes nothing and says what to do."""
    (tmp_path / "ingest" / "quarantine").mkdir(parents=True)
    code, _, error = quarantine(capsys, tmp_path, *words)
    assert code == 2
    assert told in error


def test_a_folder_without_quarantine_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who names the wrong folder learns so, instead of reading that all is well."""
    code, _, error = quarantine(capsys, tmp_path / "elsewhere", "list")
    assert code == 2
    assert "there is no quarantine in this folder" in error


def test_what_a_newer_program_understands_is_taken_in_after_an_update(
    real: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame was refused, and acknowledged so that its gateway went on: after the update it is stored on request."""

    def refuses(*_: object, **__: object) -> None:
        raise ContractError("quality", "not known yet")

    with Centre(tmp_path, real) as centre, sending(real) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.put(1, birth_frame(1, "pump-house"))
        until(lambda: sender.acked.upto == 1, "the birth is here")
        with monkeypatch.context() as patch:
            patch.setattr("ingest.batch.check_content", refuses)
            sender.put(2, samples(2))
            until(lambda: sender.acked.upto == 2, "refused, and not sent again")
        assert centre.numbers() == [1]
        sender.put(3, samples(3))
        code, lines, _ = quarantine(capsys, tmp_path, "retry", "--all", "--wait", "30")
        assert (code, lines) == (0, ["1 taken in"])
        until(lambda: sender.acked.upto == 3, "the next frame")
        assert sorted(centre.numbers()) == [1, 2, 3]
    assert list((tmp_path / "ingest" / "quarantine").iterdir()) == []


def test_what_is_still_wrong_stays(real: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tried again in vain: it is in quarantine as before, and the command says so."""
    with Centre(tmp_path, real) as centre:
        send_bad(centre, real)
        code, lines, _ = quarantine(capsys, tmp_path, "retry", "--reason", "quality", "--wait", "30")
        assert (code, lines) == (1, ["0 taken in", "1 refused again"])
        assert centre.numbers() == [1]
        assert len(quarantine(capsys, tmp_path, "list")[1]) == 3


def test_without_an_engine_it_waits_for_the_start(
    real: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wish is kept in the folder: the engine fulfils it when it starts, once."""
    with monkeypatch.context() as patch, Centre(tmp_path, real) as centre, sending(real) as sender:
        patch.setattr("ingest.batch.check_content", _refuse_second)
        until(lambda: centre.status["broker"], "ingest is up")
        sender.put(1, birth_frame(1, "pump-house"))
        sender.put(2, samples(2))
        until(lambda: sender.acked.upto == 2, "both are answered")
    code, lines, _ = quarantine(capsys, tmp_path, "retry", "--all", "--wait", "0")
    assert (code, lines) == (1, ["0 taken in", "1 waiting for the engine"])
    assert "(to be tried again)" in quarantine(capsys, tmp_path, "list")[1][0]
    with Centre(tmp_path, real) as centre:
        until(lambda: centre.numbers() == [1, 2], "taken in at the start")
        until(lambda: not list((tmp_path / "ingest" / "quarantine").iterdir()), "and gone from quarantine")
    with Centre(tmp_path, real) as centre:
        assert numbers(centre.journal, "pump-house") == [1, 2]


def _refuse_second(frame: object, **_: object) -> None:
    if frame.header.seq == 2:  # type: ignore[attr-defined]
        raise ContractError("quality", "not known yet")


def test_a_frame_without_a_birth_is_not_taken_out_of_quarantine(
    real: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could read it: it stays until its birth is known, and is taken in then."""
    with Centre(tmp_path, real) as centre, sending(real) as sender:
        until(lambda: centre.status["broker"], "ingest is up")
        sender.send("d", NEWER)
        until(lambda: centre.status["quarantined"] == {"crc": 1}, "spoiled")
        sender.send("d", _of_version(3, 2))
        until(lambda: list((tmp_path / "ingest" / "quarantine").glob("*-version-*.bad")), "of a newer version")
        monkeypatch.setattr("watchroom.frames.VERSION", 2)
        monkeypatch.setattr("ingest.intake.VERSION", 2)
        outcome = quarantine(capsys, tmp_path, "retry", "--reason", "version", "--wait", "30")
        assert outcome[1] == ["0 taken in", "1 refused again"]
        centre.receiver._births.put(SITE, birth("pump-house"))
        outcome = quarantine(capsys, tmp_path, "retry", "--reason", "version", "--wait", "30")
        assert outcome[1] == ["1 taken in"]
        rows = [row.payload for row in centre.journal.read(SITE, 0) if row.gateway]
        assert [decode_header(payload).seq for payload in rows] == [3]


def _of_version(seq: int, version: int) -> bytes:
    """Return a whole frame of another version, checksum and all."""
    front = bytearray(samples(seq)[:-4])
    front[4] = version
    return bytes(front) + zlib.crc32(front).to_bytes(4, "little")
