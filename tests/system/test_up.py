"""``watchroom up`` and ``serve`` as a person meets them: one command, a live compound, clear refusals, a clean end."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.system.room import PASSWORD, Process, Room, children_of, free_port, running_up, until

pytestmark = pytest.mark.slow
CHILDREN = {"broker", "engine", "dashboard", "simulate", "gateway"}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Room, Process]]:
    """One simulated compound for the tests that do no lasting harm."""
    with running_up(tmp_path_factory.mktemp("up") / "data") as running:
        yield running


def test_everything_is_live(up: tuple[Room, Process]) -> None:
    """Every gateway is online and every kind of equipment sends good values, without any set-up."""
    room, process = up
    assert set(children_of(process.pid)) == CHILDREN
    until("12 gateways are online", lambda: sum(item["is_online"] for item in room.items("/gateways")) == 12)
    for key in ("WP-01/outlet_pressure", "EL-3-1/floor", "FP-01/zone16_state", "PM-01/power", "DR-S1/contact"):
        until(f"{key} is good", partial(_is_good, room, key), within_s=60, every_s=0.2, facts=partial(_seen, room, key))
    assert room.get("/site")["is_simulated"] is True


def _seen(room: Room, key: str) -> object:
    gateways = [(item["id"], item["is_online"], item["reason"]) for item in room.items("/gateways")]
    return room.values().get(key), gateways


def _is_good(room: Room, key: str) -> bool:
    value = room.values().get(key, {})
    return value.get("quality") == 0 and not value["is_stale"]


def test_history_of_a_signal_is_there(up: tuple[Room, Process]) -> None:
    """A range of a few minutes has min, max and mean by bucket."""
    room, _ = up

    path = "/signals/PM-01/power/history"

    def series() -> dict[str, list[float]] | None:
        newest = room.get(path, start=0, end=4_000_000_000_000, buckets=1)["t"]
        if not newest:
            return None
        found: dict[str, list[float]] = room.get(path, start=newest[0] - 60_000, end=newest[0] + 1, buckets=60)
        return found if len(found["t"]) > 3 else None

    found = until("some seconds of history", series)
    assert found is not None
    columns = zip(found["min"], found["mean"], found["max"], strict=True)
    assert all(0 < low <= mean <= high < 5000 for low, mean, high in columns)


@pytest.mark.parametrize("name", ["gateway", "engine", "dashboard", "simulate"])
def test_a_killed_part_comes_back_and_is_told(up: tuple[Room, Process], name: str) -> None:
    """The supervisor starts a part again that was killed, says so, and values go on."""
    room, process = up
    until("values are live", lambda: _is_good(room, "PM-01/power"))
    old = children_of(process.pid)[name]
    os.kill(old, 9)
    until(f"{name} runs again", lambda: children_of(process.pid).get(name, old) != old)
    until("the page answers", room.answers)
    before = room.values()["PM-01/power"]["time_ms"] or 0
    until("new values arrive", lambda: (room.values()["PM-01/power"]["time_ms"] or 0) > before + 1000)
    assert "starting it again" in process.printed


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    """Ctrl-C leaves no process behind, and the exit code says that all is well."""
    with running_up(tmp_path / "data") as (_, process):
        pids = list(children_of(process.pid).values())
        assert len(pids) == len(CHILDREN)
        assert process.interrupt() == 0
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert "Traceback" not in process.printed


def _refusal(arguments: list[str], folder: Path) -> tuple[int, str]:
    process = Process(arguments, environment={}, output=folder / "refusal.log")
    try:
        return process.wait(30), process.printed
    finally:
        process.close()


def test_a_taken_port_is_refused_in_words(tmp_path: Path) -> None:
    """No traceback: the port, what to do, exit code 2."""
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, printed = _refusal(["up", "--data", str(tmp_path / "data"), "--port", str(port)], tmp_path)
    assert code == 2
    assert re.search(rf"port {port} on 127.0.0.1 is in use .* choose another port with --port", printed)
    assert "Traceback" not in printed


def test_a_data_folder_serves_one_watchroom(up: tuple[Room, Process], tmp_path: Path) -> None:
    """Two on one folder would be two judges; the second is refused."""
    room, _ = up
    code, printed = _refusal(["up", "--data", str(room.data), "--port", str(free_port())], tmp_path)
    assert (code, "another Watchroom is running on this data folder" in printed) == (2, True)


def test_a_wrong_site_stops_the_start(tmp_path: Path) -> None:
    """A misspelt key in a site file ends the start with file, line and nearest key."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "site.yaml").write_text("site: {id: a, name: {zh: 甲, en: A}}\nplcaes: {}\n", encoding="utf-8")
    code, printed = _refusal(
        ["serve", str(site), "--data", str(tmp_path / "data"), "--port", str(free_port())], tmp_path
    )
    assert code == 2
    assert "site.yaml:2: plcaes: unknown key (did you mean 'places'?)" in printed


def test_first_start_prints_a_link_that_works_once(tmp_path: Path) -> None:
    """Without a password in the environment the first account is made over a one-time link."""
    port = free_port()
    process = Process(
        ["up", "--data", str(tmp_path / "data"), "--port", str(port)], environment={}, output=tmp_path / "up.log"
    )
    try:
        link = until("the link is printed", lambda: re.search(r"http://\S+/setup#(\S+)", process.printed))
        assert link is not None
        room = Room(tmp_path / "data", port)
        until("the page answers", room.answers)
        account = {"token": link[1], "username": "li.wg", "display": "李卫国", "password": PASSWORD}
        assert httpx.post(f"{room.url}/api/v1/setup", json=account).status_code in {200, 201}
        assert httpx.post(f"{room.url}/api/v1/setup", json=account | {"username": "x"}).status_code in {403, 409, 410}
        room.sign_in("li.wg")
        assert room.get("/session")["user"]["role"] == "admin"
        room.close()
    finally:
        process.close()
