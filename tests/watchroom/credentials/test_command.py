"""``watchroom credentials``: from a file to the registry, and out of it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchroom.cli import run

CSV = "kind,number,owner\ncard,0A1B2C3D,张三\ncard,99887766,Li Wei\n"


def command(data: Path, *words: str) -> int:
    return run(["credentials", *words, "--data", str(data)])


def test_import_list_revoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file is taken over once, listed without numbers, and a card reported lost by its number."""
    file = tmp_path / "cards.csv"
    file.write_text(CSV, encoding="utf-8")
    assert command(tmp_path, "import", str(file)) == 0
    assert command(tmp_path, "import", str(file)) == 0
    told = capsys.readouterr().out
    assert "Read 2 credentials, 2 new or changed" in told
    assert "Read 2 credentials, 0 new or changed" in told
    assert command(tmp_path, "revoke", "0A1B2C3D", "--as", "lost") == 0
    assert command(tmp_path, "list", "--only", "lost") == 0
    told = capsys.readouterr().out
    assert "lost" in told
    assert "1 credentials" in told
    assert "0A1B2C3D" not in told


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A card nobody has, a file that is not there, a line that is wrong: exit code 2 and the place."""
    file = tmp_path / "cards.csv"
    file.write_text("kind,number\nkey,1\n", encoding="utf-8")
    assert command(tmp_path, "revoke", "12345678") == 2
    assert command(tmp_path, "import", str(tmp_path / "none.csv")) == 2
    assert command(tmp_path, "import", str(file)) == 2
    told = capsys.readouterr().err
    assert "no such credential" in told
    assert "cards.csv" in told
