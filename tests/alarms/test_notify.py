"""Messages about tickets through Apprise, to a real receiver on loopback."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import Engine, select

from alarms.committer import Committer
from alarms.judged import Judged
from alarms.notify import ATTEMPTS, BACKOFF_MS, LEASE_MS, Notifier, active_channels
from tests.alarms.handmade import change, plant, rule
from watchroom.database.connect import reading
from watchroom.database.tables import message, ticket
from watchroom.site import Channel, Site

# Apprise loads its mail plugin, which loads a module that Python 3.13 drops
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
NOW = 1_763_800_000_000
CHANNELS = {"desk": Channel(url_env="WR_TEST_DESK", lang="zh"), "boss": Channel(url_env="WR_TEST_BOSS", lang="en")}


class Receiver:
    """An HTTP receiver that takes Apprise's ``json://`` messages and may be told to refuse them."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.arrived = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.status == 200:
                    outer.got.append(json.loads(body))
                self.send_response(outer.status)
                self.end_headers()
                outer.arrived.set()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self._server.server_address[1]}/"

    @contextmanager
    def serving(self) -> Iterator[Receiver]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


class Clock:
    """A wall clock that the test moves."""

    def __init__(self) -> None:
        self.now_ms = NOW

    def __call__(self) -> int:
        return self.now_ms


def opened(database: Engine, channels: dict[str, Channel]) -> Site:
    """Let an alarm open a ticket at a site with these channels."""
    site = plant(channels=channels)
    committer = Committer(site, database, channels=channels, now_ms=lambda: NOW)
    committer.claim()
    committer.commit(Judged(transitions=[change(rule())]), end=1)
    return site


def notifier(site: Site, database: Engine, clock: Clock, environ: dict[str, str]) -> Notifier:
    return Notifier(site, database=database, public_url="https://wr.example", now_ms=clock, environ=environ)


def rows(database: Engine) -> list[dict[str, Any]]:
    with reading(database) as connection:
        return [dict(row) for row in connection.execute(select(message).order_by(message.c.channel)).mappings()]


def test_a_new_ticket_reaches_the_phone(database: Engine, receiver: Receiver) -> None:
    """One message a channel, in the channel's language, with a link to the ticket's page; and never again."""
    site = opened(database, CHANNELS)
    environ = {"WR_TEST_DESK": receiver.url, "WR_TEST_BOSS": receiver.url}
    clock = Clock()
    sender = notifier(site, database, clock, environ)
    assert sender.send_due() == 2
    with reading(database) as connection:
        ticket_id = connection.execute(select(ticket.c.id)).scalar_one()
    texts = sorted((item["title"], item["message"]) for item in receiver.got)
    assert [title for title, _ in texts] == [
        "WX-1001 high: Equipment WP-01, Outlet pressure low",
        "WX-1001 高：设备 WP-01 出口压力偏低",
    ]
    assert all(body.endswith(f"https://wr.example/tickets/{ticket_id}") for _, body in texts)
    clock.now_ms += 10 * LEASE_MS
    assert sender.send_due() == 0
    assert all(row["sent_ms"] == NOW and row["next_ms"] is None and row["problem"] is None for row in rows(database))


def test_a_service_that_refuses_is_tried_again_later(database: Engine, receiver: Receiver) -> None:
    """The push service has a bad hour: longer and longer pauses, then the message arrives, once."""
    site = opened(database, {"desk": CHANNELS["desk"]})
    clock = Clock()
    sender = notifier(site, database, clock, {"WR_TEST_DESK": receiver.url})
    receiver.status = 503
    for attempt in range(3):
        assert sender.send_due() == 1
        (row,) = rows(database)
        assert (row["attempts"], row["next_ms"]) == (attempt + 1, clock.now_ms + BACKOFF_MS[attempt])
        assert row["problem"]
        assert sender.send_due() == 0
        clock.now_ms = row["next_ms"]
    receiver.status = 200
    assert sender.send_due() == 1
    assert len(receiver.got) == 1
    assert rows(database)[0]["sent_ms"] == clock.now_ms


def test_it_gives_up_in_the_end(database: Engine, receiver: Receiver) -> None:
    """After many hours nobody needs the message any more; the row says that it was not sent and why."""
    site = opened(database, {"desk": CHANNELS["desk"]})
    clock = Clock()
    receiver.status = 500
    sender = notifier(site, database, clock, {"WR_TEST_DESK": receiver.url})
    for _ in range(ATTEMPTS):
        assert sender.send_due() == 1
        clock.now_ms += max(BACKOFF_MS)
    assert sender.send_due() == 0
    (row,) = rows(database)
    assert (row["attempts"], row["next_ms"], row["sent_ms"]) == (ATTEMPTS, None, None)


def test_a_crash_while_sending_sends_late_rather_than_never(database: Engine, receiver: Receiver) -> None:
    """Killed between claiming and sending: another process sends it when the claim is a minute old."""
    site = opened(database, {"desk": CHANNELS["desk"]})
    clock = Clock()
    environ = {"WR_TEST_DESK": receiver.url}
    dead = notifier(site, database, clock, environ)
    assert dead._claim(rows(database)[0])
    alive = notifier(site, database, clock, environ)
    assert alive.send_due() == 0
    clock.now_ms += LEASE_MS
    assert alive.send_due() == 1
    assert len(receiver.got) == 1


def test_two_notifiers_send_one_message(database: Engine, receiver: Receiver) -> None:
    """Two processes find the same message due: one of them sends it."""
    site = opened(database, {"desk": CHANNELS["desk"]})
    environ = {"WR_TEST_DESK": receiver.url}
    senders = [notifier(site, database, Clock(), environ) for _ in range(4)]
    threads = [threading.Thread(target=sender.send_due) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(receiver.got) == 1


def test_it_runs_in_its_own_thread_until_told(database: Engine, receiver: Receiver) -> None:
    """Started with the engine: a waiting message is sent at once, and the thread ends when told."""
    site = opened(database, {"desk": CHANNELS["desk"]})
    sender = notifier(site, database, Clock(), {"WR_TEST_DESK": receiver.url})
    stop = threading.Event()
    thread = threading.Thread(target=sender.run, args=(stop,))
    thread.start()
    assert receiver.arrived.wait(20)
    stop.set()
    sender.wake()
    thread.join(20)
    assert not thread.is_alive()
    assert len(receiver.got) == 1


def test_a_channel_without_address_gets_no_messages() -> None:
    """A site without secrets in the environment collects no messages that nobody will ever send."""
    assert active_channels(CHANNELS, {"WR_TEST_BOSS": "json://x/", "WR_TEST_DESK": ""}) == {"boss": CHANNELS["boss"]}


def test_a_wrong_address_is_a_problem_not_a_crash(database: Engine) -> None:
    """Somebody mistypes the channel's URL: the message waits with that problem, everything else goes on."""
    site = opened(database, {"desk": CHANNELS["desk"]})
    sender = notifier(site, database, Clock(), {"WR_TEST_DESK": "nonsense"})
    assert sender.send_due() == 1
    assert "Apprise" in rows(database)[0]["problem"]


def test_apprise_is_loaded_only_to_send(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site without channels does not pay for the library."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "apprise"]:
        monkeypatch.delitem(sys.modules, name)
    stop = threading.Event()
    stop.set()
    notifier(plant(), database, Clock(), {}).run(stop)
    assert "apprise" not in sys.modules
