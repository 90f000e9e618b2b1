"""Births: what an alias means, and the folder that never forgets it."""

from __future__ import annotations

import copy
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.disk_shim import CrashDisk, PowerCut
from watchroom.births import Birth, BirthStore, format_epoch, parse_epoch
from watchroom.errors import ContractError, StoreError
from watchroom.signals import Kind, Lane

SITE = "spruce-court"
EPOCH = 0x0123456789ABCDEF
CONTRACT: dict[str, Any] = {
    "format": "WR1",
    "epoch": "0123456789abcdef",
    "schema": 3,
    "time_ms": 1763800000000,
    "gateway": {"id": "pump-house", "version": "0.3.0", "heartbeat_s": 1, "clock": "ntp"},
    "signals": [
        {"alias": 0, "key": "WP-01/outlet_pressure", "kind": "measure", "unit": "MPa", "lane": 1, "max_silence_s": 60},
        {
            "alias": 1,
            "key": "WP-01/p1_state",
            "kind": "state",
            "lane": 0,
            "max_silence_s": 60,
            "texts": {"0": {"zh": "停止", "en": "stopped"}, "1": {"zh": "运行", "en": "running"}},
        },
        {
            "alias": 2,
            "key": "WP-01/energy",
            "kind": "counter",
            "unit": "kWh",
            "lane": 1,
            "max_silence_s": 60,
            "modulus": 4294967296,
        },
    ],
}


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the contract's example with one value changed, or removed for ``...``."""
    content = copy.deepcopy(CONTRACT)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner: Any = content
    for part in way:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return content


def test_the_example_of_the_contract_reads_and_writes() -> None:
    """A birth goes through our program without a byte of difference in meaning."""
    birth = Birth.from_json(CONTRACT)
    assert (birth.gateway, birth.epoch, birth.schema, birth.heartbeat_s) == ("pump-house", EPOCH, 3, 1.0)
    assert [signal.key for signal in birth.signals] == ["WP-01/outlet_pressure", "WP-01/p1_state", "WP-01/energy"]
    assert birth.signals[1].kind is Kind.STATE
    assert birth.signals[1].lane is Lane.URGENT
    assert birth.signals[1].texts["1"]["zh"] == "运行"
    assert birth.signals[2].modulus == 2**32
    assert birth.to_json() == CONTRACT


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "WR2"), ("format", ...), ("epoch", "123"), ("epoch", 7), ("epoch", "0123456789ABCDEF"),
        ("schema", -1), ("schema", True), ("schema", "3"), ("time_ms", 1.5), ("gateway", None), ("gateway.id", "a/b"),
        ("gateway.id", ""), ("gateway.heartbeat_s", 0), ("gateway.heartbeat_s", "1"), ("gateway.heartbeat_s", ...),
        ("signals", 5), ("signals", ...), ("signals.0", 7), ("signals.0.alias", 1), ("signals.0.key", "no slash"),
        ("signals.0.key", "WP-01/p1_state"), ("signals.0.kind", "text"), ("signals.0.lane", 2),
        ("signals.0.max_silence_s", float("inf")), ("signals.0.max_silence_s", ...), ("signals.2.modulus", -1),
        ("signals.1.texts", {"0": "stopped"}), ("signals.1.texts", ["stopped"]),
    ],
)  # fmt: skip
def test_a_birth_that_breaks_the_contract_is_refused(path: str, value: object) -> None:
    """A gateway with a mistake in its birth is told apart at the door, not by a crash of a reader."""
    with pytest.raises(ContractError) as caught:
        Birth.from_json(changed(path, value))
    assert caught.value.reason == "birth"


def test_an_epoch_is_sixteen_hexadecimal_digits() -> None:
    """The number in the frame and the text in the JSON are the same epoch."""
    for epoch in (0, 1, EPOCH, 2**64 - 1):
        assert parse_epoch(format_epoch(epoch)) == epoch
    with pytest.raises(ContractError, match="epoch"):
        parse_epoch("0123456789abcdeg")


def test_a_stored_birth_is_there_for_every_reader(tmp_path: Path) -> None:
    """What ingest stores, another object, as in another process, finds, also when it asked before."""
    store, other = BirthStore(tmp_path), BirthStore(tmp_path)
    assert other.get(SITE, "pump-house", EPOCH, 3) is None
    birth = store.put(SITE, CONTRACT)
    assert store.get(SITE, "pump-house", EPOCH, 3) == birth
    assert other.get(SITE, "pump-house", EPOCH, 3) == birth
    assert other.get(SITE, "pump-house", EPOCH, 4) is None
    assert other.get("other-site", "pump-house", EPOCH, 3) is None


def test_all_births_come_in_a_settled_order(tmp_path: Path) -> None:
    """A reader that builds its index from all births builds the same one each time."""
    store = BirthStore(tmp_path)
    for gateway, schema, time_ms in [("b", 2, 20), ("b", 1, 10), ("a", 1, 30)]:
        content = changed("gateway.id", gateway)
        content |= {"schema": schema, "time_ms": time_ms}
        store.put(SITE, content)
    (tmp_path / SITE / "a" / "note.txt").write_text("not a birth")
    assert [(birth.gateway, birth.schema) for birth in BirthStore(tmp_path).all(SITE)] == [("a", 1), ("b", 1), ("b", 2)]
    assert store.all("nowhere") == []


def test_one_schema_has_one_meaning(tmp_path: Path) -> None:
    """A gateway that gives an old number a new meaning would turn history into nonsense; it is refused."""
    store = BirthStore(tmp_path)
    store.put(SITE, CONTRACT)
    assert store.put(SITE, CONTRACT) is store.get(SITE, "pump-house", EPOCH, 3)
    with pytest.raises(ContractError, match="two meanings"):
        store.put(SITE, changed("signals.0.unit", "kPa"))
    later = store.put(SITE, changed("time_ms", 1763800009999))
    assert later.time_ms == 1763800000000


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    """A topic is input from outside: it never becomes a path of its own choice."""
    store = BirthStore(tmp_path / "births")
    for site, gateway in [("..", "gw"), ("a/b", "gw"), ("s", "..")]:
        with pytest.raises(ContractError, match="topic"):
            store.get(site, gateway, 1, 1)


def test_a_spoilt_file_is_as_good_as_missing(tmp_path: Path) -> None:
    """The retained birth at the broker mends it; nobody stops for ever."""
    BirthStore(tmp_path).put(SITE, CONTRACT)
    path = tmp_path / SITE / "pump-house" / "0123456789abcdef-3.json"
    path.write_text("{")
    store = BirthStore(tmp_path)
    assert store.get(SITE, "pump-house", EPOCH, 3) is None
    assert store.all(SITE) == []
    store.put(SITE, CONTRACT)
    assert json.loads(path.read_text(encoding="utf-8")) == CONTRACT


@pytest.mark.parametrize("chance", range(5))
def test_a_birth_is_durable_when_put_returns(tmp_path: Path, chance: int) -> None:
    """Whatever step the power goes at: a birth that was confirmed is there, any other is whole or missing."""
    for step in range(1, 12):
        folder = tmp_path / f"births-{step}"
        folder.mkdir()
        disk = CrashDisk(tmp_path / f"morgue-{step}", cut_at=step)
        is_confirmed = False
        with suppress(PowerCut):
            BirthStore(folder, disk=disk).put(SITE, CONTRACT)
            is_confirmed = True
        disk.cut(random.Random(f"{chance} {step}"))
        found = BirthStore(folder).get(SITE, "pump-house", EPOCH, 3)
        assert found is None or found == Birth.from_json(CONTRACT)
        assert found is not None or not is_confirmed
    assert is_confirmed


def test_a_full_disk_is_told_and_forgotten_again(tmp_path: Path) -> None:
    """A birth that could not be stored is not served from memory as if it had been."""
    disk = CrashDisk(tmp_path / "morgue")
    store = BirthStore(tmp_path / "births", disk=disk)
    disk.refusing = {"write"}
    with pytest.raises(StoreError):
        store.put(SITE, CONTRACT)
    assert store.get(SITE, "pump-house", EPOCH, 3) is None
    disk.refusing = set()
    store.put(SITE, CONTRACT)
    assert BirthStore(tmp_path / "births").get(SITE, "pump-house", EPOCH, 3) is not None
