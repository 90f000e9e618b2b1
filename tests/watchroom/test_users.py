"""``watchroom user add``: accounts without a page, for the second person who accepts the first one's work."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from sqlalchemy import select

from dashboard.accounts import is_password, stored_password
from watchroom.cli import run
from watchroom.clock import utc_ms
from watchroom.database.connect import open_database, reading
from watchroom.database.tables import account, audit
from watchroom.settings import Settings

PASSWORD = "long enough"


def add(data: Path, *arguments: str) -> int:
    return run(["user", "add", *arguments, "--data", str(data)])


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a script sets, so that no password stands on a command line."""
    monkeypatch.setenv("WATCHROOM_USER_PASSWORD", PASSWORD)


def test_account_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, role, display name and language are kept, the password opens it, the audit log tells of it."""
    assert add(tmp_path, "Sun.DH", "--role", "leader", "--display", "孙德海", "--lang", "en") == 0
    assert capsys.readouterr().out == "Made the account sun.dh (leader)\n"
    database = open_database(Settings(data=tmp_path).database_url)
    with reading(database) as conn:
        row = conn.execute(select(account)).one()
        assert (row.name, row.role, row.display, row.lang, row.is_enabled) == ("sun.dh", "leader", "孙德海", "en", True)
        assert is_password(PASSWORD, stored_password(conn, "sun.dh", now_ms=utc_ms()))
        assert not is_password("wrong wrong", row.password_hash)
        told = conn.execute(select(audit)).one()
        assert (told.action, told.target, told.detail["role"]) == ("account_made", "sun.dh", "leader")
        assert PASSWORD not in str(conn.execute(select(audit)).all())
    database.dispose()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("li.wg", "--role", "gaurd"), r"--role: there is no role 'gaurd' .*guard"),
        (("a b", "--role", "guard"), r"'a b' cannot be the name of an account"),
        (("First", "--role", "guard"), r"there is already an account 'first'"),
    ],
)
def test_what_cannot_be_made_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    """A wrong role, an impossible name and a taken one end with code 2 and a sentence; nothing is made."""
    assert add(tmp_path, "first", "--role", "admin") == 0
    assert add(tmp_path, *arguments) == 2
    assert re.search(told, capsys.readouterr().err)
    database = open_database(Settings(data=tmp_path).database_url)
    with reading(database) as conn:
        assert conn.execute(select(account.c.name)).scalars().all() == ["first"]
    database.dispose()


def test_short_password_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule for passwords is the page's."""
    monkeypatch.setenv("WATCHROOM_USER_PASSWORD", "short")
    assert add(tmp_path, "li.wg", "--role", "guard") == 2
    assert "this password is too short" in capsys.readouterr().err


def test_without_terminal_and_variable_it_says_what_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a script nobody can type: the message names the variable."""
    monkeypatch.delenv("WATCHROOM_USER_PASSWORD")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert add(tmp_path, "li.wg", "--role", "guard") == 2
    assert "WATCHROOM_USER_PASSWORD" in capsys.readouterr().err


def command(data: Path, *arguments: str) -> int:
    return run(["user", *arguments, "--data", str(data)])


def test_accounts_are_changed_from_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the machine can replace a lost password and switch accounts off and on; the list tells which."""
    assert add(tmp_path, "boss", "--role", "admin") == 0
    assert add(tmp_path, "li.wg", "--role", "guard", "--display", "李卫国") == 0
    monkeypatch.setenv("WATCHROOM_USER_PASSWORD", "quite another one")
    assert command(tmp_path, "password", "li.wg") == 0
    assert command(tmp_path, "disable", "li.wg") == 0
    capsys.readouterr()
    assert command(tmp_path, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["boss", "admin", "boss"], ["li.wg", "guard", "off", "李卫国"]]
    database = open_database(Settings(data=tmp_path).database_url)
    with reading(database) as conn:
        assert is_password("quite another one", stored_password(conn, "li.wg", now_ms=utc_ms()))
        told = conn.execute(select(audit.c.action, audit.c.target).order_by(audit.c.seq)).all()
    database.dispose()
    assert told[2:] == [("password_changed", "li.wg"), ("account_changed", "li.wg")]
    assert command(tmp_path, "enable", "li.wg") == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("disable", "boss"), "this is the last admin"), (("password", "nobody"), "there is no account 'nobody'")],
)
def test_what_cannot_be_changed_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    """The last admin cannot be switched off, and a misspelt name is said."""
    assert add(tmp_path, "boss", "--role", "admin") == 0
    assert command(tmp_path, *arguments) == 2
    assert told in capsys.readouterr().err
