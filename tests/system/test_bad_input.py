"""Bad input: what the operator reads, and that everything else goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from ingest.duckdb_store import DuckStore
from ingest.store import SampleBatch
from tests.system.chain import Chain
from tests.system.evidence import check_accesses, check_journal, journal_events, journal_records
from tests.system.harm_site import DOOR, SITE
from tests.system.room import children_of, free_port, until
from watchroom.database.connect import open_database, reading
from watchroom.database.tables import access_event
from watchroom.errors import StoreError

pytestmark = pytest.mark.slow
MIB = 1 << 20


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """One running chain for the tests that do no lasting harm; one of its machines hangs on a dead host."""
    with ExitStack() as stack:
        running = Chain(stack, tmp_path_factory.mktemp("bad"), dead_port=free_port())
        running.room.wait_ready(within_s=60)
        running.goes_on("at first")
        yield running


def _refused(chain: Chain, name: str, *arguments: str) -> tuple[int, str]:
    """Return exit code and words of a command that must end by itself."""
    process = chain.start([*arguments], name)
    try:
        return process.wait(30), process.printed
    finally:
        process.close()


def _changed_file(chain: Chain, name: str, old: str, new: str) -> Path:
    """Return a copy of the gateway file, beside it, with a mistake in it."""
    text = chain.file.read_text(encoding="utf-8").replace("{id: yard,", f"{{id: {name},")
    assert old in text
    path = chain.folder / "site" / "gateways" / f"{name}.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


MISTAKES = {
    "misspelt": (
        "timeout: 1s}",
        "timeot: 1s}",
        "misspelt.yaml:3: links.plc.timeot: unknown key (did you mean 'timeout'?)",
    ),
    "unknown-model": (
        "model: harm_float,",
        "model: harm_flaot,",
        "unknown-model.yaml:7: devices.sp-01.model: there is no model 'harm_flaot' (did you mean 'harm_float'?)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_file_is_told_with_file_line_and_key(chain: Chain, name: str) -> None:
    """A gateway with a wrong file does not start and says why; ``check`` says the same; the other gateway goes on."""
    old, new, message = MISTAKES[name]
    path = _changed_file(chain, name, old, new)
    try:
        for arguments in (["gateway", str(path), "--data", str(chain.folder / name)], ["check", str(path)]):
            code, printed = _refused(chain, name, *arguments)
            assert (code, message in printed, "Traceback" in printed) == (2, True, False), printed
        chain.goes_on(name)
    finally:
        path.unlink()


def test_a_dead_modbus_host_beside_a_living_one(chain: Chain) -> None:
    """The dead link is a log line, an alarm and signals without a value; the living link is as quick as ever."""
    room = chain.room
    until("the log tells the link", chain.told("link is down", '"dead"', by="gateway"))
    until("the values say so", lambda: room.values().get("M-04/v1", {}).get("quality") == 1)
    assert room.values()["M-04/v1"]["value"] is None, "no value, and never a zero"
    links = chain.gateway_health()[1]["gateways"]["yard"]["links"]
    assert (links["dead"]["is_down"], links["plc"]["is_down"]) == (True, False)
    titles = until(
        "the alarm is there",
        lambda: [item["title"] for item in room.items("/alarms") if item["rule"] == "links.down" and item["is_active"]],
    )
    assert titles == [{"zh": "网关有链路中断", "en": "Gateway link down"}]
    before = room.values()["M-01/v1"]["time_ms"]
    until("the living link is read", lambda: room.values()["M-01/v1"]["time_ms"] > before + 500)
    assert room.values()["M-01/v1"]["quality"] == 0
    chain.goes_on("with a dead link")


def _stored_frame(chain: Chain) -> bytes:
    return next(row.payload for row in reversed(journal_records(chain.data, SITE)) if row.gateway)


BACKBONE: dict[str, tuple[str, bytes]] = {
    "magic": ("yard/d", b"GARBAGE" * 30),
    "length": ("yard/u", b"\x00"),
    "json": ("yard/birth", b'{"format": "WR1"'),
    "birth": ("yard/birth", b'{"format": "WR1", "gateway": {}}'),
    "topic": ("no%20body/d", b"hello"),
}


def test_garbage_on_the_backbone_is_put_aside(chain: Chain) -> None:
    """What breaks the contract never enters the journal: it is kept, counted by reason, told, and in nobody's way."""
    whole = _stored_frame(chain)
    sent = BACKBONE | {"crc": ("yard/d", whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])}
    before = chain.status()["ingest"]["quarantined"]
    for topic, payload in sent.values():
        chain.reader.publish(f"wr1/{SITE}/{topic}", payload)
    for topic in ("status", "ack", "want", "cmd"):
        chain.reader.publish(f"wr1/{SITE}/yard/{topic}", b"\xff\xfe not json")
        chain.reader.publish(f"wr1/{SITE}/yard/{topic}", b'{"epoch": 7, "upto": "x", "have": [[1]]}')

    def counted() -> bool:
        now = chain.status()["ingest"]["quarantined"]
        return all(now.get(reason, 0) > before.get(reason, 0) for reason in sent)

    until(f"all of {sorted(sent)} are counted", counted)
    until("the log tells", _quarantined(chain, sent))
    until("the gateway tells", chain.told("message not understood", by="gateway"))
    chain.goes_on("with garbage")
    assert chain.room.get("/gateways")["items"][0]["is_online"]


def _quarantined(chain: Chain, sent: dict[str, tuple[str, bytes]]) -> Any:
    def claim() -> bool:
        folder = chain.data / "ingest" / "quarantine"
        kept = [path.read_bytes() for path in folder.glob("*.bad")]
        told = all(chain.told("message quarantined", f'"reason": "{reason}"', by="serve")() for reason in sent)
        return told and all(any(payload in content for content in kept) for _, payload in sent.values())

    return claim


def _unmatched(chain: Chain) -> list[dict[str, Any]]:
    path = chain.edge / "gateway" / "yard" / "unmatched" / "readers" / "unmatched.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


READER = {
    "not text": ("door/DR-01/card", b"\xff\xfe\x00", "text", "not UTF-8"),
    "not JSON": ("door/DR-01/card", b'{"id": 5, "card"', "json", ""),
    "no id": ("door/DR-01/card", b'{"card": "0A1B", "result": "OK"}', "id", "$.id is not in the message"),
    "strange word": ("door/DR-01/card", b'{"id": "x", "result": "MAYBE"}', "enum", "'MAYBE' is none of ['NG', 'OK']"),
    "not a number": ("door/DR-01/io", b'{"tamper": "open"}', "value", "'open' is not a number"),
    "a column less": ("gate/DR-01/card", b"0A1B2C3D,IN,OK", "columns", "3 columns instead of 4"),
    "a wrong word": ("gate/DR-01/card", b"0A1B2C3D,SIDEWAYS,OK,900", "enum", "'SIDEWAYS' is none of ['IN', 'OUT']"),
}


def test_garbage_from_a_reader_is_kept_for_the_integrator(chain: Chain) -> None:
    """A message that fits no mapping is told once a kind, kept with its reason, and the reader's next one is taken."""
    for topic, payload, _, _ in READER.values():
        chain.reader.publish(topic, payload)
    chain.reader.publish(f"gate/{DOOR}/card", b"0A1B2C3D,IN,OK,1001")
    chain.reader.publish(f"door/{DOOR}/io", b'{"tamper": 0}')
    until("all are kept", lambda: len(_unmatched(chain)) >= len(READER))
    kept = {(item["topic"], item["reason"]): item["detail"] for item in _unmatched(chain)}
    for topic, _, reason, detail in READER.values():
        assert reason in {found for where, found in kept if where == topic}
        assert any(detail in text for (where, found), text in kept.items() if (where, found) == (topic, reason))
        assert chain.told("message fits no mapping", f'"reason": "{reason}"', by="gateway")()
    until("the good row is stored", lambda: _is_in_the_log(chain, "csv-cards:DR-01:1001"), every_s=0.2)
    until("the good value is there", lambda: chain.room.values()["DR-01/tamper"]["value"] == 0)
    chain.goes_on("with strange readers")


def test_a_wrong_row_spoils_only_itself(chain: Chain) -> None:
    """Of a message with three CSV rows the two good ones are stored; the wrong one is kept with its reason."""
    rows = b"0A1B2C3D,IN,OK,2001\n0A1B2C3D,IN\n0A1B2C3D,OUT,NG,2003\n"
    before = len(_unmatched(chain))
    chain.reader.publish(f"gate/{DOOR}/card", rows)
    until("the wrong row is kept", lambda: len(_unmatched(chain)) > before)
    assert "2 columns instead of 4" in _unmatched(chain)[-1]["detail"]
    for serial in ("2001", "2003"):
        until(f"{serial} is stored", partial(_is_in_the_log, chain, f"csv-cards:DR-01:{serial}"), every_s=0.2)
    assert not _is_in_the_log(chain, "csv-cards:DR-01:2002")


def _is_in_the_log(chain: Chain, event_id: str) -> bool:
    """Whether an event stands in the access log, the end of its way."""
    with reading(open_database(chain.database)) as connection:
        query = select(access_event.c.seq).where(access_event.c.site == SITE, access_event.c.event_id == event_id)
        return connection.execute(query).first() is not None


def _event_ids(chain: Chain) -> set[str]:
    return {event_id for event_id, _ in journal_events(journal_records(chain.data, SITE))}


def _commands(chain: Chain, port: str) -> dict[str, tuple[list[str], int]]:
    """Return commands that want a port, with the exit code: 2 ends a supervisor, 1 is tried again."""
    site, data = str(chain.folder / "site"), str(chain.folder / "other")
    return {
        "serve": (["serve", site, "--data", data, "--port", port], 2),
        "up": (["up", "--data", data, "--port", port], 2),
        "engine": (["engine", site, "--data", data, "--health", port], 2),
        "gateway": (["gateway", str(chain.file), "--data", data, "--health", port], 2),
        "dashboard": (["dashboard", site, "--data", data, "--port", port], 1),
        "broker": (["broker", "--port", port], 1),
    }


@pytest.mark.parametrize("name", ["serve", "up", "engine", "gateway", "dashboard", "broker"])
def test_a_taken_port_is_refused_in_words(chain: Chain, name: str) -> None:
    """Each command says which port is in use, without a traceback; who has the port goes on."""
    port = str(chain.room.port)
    arguments, expected = _commands(chain, port)[name]
    code, printed = _refused(chain, f"taken-{name}", *arguments)
    assert (code, "Traceback" in printed) == (expected, False), printed
    assert f"port {port}" in printed
    assert "in use" in printed
    assert chain.room.answers()


def test_a_stolen_port_stops_the_page_only(chain: Chain) -> None:
    """Another program takes the page's port while it restarts: alarms go on, and the page returns when it is free."""
    address = ("127.0.0.1", chain.room.port)
    with closing(socket.socket()) as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(children_of(chain.serve.pid)["dashboard"], signal.SIGKILL)
        until("the port is stolen", lambda: _takes(thief, address), every_s=0.001)
        until("the log tells", chain.told(f"port {address[1]}", "in use", by="serve"))
        answered, end = len(chain.reader.answered), chain.journal_end()
        until("the rest goes on", lambda: len(chain.reader.answered) > answered + 20 and chain.journal_end() > end + 20)
        assert chain.status()["alarms"]["state"] == "running"
    chain.goes_on("with its port back")


def _takes(thief: socket.socket, address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError):
        thief.bind(address)
        thief.listen()
        return True
    return False


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Mount a disk of a size in memory."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"needs root to mount a small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Ballast:
    """A file that takes all the room that is left on a disk."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ballast"

    def fill(self) -> None:
        """Leave not one byte."""
        with self._path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for piece in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(piece)):
                        pass

    def leave(self, share: float) -> None:
        """Leave this share of the disk."""
        with self._path.open("ab", buffering=0) as file:
            while (free := os.statvfs(self._path)).f_bavail > share * free.f_blocks:
                file.write(bytes(1 << 16))

    def drop(self) -> None:
        """Give the room back."""
        self._path.unlink()


def test_a_full_disk_at_the_gateway(tmp_path: Path) -> None:
    """Nothing is answered that is not on the disk; when there is room again every swipe arrives, once."""
    with ExitStack() as stack:
        edge = stack.enter_context(small_disk(tmp_path / "edge", 8 * MIB))
        chain = Chain(stack, tmp_path, edge=edge)
        chain.room.wait_ready(within_s=60)
        chain.goes_on("at first")
        ballast = Ballast(edge)

        def full() -> dict[str, Any] | None:
            ballast.fill()
            code, facts = chain.gateway_health()
            return facts if code == 503 else None

        facts = until("the gateway says that it is full", full, every_s=0.1)
        assert facts is not None
        assert facts["gateways"]["yard"]["is_full"]
        assert chain.told("outbox cannot write", by="gateway")()
        chain.reader.publish(f"door/{DOOR}/card", b"not json")

        def is_waiting() -> bool:
            ballast.fill()
            return chain.reader.waiting > 40

        until("swipes wait", is_waiting, every_s=0.1)
        assert chain.gateway.is_running()
        assert chain.room.get("/gateways")["items"][0]["is_online"], "heartbeats need no disk"
        ballast.drop()
        until("it writes again", chain.told("outbox writes again", by="gateway"))
        chain.goes_on("with room again")
        chain.reader.rest()
        until("every swipe is answered", lambda: chain.reader.waiting == 0, within_s=90)
        until("it is well", lambda: chain.gateway_health()[0] == 200)
        _check_swipes(chain)


def test_a_full_disk_at_the_centre(tmp_path: Path) -> None:
    """The gateway keeps what the centre cannot take; the page goes on; when there is room again nothing is missing."""
    with ExitStack() as stack:
        data = stack.enter_context(small_disk(tmp_path / "data", 96 * MIB))
        chain = Chain(stack, tmp_path, data=data)
        chain.room.wait_ready(within_s=60)
        chain.goes_on("at first")
        ballast = Ballast(data)
        ballast.fill()
        until("the log tells", chain.told("disk full, nothing is taken in", by="serve"))
        assert chain.status()["ingest"]["is_full"]
        answered = len(chain.reader.answered)
        until("the gateway answers readers still", lambda: len(chain.reader.answered) > answered + 40)
        until("the gateway keeps it", lambda: _outbox_frames(chain) > 50)
        assert chain.room.items("/equipment"), "the page goes on"
        assert set(children_of(chain.serve.pid)) == {"engine", "dashboard"}
        ballast.drop()
        until("it takes in again", lambda: not chain.status()["ingest"]["is_full"])
        chain.goes_on("with room again")
        chain.reader.rest()
        until("every swipe is answered", lambda: chain.reader.waiting == 0, within_s=90)
        until("all is stored", lambda: _is_level(chain), within_s=40, every_s=0.2)
        _check_swipes(chain)


def test_a_disk_that_fills_up_is_an_alarm(tmp_path: Path) -> None:
    """At 80 % an alarm, at 95 % louder ones, no gateway is blamed; with room they clear and nothing is missing."""
    with ExitStack() as stack:
        data = stack.enter_context(small_disk(tmp_path / "data", 192 * MIB))
        chain = Chain(stack, tmp_path, data=data)
        chain.room.wait_ready(within_s=60)
        chain.goes_on("at first")
        ballast = Ballast(data)
        ballast.leave(0.15)
        until("people are told early", lambda: _active(chain).get("disk.use") == 3, within_s=60)
        chain.goes_on("at 85 %")
        ballast.leave(0.04)
        until("the alarm is louder", lambda: _active(chain).get("disk.use") == 2, within_s=60)
        until("the stop is told", lambda: _active(chain).get("intake.stopped") == 2, within_s=60)
        assert chain.status()["ingest"]["problems"][0] == "disk.full"
        answered = len(chain.reader.answered)
        until("readers are answered all the while", lambda: len(chain.reader.answered) > answered + 100, within_s=90)
        assert set(_active(chain)) == {"disk.use", "intake.stopped"}, "no gateway is called silent for it"
        ballast.drop()
        until("both alarms are over", lambda: not _active(chain), within_s=60)
        chain.goes_on("with room again")
        chain.reader.rest()
        until("every swipe is answered", lambda: chain.reader.waiting == 0, within_s=90)
        until("all is stored", lambda: _is_level(chain), within_s=60, every_s=0.2)
        _check_swipes(chain)


def _active(chain: Chain) -> dict[str, int]:
    """Return rule -> priority of the active alarms of the centre and of gateways."""
    rows = [row for row in chain.room.items("/alarms") if row["is_active"] and row["equipment"] in ("CENTRE", "GW-01")]
    # a link that was down while the gateway started counts until data tell otherwise
    return {row["rule"]: row["priority"] for row in rows if row["rule"] != "links.down"}


def _outbox_frames(chain: Chain) -> int:
    facts = chain.gateway_health()[1]
    return int(facts["gateways"]["yard"]["outbox_frames"]) if facts else 0


def _samples(number: int) -> SampleBatch:
    n = 40_000
    return SampleBatch(
        keys=("M-01/v1",),
        series=np.zeros(n, dtype=np.uint32),
        time_ms=np.arange(n, dtype=np.int64) + number * n,
        value=np.random.default_rng(number).random(n),
        quality=np.zeros(n, dtype=np.uint8),
    )


def _counted(store: DuckStore) -> int:
    return sum(store.range(["M-01/v1"], start_ms=0, end_ms=1 << 40, buckets=1)["M-01/v1"].count)


@pytest.mark.parametrize("size_mib", [12, 17, 24])
def test_a_full_disk_under_the_history(tmp_path: Path, size_mib: int) -> None:
    """The message says that the disk is full; with room again writing goes on without a restart, each sample once."""
    with small_disk(tmp_path / "disk", size_mib * MIB) as disk:
        store, stored, problems = DuckStore(disk / "history.duckdb"), 0, list[str]()
        store.open()
        while len(problems) < 4:
            try:
                store.write(_samples(stored), position=stored + 1)
                stored += 1
            except StoreError as exc:
                problems.append(str(exc))
        assert "No space left on device" in problems[0]
        subprocess.run(["mount", "-o", f"remount,size={(size_mib + 64) * MIB}", str(disk)], check=True)
        for _ in range(3):
            store.write(_samples(stored), position=stored + 1)
            stored += 1
            assert (_counted(store), store.position()) == (stored * 40_000, stored)
        store.close()


def _is_level(chain: Chain) -> bool:
    """Whether the history has caught up with the journal."""
    status = chain.status()
    return bool(status) and status["history"]["problem"] == "" and status["history"]["lag"] < 20


def _check_swipes(chain: Chain) -> None:
    wanted = {f"cards:{name}" for name in chain.reader.answered}
    assert len(wanted) == chain.reader.swiped
    until("all swipes are in the journal", lambda: wanted <= _event_ids(chain), within_s=40, every_s=0.3)
    end = chain.journal_end()
    until("all are judged", lambda: chain.status()["alarms"]["committed"] >= end, within_s=40, every_s=0.2)
    chain.gateway.interrupt()
    assert chain.serve.interrupt() == 0
    records = journal_records(chain.data, SITE)
    check_accesses(chain.database, SITE, wanted, records)
    check_journal([row for row in records if not _holds_loss(row)], {}, may_skip=True)


def _holds_loss(row: Any) -> bool:
    return any(kind == "loss" for _, kind in journal_events([row]))
