"""The alarm does not depend on a browser: consoles, beacon, signs of life."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from alarms.alive import CALL_S, STILL_S, Alive
from alarms.beacon import REPEAT_S, RETRY_S, Beacon
from alarms.consoles import FRESH_S, Consoles
from alarms.store import occurrence_id
from alarms.webhook import call
from tests.alarms.desk import Desk
from tests.alarms.handmade import SITE, change, rule
from watchroom.disk import RealDisk
from watchroom.errors import LinkError

URGENT = rule("flood", "SP-01", priorities={"": 1}, latching=True, ticket=None)
HIGH = rule()


class Siren:
    """A device on loopback that remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any] | None] = []
        self.status = 200
        self.url = ""

    @property
    def states(self) -> list[bool]:
        """On or off, call by call."""
        return [told["on"] for told in self.calls if told is not None]


@contextmanager
def listening() -> Iterator[Siren]:
    siren = Siren()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(json.loads(body))

        def do_GET(self) -> None:
            self._answer(None)

        def _answer(self, told: dict[str, Any] | None) -> None:
            siren.calls.append(told)
            self.send_response(siren.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    siren.url = f"http://127.0.0.1:{server.server_port}/siren"
    try:
        yield siren
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def siren() -> Iterator[Siren]:
    """A siren that listens."""
    with listening() as siren:
        yield siren


@pytest.fixture
def desk(database: Engine) -> Desk:
    """A site without alarms."""
    return Desk(database, [URGENT, HIGH])


def beacon(desk: Desk, url: str) -> Beacon:
    return Beacon(SITE, database=desk.database, url=url, now_ms=lambda: desk.now_ms)


def test_the_beacon_follows_the_urgent_alarms(desk: Desk, siren: Siren) -> None:
    """On with the first priority 1, also a latched one whose condition is gone; off when somebody has seen it."""
    one = beacon(desk, siren.url)
    one.look(0.0)
    desk.judge(change(HIGH))
    one.look(1.0)
    assert siren.states == [False]
    desk.judge(change(URGENT, level=""))
    one.look(2.0)
    desk.judge(change(URGENT, "CLEAR", 2000, level=""))
    one.look(3.0)
    assert siren.states == [False, True]
    assert siren.calls[-1] == {"site": SITE, "on": True, "alarms": 1, "time_ms": 10_000}
    desk.ask("ack", occurrence_id(URGENT, 1000))
    one.look(4.0)
    assert siren.states == [False, True, False]


def test_the_beacon_is_told_again_while_it_is_on(desk: Desk, siren: Siren) -> None:
    """A siren that was restarted in the middle of an alarm sounds again; one that is off is left alone."""
    one = beacon(desk, siren.url)
    desk.judge(change(URGENT, level=""))
    for second in range(0, int(2 * REPEAT_S) + 2):
        one.look(float(second))
    assert siren.states == [True, True, True]
    desk.ask("ack", occurrence_id(URGENT, 1000))
    for second in range(100, 300):
        one.look(float(second))
    assert siren.states[3:] == [False]


def test_a_beacon_that_refuses_is_tried_again(desk: Desk, siren: Siren) -> None:
    """An answer of 500 or no answer is no success: it is called again every two seconds, then goes on."""
    one = beacon(desk, siren.url)
    desk.judge(change(URGENT, level=""))
    siren.status = 500
    one.look(0.0)
    one.look(RETRY_S / 2)
    assert len(siren.calls) == 1
    siren.status = 200
    one.look(RETRY_S)
    one.look(RETRY_S + 1)
    assert siren.states == [True, True]


def test_the_beacon_runs_by_itself(desk: Desk, siren: Siren) -> None:
    """Woken by a commit the beacon is switched without any page being open."""
    one, stop = beacon(desk, siren.url), threading.Event()
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    desk.judge(change(URGENT, level=""))
    one.wake()
    for _ in range(500):
        if siren.states[-1:] == [True]:
            break
        stop.wait(0.02)
    stop.set()
    one.wake()
    thread.join()
    assert siren.states[-1] is True


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "no address"])
def test_only_web_addresses_are_called(url: str) -> None:
    """A wrong setting is told, not followed, and the address does not stand in the message."""
    with pytest.raises(LinkError) as refused:
        call(url)
    assert url not in str(refused.value)


def test_nobody_there_is_a_link_error() -> None:
    """A device that is away raises what its caller retries, without its address."""
    with listening() as gone:
        url = gone.url
    with pytest.raises(LinkError, match="does not answer") as refused:
        call(url, {"on": True})
    assert url not in str(refused.value)


def test_signs_of_life_stop_when_nothing_is_judged(siren: Siren, tmp_path: Path) -> None:
    """File and URL tell that all is well only while the engine runs and its position moves."""
    status: dict[str, Any] = {"state": "running", "committed": 1}
    path = tmp_path / "heartbeat"
    alive = Alive(lambda: status, path=path, url=siren.url, disk=RealDisk(), now_ms=lambda: 5000)
    assert alive.beat(0.0)
    assert json.loads(path.read_text()) == {"time_ms": 5000, "offset": 1, "state": "running"}
    assert alive.beat(STILL_S)
    path.unlink()
    assert not alive.beat(STILL_S + 1)
    assert not path.exists()
    status["committed"] = 2
    assert alive.beat(STILL_S + 2)
    for state in ("database_away", "fenced", "starting", "stopped"):
        status |= {"state": state, "committed": status["committed"] + 1}
        assert not alive.beat(STILL_S + 3), state


def test_the_dead_man_is_called_twice_a_minute(siren: Siren, tmp_path: Path) -> None:
    """Often enough for a monitor that waits a minute, and a refusal does not stop the heartbeat."""
    status: dict[str, Any] = {"state": "running", "committed": 0}
    alive = Alive(lambda: status, path=tmp_path / "heartbeat", url=siren.url, disk=RealDisk(), now_ms=lambda: 1)
    for second in range(0, 61, 5):
        status["committed"] += 1
        assert alive.beat(float(second))
    assert len(siren.calls) == 1 + int(60 // CALL_S)
    siren.status = 503
    status["committed"] += 1
    assert alive.beat(200.0)


def test_consoles_are_counted_over_all_dashboards() -> None:
    """Two dashboards with three screens; one that ended takes its screens with it."""
    consoles = Consoles()
    assert consoles.readings(0.0) == {"consoles": 0.0, "sound": 1.0}
    consoles.report("a", consoles=2, sounding=0, now_s=0.0)
    consoles.report("b", consoles=1, sounding=1, now_s=5.0)
    assert consoles.readings(5.0) == {"consoles": 3.0, "sound": 1.0}
    consoles.report("a", consoles=2, sounding=0, now_s=12.0)
    assert consoles.readings(5.0 + FRESH_S + 1) == {"consoles": 2.0, "sound": 0.0}
    assert consoles.readings(100.0) == {"consoles": 0.0, "sound": 1.0}


def test_what_a_dashboard_says_is_bounded() -> None:
    """Nonsense counts for nothing, and a thousand dashboards do not fill the memory."""
    consoles = Consoles()
    consoles.report("a", consoles=-3, sounding=5, now_s=0.0)
    assert consoles.readings(0.0)["consoles"] == 0.0
    for number in range(1000):
        consoles.report(str(number), consoles=1, sounding=1, now_s=1.0 + number / 1e6)
    assert consoles.readings(1.5)["consoles"] == 64.0
