"""The live connection: one picture, then every change, a tick each second, and no way to miss anything."""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from sqlalchemy import delete, text
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from alarms.judged import Change
from dashboard import models, screen
from ingest.centre import CentreReport
from tests.dashboard.center import FORCED, LOW, PASSWORD, PRESSURE, Center, until
from tests.dashboard.desk import Desk, Live
from watchroom.centre import CENTRE_GATEWAY
from watchroom.clock import utc_ms
from watchroom.database.connect import writing
from watchroom.database.tables import change
from watchroom.disk import RealDisk


async def test_snapshot_is_the_whole_picture(desk: Desk, center: Center) -> None:
    """A page that opens knows at once what is open, who passed, and how the gateways are."""
    alarm_id = center.raise_()
    center.passes("granted", "denied")
    async with desk.live(await desk.token("guard")) as live:
        told = await live.next("snapshot", "change")
    assert told["type"] == "snapshot"
    TypeAdapter(list[models.Alarm]).validate_python(told["alarms"])
    TypeAdapter(list[models.Ticket]).validate_python(told["tickets"])
    TypeAdapter(list[models.AccessEvent]).validate_python(told["access"])
    TypeAdapter(list[models.Gateway]).validate_python(told["gateways"])
    models.Stats.model_validate(told["stats"])
    assert [alarm["id"] for alarm in told["alarms"]] == [alarm_id]
    assert [ticket["alarms"][0]["id"] for ticket in told["tickets"]] == [alarm_id]
    assert [event["result"] for event in told["access"]] == ["denied", "granted"]
    assert told["index_epoch"] == desk.parts.projection.epoch


async def test_changes_follow_with_growing_sequence(desk: Desk, center: Center) -> None:
    """Raise, clear and acknowledge each reach the page as whole objects, without a hole."""
    async with desk.live(await desk.token("guard")) as live:
        first = await live.next("snapshot")
        alarm_id = center.raise_()
        raised = await live.next("change")
        center.clear()
        cleared = await live.next("change")
        async with desk.person("guard") as guard:
            await guard.post(f"/api/v1/alarms/{alarm_id}/ack")
        acked = await live.next("change")
    assert raised["prev"] == first["seq"]
    assert (raised["alarms"][0]["id"], raised["alarms"][0]["state"]) == (alarm_id, "UNACK")
    assert raised["tickets"][0]["state"] == "NEW"
    assert (cleared["prev"], cleared["alarms"][0]["state"]) == (raised["seq"], "RTNUN")
    # an alarm that is over is told once more, so that the page can take it off its list
    assert (acked["prev"], acked["alarms"][0]["state"]) == (cleared["seq"], "NORM")


async def test_steps_are_those_of_the_person_who_looks(desk: Desk, center: Center) -> None:
    """One message for all screens, but the buttons of a ticket are each person's own."""
    guard, leader = await desk.token("guard"), await desk.token("leader")
    async with desk.live(guard) as low, desk.live(leader) as high:
        await low.next("snapshot")
        await high.next("snapshot")
        center.raise_()
        seen_low, seen_high = await low.next("change"), await high.next("change")
    assert "cancel" not in seen_low["tickets"][0]["steps"]
    assert "cancel" in seen_high["tickets"][0]["steps"]
    assert seen_low["alarms"] == seen_high["alarms"]


async def test_a_lost_wake_costs_a_quarter_of_a_second(desk: Desk, center: Center) -> None:
    """Wakes only make it fast: a change without one arrives all the same."""
    async with desk.live(await desk.token("guard")) as live:
        await live.next("snapshot")
        center.judge((LOW, Change.RAISE), wake=False)
        async with asyncio.timeout(2):
            assert (await live.next("change"))["alarms"]


async def test_resume_gets_what_was_missed(desk: Desk, center: Center) -> None:
    """After a short interruption the page gets the changes between, not everything anew."""
    token = await desk.token("guard")
    async with desk.live(token) as live:
        seq = (await live.next("snapshot"))["seq"]
    alarm_id = center.raise_()
    await until("the hub", lambda: desk.parts.hub.seq > seq)
    async with desk.live(token, first={"op": "resume", "seq": seq}) as live:
        assert (await live.next("snapshot", "change", "signals_reset"))["type"] == "signals_reset"
        told = await live.next("snapshot", "change")
        assert (told["type"], told["prev"]) == ("change", seq)
        assert [alarm["id"] for alarm in told["alarms"]] == [alarm_id]
        center.clear()
        assert (await live.next("change"))["prev"] == told["seq"]


async def test_resume_with_nothing_missed_says_so(desk: Desk, center: Center) -> None:
    """An empty change tells the page that its picture is right."""
    center.raise_()
    token = await desk.token("guard")
    async with desk.live(token) as live:
        seq = (await live.next("snapshot"))["seq"]
    async with desk.live(token, first={"op": "resume", "seq": seq}) as live:
        told = await live.next("snapshot", "change")
    assert (told["type"], told["seq"], told["alarms"], told["tickets"]) == ("change", seq, [], [])


async def test_gap_in_the_feed_gives_a_snapshot(desk: Desk, center: Center) -> None:
    """Changes that are no longer kept are replaced by the whole picture."""
    token = await desk.token("guard")
    center.raise_()
    async with desk.live(token) as live:
        seq = (await live.next("snapshot"))["seq"]
    center.raise_(FORCED)
    center.passes("granted")
    with writing(center.database) as conn:
        conn.execute(delete(change).where(change.c.seq <= seq + 1))
    async with desk.live(token, first={"op": "resume", "seq": seq}) as live:
        told = await live.next("snapshot", "change")
    assert told["type"] == "snapshot"
    assert len(told["alarms"]) == 2


async def test_sequence_from_the_future_gives_a_snapshot(desk: Desk, center: Center) -> None:
    """A page that was open while the database was replaced does not wait for numbers that come never."""
    center.raise_()
    async with desk.live(await desk.token("guard"), first={"op": "resume", "seq": 10**9}) as live:
        told = await live.next("snapshot", "change")
    assert (told["type"], told["seq"] < 10**9) == ("snapshot", True)


async def test_resume_on_an_open_connection(desk: Desk, center: Center) -> None:
    """A page that suspects a loss asks again without reconnecting."""
    async with desk.live(await desk.token("guard")) as live:
        seq = (await live.next("snapshot"))["seq"]
        center.raise_()
        await live.next("change")
        await live.say({"op": "resume", "seq": seq})
        again = await live.next("change")
    assert (again["prev"], len(again["alarms"])) == (seq, 1)


async def test_tick_each_second_while_nothing_changes(desk: Desk, center: Center) -> None:
    """A quiet compound and a dead line look different: the server says each second that it lives."""
    loop = asyncio.get_running_loop()
    async with desk.live(await desk.token("guard")) as live:
        await live.next("snapshot")
        times = []
        for _ in range(3):
            tick = await live.next("tick")
            times.append(loop.time())
    models.Stats.model_validate(tick["stats"])
    assert [gateway["id"] for gateway in tick["gateways"]] == ["pump-house"]
    assert tick["seq"] == desk.parts.hub.seq
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(0.7 < gap < 1.5 for gap in gaps), gaps


async def test_ticks_and_recovery_while_the_feed_cannot_be_read(desk: Desk, center: Center) -> None:
    """A database in trouble does not make the page believe that the line is dead; afterwards nothing is missing."""
    async with desk.live(await desk.token("guard")) as live:
        await live.next("snapshot")
        with writing(center.database) as conn:
            conn.execute(text("ALTER TABLE change RENAME TO hidden"))
        await live.next("tick")
        await live.next("tick")
        with writing(center.database) as conn:
            conn.execute(text("ALTER TABLE hidden RENAME TO change"))
        center.raise_()
        assert (await live.next("change"))["alarms"]


async def test_program_signs_in_with_its_first_message(desk: Desk, center: Center) -> None:
    """A token never stands in an address; without one the connection is closed with 4401."""
    token = await desk.token("guard")
    url = f"ws://127.0.0.1:{desk.port}/api/v1/live"
    async with connect(url) as socket:
        await socket.send(json.dumps({"op": "auth", "token": token}))
        assert (await Live(socket).next("snapshot"))["alarms"] == []
    for wrong in ({"op": "auth", "token": "made-up"}, {"op": "auth"}, ["auth"]):
        async with connect(url) as socket:
            await socket.send(json.dumps(wrong))
            with pytest.raises(ConnectionClosed):
                await Live(socket).next("snapshot")
            assert socket.close_code == 4401


async def test_cookie_needs_our_own_page(desk: Desk) -> None:
    """Any page may open a WebSocket to us; only ours may use the cookie."""
    async with desk.visitor() as browser:
        await browser.post("/api/v1/session", json={"username": "guard", "password": PASSWORD})
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    url = f"ws://127.0.0.1:{desk.port}/api/v1/live"
    async with connect(url, additional_headers={"Cookie": cookie, "Origin": desk.url}) as socket:
        assert (await Live(socket).next("snapshot"))["type"] == "snapshot"
    async with connect(url, additional_headers={"Cookie": cookie, "Origin": "http://evil.example"}) as socket:
        with pytest.raises(ConnectionClosed):
            await Live(socket).next("snapshot")
        assert socket.close_code == 4403


async def test_signed_out_page_is_disconnected(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing out ends the open page too."""
    monkeypatch.setattr(screen, "SESSION_S", 0.05)
    token = await desk.token("guard")
    async with desk.live(token) as live:
        await live.next("snapshot")
        async with desk.visitor(token) as guard:
            await guard.delete("/api/v1/session")
        with pytest.raises(ConnectionClosed):
            await live.next("nothing")
        assert live.socket.close_code == 4401


async def test_signals_arrive_as_binary_frames(desk: Desk, center: Center) -> None:
    """The page asks for what it shows and gets only that, the changed values alone after the first time."""
    center.born()
    center.sends({0: 0.5, 1: 12.0})
    at, flow = desk.parts.projection.index[PRESSURE], desk.parts.projection.index["WP-01/flow"]
    await until("the values", lambda: desk.parts.projection.value_of(PRESSURE))
    async with desk.live(await desk.token("guard")) as live:
        await live.next("snapshot")
        await live.say({"op": "sub", "topic": "signals", "view": [flow, at], "hz": 10})
        first = _parsed(await live.frame())
        sent = center.sends({0: 0.55})
        second = _parsed(await live.frame())
    assert first == {at: (0.5, 0), flow: (12.0, 0)}
    assert second == {at: (0.55, 0)}
    assert sent


async def test_silent_gateway_makes_its_values_stale(desk: Desk, center: Center) -> None:
    """The last value of a gateway that fell silent is never shown as if it were good."""
    center.born()
    center.sends({0: 0.5})
    await until("the value", lambda: desk.parts.projection.value_of(PRESSURE))
    at = desk.parts.projection.index[PRESSURE]
    async with desk.live(await desk.token("guard")) as live:
        await live.next("snapshot")
        await live.say({"op": "sub", "topic": "signals", "view": [at], "hz": 10})
        assert _parsed(await live.frame()) == {at: (0.5, 0)}
        assert _parsed(await live.frame()) == {at: (0.5, 255)}
        tick = await live.next("tick")
    assert (tick["gateways"][0]["is_online"], tick["gateways"][0]["stale"]) == (False, 2)
    assert tick["stats"]["gateways_online"] == 0


async def test_the_centre_is_equipment_and_no_gateway(desk: Desk, center: Center, tmp_path: Path) -> None:
    """What the centre says about its disk is shown; the list of gateways and the age of the data leave it out."""
    report = CentreReport(center.site.id, births=center.births, folder=tmp_path, disk=RealDisk(), now_ms=utc_ms)
    frame = report.frame(0.0, {"disk_use": 81.0})
    assert frame is not None
    center.journal.append(center.site.id, CENTRE_GATEWAY, frame, arrived_ms=utc_ms())
    center.journal.sync(center.site.id)
    await until("the value", lambda: desk.parts.projection.value_of("CENTRE/disk_use") == 81.0)
    async with desk.live(await desk.token("guard")) as live:
        tick = await live.next("tick")
    assert [gateway["id"] for gateway in tick["gateways"]] == ["pump-house"]
    assert tick["stats"]["data_age_ms"] is None


async def test_new_signals_reset_the_index(desk: Desk, center: Center) -> None:
    """A gateway with signals of its own makes the page fetch the index again."""
    async with desk.live(await desk.token("guard")) as live:
        old = (await live.next("snapshot"))["index_epoch"]
        center.born([PRESSURE, "WP-01/vibration"], schema=2)
        center.sends({1: 4.2}, schema=2)
        reset = await live.next("signals_reset")
        async with desk.person("guard") as guard:
            index = (await guard.get("/api/v1/live/index")).json()
    assert reset["index_epoch"] == index["epoch"] != old
    assert index["keys"][-1] == "WP-01/vibration"


async def test_engine_snapshot_fills_a_fresh_page(site_center: Center, desk: Desk) -> None:
    """After a restart of the dashboard the values are there before the equipment reports again."""
    index = desk.parts.projection
    await until("the engine's values", lambda: index.samples([PRESSURE])[0]["value"] == 0.61)
    assert index.samples([PRESSURE])[0]["gateway"] == "pump-house"


@pytest.fixture
def site_center(center: Center) -> Center:
    """A centre whose engine knows one value before the dashboard starts."""
    center.latest = {
        "keys": [PRESSURE, "WP-01/flow"],
        "time_ms": [1_700_000_000_000, 0],
        "value": [0.61, None],
        "quality": [0, 1],
        "gateway": ["pump-house", ""],
        "is_stale": [False, True],
    }
    return center


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "[]",
        '"x"',
        '{"op":"sub"}',
        '{"op":"sub","topic":"signals","view":[-1,9e9,"x"],"hz":"?"}',
        '{"op":"sub","topic":"signals","view":[0],"hz":1' + "0" * 400 + "}",
        "[" * 100_000,
    ],
    ids=["cut", "list", "text", "no topic", "odd values", "huge number", "deep"],
)
async def test_nonsense_does_not_end_the_connection(desk: Desk, center: Center, said: str) -> None:
    """A page of another version may say what we do not know."""
    async with desk.live(await desk.token("guard")) as live:
        await live.next("snapshot")
        await live.socket.send(said)
        await live.socket.send(b"\x00\x01")
        center.raise_()
        assert (await live.next("change"))["alarms"]


async def test_screen_that_does_not_read_is_dropped(
    desk: Desk, center: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stuck page costs bounded memory and never delays the others; it is cut and takes a snapshot later."""
    monkeypatch.setattr(screen, "BEHIND_BYTES", 200_000)
    filler = json.dumps({"type": "filler", "text": "x" * 100_000})

    def fill() -> bool:
        for one in list(desk.parts.hub._screens):
            if one.person.name == "leader":
                one.offer(filler)
        return desk.parts.hub.dropped > 0

    async with desk.live(await desk.token("guard")) as good:
        await good.next("snapshot")
        stuck = await _stuck(desk, await desk.token("leader"))
        await until("both screens", lambda: desk.parts.hub.screens == 2)
        await until("the drop", fill, within_s=20)
        await until("its end", lambda: desk.parts.hub.screens == 1)
        center.raise_()
        assert (await good.next("change"))["alarms"]
        stuck.close()


async def _stuck(desk: Desk, token: str) -> asyncio.StreamWriter:
    """Open a WebSocket by hand and never read from it."""
    _, writer = await asyncio.open_connection("127.0.0.1", desk.port, limit=1024)
    writer.write(
        b"GET /api/v1/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
    )
    await writer.drain()
    return writer


def _parsed(data: bytes) -> dict[int, tuple[float, int]]:
    """Return index -> (value, quality) of a binary frame."""
    magic, _, n, _, _ = struct.unpack_from("<IIIId", data)
    assert magic == 0x31535257
    values = struct.unpack_from(f"<{n}d", data, 24)
    index = struct.unpack_from(f"<{n}I", data, 24 + 16 * n)
    quality = struct.unpack_from(f"<{n}B", data, 24 + 20 * n)
    return {at: (value, good) for at, value, good in zip(index, values, quality, strict=True)}
