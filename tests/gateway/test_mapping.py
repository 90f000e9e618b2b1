"""Messages of readers: what becomes of them, and what an integrator gets wrong."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping as Names
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jsonpath import MISSING, compile_condition, compile_path
from gateway.mapping import Mapped, Mapping
from gateway.mappingcheck import compile_mapping
from gateway.mappingfile import MqttEntry
from gateway.modelfile import named_booleans
from gateway.times import compile_time
from gateway.topicpattern import compile_topic
from watchroom.errors import ConfigError, ContractError
from watchroom.pii import keyed_hash
from watchroom.signals import Kind, Lane, Quality
from watchroom.yamlfile import parse_yaml

KEY = b"a key for tests only"
NOW_MS = 1_763_800_000_000

FACE = """
topic: "face/{sn}/rec"
match: {sn: F1234*}
when: "$$.operator == 'RecPush'"
each: "$.info.records[*]"
event: access
equipment: DR-S1
id: "$.RecordID"
time: {path: "$.time", format: "%Y-%m-%d %H:%M:%S", tz: Asia/Shanghai}
fields:
  person: "$.persionName ?? $.personName"
  person_id: {path: "$.customId", pii: hash}
  result: {path: "$.VerifyStatus", enum: {1: granted, 2: denied, 24: unknown}}
  score: {path: "$.similarity1", type: float}
  method: {const: face}
drop: ["$.pic"]
reply: {topic: "face/{sn}/rec/ack", body: {operator: PushAck, info: {SnapOrRecordID: "{RecordID}"}}, after: durable}
"""
CARD = """
topic: "gate/{door}/card"
format: csv
columns: [time, card, dir, result]
event: access
equipment: "{door}"
id: "{door}:{time}:{card}"
time: {path: time, format: iso, tz: Asia/Shanghai}
fields: {card: {pii: hash}, direction: {path: dir, enum: {IN: in, OUT: out}}, result: {enum: {OK: granted, NG: denied}}}
"""
DOOR = """
topic: "door/{door}/io"
equipment: "{door}"
only: [DR-S1, DR-S2]
time: {path: "$.ts", format: ms}
signals:
  contact: {path: "$.contact", kind: state, enum: {closed: 0, open: 1}, texts: {0: closed, 1: {zh: 开, en: open}}}
  exit_button: {path: "$.button", kind: state}
  voltage: {path: "$.mv", unit: V, scale: 0.001, range: [0, 30]}
"""


def mapping(text: str) -> Mapping:
    file = named_booleans(parse_yaml(text, Path("gateway.yaml")))
    entry: MqttEntry = file.parse(MqttEntry)
    return compile_mapping(file, (), entry, name="reader")


def convert(text: str, topic: str, payload: Any, *, arrived_ms: int = NOW_MS) -> Mapped:
    compiled = mapping(text)
    captures = compiled.topic.capture(topic)
    assert captures is not None
    raw = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    return compiled.convert(captures, raw, arrived_ms=arrived_ms, key=KEY)


def face_message(*records: Names[str, Any]) -> dict[str, Any]:
    return {"operator": "RecPush", "info": {"records": list(records)}}


RECORD = {
    "RecordID": 17,
    "time": "2025-11-22 16:26:40",
    "persionName": "张三",
    "customId": "310101",
    "VerifyStatus": "1",
    "similarity1": "97.5",
    "pic": "....",
}


def test_a_face_terminal_with_two_records_in_a_message() -> None:
    """Each record is an event with the terminal's own time, our words, and no person's number in clear."""
    mapped = convert(FACE, "face/F1234567/rec", face_message(RECORD, {**RECORD, "RecordID": 18, "VerifyStatus": 24}))
    first, second = mapped.events
    assert first.fields == {
        "person": "张三",
        "person_id": keyed_hash(KEY, "310101"),
        "result": "granted",
        "score": 97.5,
        "method": "face",
    }
    assert (first.id, second.id, second.fields["result"]) == ("reader:17", "reader:18", "unknown")
    assert (first.kind, first.equipment, first.seen_ms) == ("access", "DR-S1", NOW_MS)
    assert first.time_ms == 1_763_800_000_000  # 16:26:40 in Shanghai is 08:26:40 UTC


def test_the_terminal_is_answered_with_its_own_record_number() -> None:
    """A terminal that keeps records until it is answered gets the number it sent, after the commit."""
    (reply,) = convert(FACE, "face/F1234567/rec", face_message(RECORD)).replies
    assert reply.topic == "face/F1234567/rec/ack"
    assert json.loads(reply.payload) == {"operator": "PushAck", "info": {"SnapOrRecordID": "17"}}
    assert reply.is_after_commit


def test_other_messages_on_the_topic_are_none_of_ours() -> None:
    """What `when` excludes gives nothing and is no error; a terminal that `match` excludes is not even looked at."""
    other = {"operator": "HeartBeat", "info": {"records": [RECORD]}}
    assert convert(FACE, "face/F1234567/rec", other) == Mapped()
    assert mapping(FACE).topic.capture("face/X99/rec") is None


def test_a_card_reader_that_sends_csv() -> None:
    """A line is a record; the number in the id is the hash, never the card."""
    mapped = convert(CARD, "gate/DR-S1/card", b"2025-11-22T16:26:40,0A1B2C3D,IN,OK\r\n")
    (event,) = mapped.events
    card = keyed_hash(KEY, "0A1B2C3D")
    assert event.fields == {"card": card, "direction": "in", "result": "granted"}
    assert event.id == f"reader:DR-S1:2025-11-22T16:26:40:{card}"
    assert (event.equipment, event.time_ms) == ("DR-S1", NOW_MS)


def test_one_wrong_row_spoils_only_itself() -> None:
    """The good rows of a message are taken; the wrong one is refused with its number, its reason and no guess."""
    good, short, other = (
        "2025-11-22T16:26:40,0A1B2C3D,IN,OK",
        "2025-11-22T16:26:41,0A1B",
        "2025-11-22T16:26:42,9F,OUT,OK",
    )
    mapped = convert(CARD, "gate/DR-S1/card", "\n".join([good, short, other]).encode())
    assert [event.fields["direction"] for event in mapped.events] == ["in", "out"]
    assert [(refusal.reason, refusal.detail) for refusal in mapped.refused] == [
        ("columns", "record 2: 2 columns instead of 4")
    ]
    with pytest.raises(ContractError, match="record 1: 2 columns"):
        convert(CARD, "gate/DR-S1/card", f"{short}\n{short}".encode())


def test_one_wrong_record_of_a_list_spoils_only_itself() -> None:
    """The same for JSON lists; nothing of the wrong record is kept, not even what stood before the mistake."""
    mapped = convert(FACE, "face/F1234567/rec", face_message(RECORD, {**RECORD, "RecordID": None}, RECORD))
    assert (len(mapped.events), [refusal.reason for refusal in mapped.refused]) == (2, ["id"])


def test_no_card_number_leaves_in_clear() -> None:
    """Nowhere in an event or its id stands the number that was read."""
    (event,) = convert(CARD, "gate/DR-S1/card", b"2025-11-22T16:26:40,0A1B2C3D,IN,OK").events
    assert "0A1B2C3D" not in repr(event)
    (face,) = convert(FACE, "face/F1234567/rec", face_message(RECORD)).events
    assert "310101" not in repr(face)


def test_a_door_s_signals() -> None:
    """Words become numbers, millivolts volts; the signals and their texts are known before the first message."""
    mapped = convert(DOOR, "door/DR-S1/io", {"ts": NOW_MS - 20, "contact": "open", "button": True, "mv": 24100})
    assert [(r.key, r.time_ms, r.value, r.quality) for r in mapped.readings] == [
        ("DR-S1/contact", NOW_MS - 20, 1.0, Quality.GOOD),
        ("DR-S1/exit_button", NOW_MS - 20, 1.0, Quality.GOOD),
        ("DR-S1/voltage", NOW_MS - 20, 24.1, Quality.GOOD),
    ]
    specs = {spec.key: spec for spec in mapping(DOOR).specs()}
    assert len(specs) == 6
    contact = specs["DR-S2/contact"]
    assert (contact.kind, contact.lane, contact.texts["1"]) == (Kind.STATE, Lane.URGENT, {"zh": "开", "en": "open"})
    assert specs["DR-S2/voltage"].lane == Lane.TELEMETRY


def test_only_our_doors_are_subscribed() -> None:
    """Two gateways share a broker; each asks for its own doors."""
    assert mapping(DOOR).filters == ("door/DR-S1/io", "door/DR-S2/io")
    assert mapping(DOOR).topic.capture("door/DR-E1/io") is None


def test_a_message_without_time_is_stamped_on_arrival() -> None:
    """A reader without a clock is believed to speak at once."""
    (reading,) = convert(DOOR, "door/DR-S1/io", {"contact": "open"}).readings
    assert (reading.time_ms, reading.quality) == (NOW_MS, Quality.GOOD)


@pytest.mark.parametrize("off_ms", [-3_600_000, 3_600_000, -5001])
def test_a_reader_s_wrong_clock_moves_no_sample(off_ms: int) -> None:
    """A clock that is an hour off stamps on arrival, and the quality says so."""
    (reading,) = convert(DOOR, "door/DR-S1/io", {"ts": NOW_MS + off_ms, "contact": "open"}).readings
    assert (reading.time_ms, reading.quality) == (NOW_MS, Quality.CLOCK_DOUBTFUL)


def test_null_is_no_value_and_out_of_range_a_sensor_fault() -> None:
    """What a sensor cannot be is not judged."""
    (null,) = convert(DOOR, "door/DR-S1/io", {"mv": None}).readings
    assert math.isnan(null.value)
    assert null.quality == Quality.INVALID
    (high,) = convert(DOOR, "door/DR-S1/io", {"mv": 99000}).readings
    assert (high.value, high.quality) == (99.0, Quality.SENSOR_FAULT)


@pytest.mark.parametrize(
    ("text", "topic", "payload", "reason"),
    [
        (DOOR, "door/DR-S1/io", b"{", "json"),
        (DOOR, "door/DR-S1/io", b"\xff\xfe", "text"),
        (DOOR, "door/DR-S1/io", {"contact": "ajar"}, "enum"),
        (DOOR, "door/DR-S1/io", {"mv": "much"}, "value"),
        (DOOR, "door/DR-S1/io", {"mv": [1]}, "value"),
        (DOOR, "door/DR-S1/io", b'{"mv": 1e999}', "value"),
        (DOOR, "door/DR-S1/io", {"ts": 1763800000, "mv": 1e99}, None),
        (DOOR, "door/DR-S1/io", {"ts": "yesterday", "mv": 1}, "time"),
        (DOOR, "door/DR-S1/io", {"ts": 1763800000000000, "mv": 1}, "time"),
        (CARD, "gate/DR-S1/card", b"2025-11-22T16:26:40,0A1B2C3D,IN", "columns"),
        (CARD, "gate/DR-S1/card", b"2025-11-22T16:26:40,0A1B2C3D,UP,OK", "enum"),
        (FACE, "face/F1234567/rec", face_message({**RECORD, "RecordID": None}), "id"),
        (FACE, "face/F1234567/rec", face_message({**RECORD, "similarity1": "high"}), "value"),
        (FACE, "face/F1234567/rec", b"[" * 100_000, "json"),
    ],
)
def test_what_does_not_fit_has_a_reason(text: str, topic: str, payload: Any, reason: str | None) -> None:
    """A message that does not fit is refused with one word for the counter; nothing is guessed."""
    if reason is None:
        assert convert(text, topic, payload).readings
        return
    with pytest.raises(ContractError) as caught:
        convert(text, topic, payload)
    assert caught.value.reason == reason


NAMES = st.sampled_from(["ts", "contact", "mv", "info", "records", "operator", "RecordID", "time"])
MESSAGES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=12,
)


@given(MESSAGES)
def test_no_message_breaks_a_mapping(message: Any) -> None:
    """Whatever JSON a reader sends: it is converted, or refused as ContractError, and never any other way."""
    for text, topic in ((DOOR, "door/DR-S1/io"), (FACE, "face/F1234567/rec")):
        with contextlib.suppress(ContractError):
            for reading in convert(text, topic, message).readings:
                assert math.isnan(reading.value) == (reading.quality == Quality.INVALID)


def test_a_record_without_an_id_is_the_same_when_it_comes_twice() -> None:
    """The broker may deliver twice: the id is made of the content, so the second is known."""
    text = CARD.replace('id: "{door}:{time}:{card}"\n', "")
    line = b"2025-11-22T16:26:40,0A1B2C3D,IN,OK"
    (first,) = convert(text, "gate/DR-S1/card", line).events
    (again,) = convert(text, "gate/DR-S1/card", line, arrived_ms=NOW_MS + 999).events
    (other,) = convert(text, "gate/DR-S2/card", line).events
    assert first.id == again.id != other.id
    assert "0A1B2C3D" not in first.id


def test_a_photo_is_not_kept_with_an_unmatched_message() -> None:
    """What `drop` names is gone before anything is written down."""
    message = json.dumps(face_message(RECORD)).encode()
    assert b"pic" not in mapping(FACE).without_dropped(message)
    assert b"RecordID" in mapping(FACE).without_dropped(message)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (DOOR.replace("only:", "olny:"), "gateway.yaml:4: olny: unknown key (did you mean 'only'?)"),
        (DOOR.replace("only: [DR-S1, DR-S2]\n", ""), "only: this key is missing (list the values of {door})"),
        (DOOR.replace('equipment: "{door}"', 'equipment: "{dor}"'), "equipment: the topic does not capture {dor}"),
        (DOOR.replace("$.contact", "$.contact["), "signals.contact: '$.contact[' is not a path such as $.info.id"),
        (DOOR.replace("contact:", "Contact:"), "signals.Contact: 'Contact' is not a signal name"),
        (DOOR.replace("DR-S2", "DR S2"), "equipment: 'DR S2' is not an equipment id"),
        (DOOR.replace("DR-S2", "DR-S1"), "only.1: 'DR-S1' stands here twice"),
        (
            FACE.replace('"face/{sn}/rec"', "face/+/rec"),
            "topic: 'face/+/rec': '+' is not a level of a topic; write {name}",
        ),
        (DOOR.replace("format: ms", "format: minutes"), "time.format: 'minutes' is not a time format: s, ms, us, iso"),
        (FACE.replace("Asia/Shanghai", "Asia/Shangai"), "time.tz: 'Asia/Shangai' is not an IANA time zone"),
        (FACE.replace(", tz: Asia/Shanghai", ""), "time.format: '%Y-%m-%d %H:%M:%S' has no zone: add tz:"),
        (FACE.replace("== 'RecPush'", "= 'RecPush'"), "when: "),
        (FACE.replace("== 'RecPush'", "== RecPush"), "texts stand in quotes"),
        (FACE.replace("match: {sn:", "match: {serial:"), "topic: 'face/{sn}/rec' does not capture {serial}"),
        (FACE.replace("event: access\n", ""), "a mapping needs event: or signals:"),
        (FACE.replace('id: "$.RecordID"', 'id: "$.customId"'), "id: 'customId' is personal data (pii: hash)"),
        (FACE.replace('id: "$.RecordID"', 'id: "{sn}-{customId}"'), "id: 'customId' is personal data (pii: hash)"),
        (CARD.replace("path: dir", "path: direction"), "there is no column 'direction' (did you mean 'dir'?)"),
        (CARD.replace("columns: [time, card, dir, result]\n", ""), "columns: this key is missing"),
        (CARD.replace("time: {path: time, format: iso, tz: Asia/Shanghai}\n", ""), "time: this key is missing"),
    ],
)
def test_at_two_in_the_morning(text: str, says: str) -> None:
    """Every slip in a mapping gives file, line, key, and what was expected."""
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        mapping(text)
    assert str(caught.value).startswith("gateway.yaml:")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$.a.b[0]", 1),
        ("$.a.b[-1]", 2),
        ("$['a']['b'][1]", 2),
        ("$.nothing", MISSING),
        ("$.nothing ?? $.a.c", "x"),
        ("$.null ?? $.a.c", "x"),
        ("$.null", None),
        ("$.a.b[9]", MISSING),
        ("$$.top", 5),
        ("a", {"b": [1, 2], "c": "x"}),
        ("$.姓名", "李"),
    ],
)
def test_paths(path: str, found: Any) -> None:
    """A path finds what it names, an alternative steps in for what is missing or null."""
    record = {"a": {"b": [1, 2], "c": "x"}, "null": None, "姓名": "李"}
    assert compile_path(path).first(record, {"top": 5}) == found


def test_a_path_may_name_every_item() -> None:
    """`[*]` finds all items of a list, also of lists in lists."""
    message = {"r": [{"i": [1, 2]}, {"i": [3]}]}
    assert compile_path("$.r[*].i[*]").every(message, message) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("$.op == 'Rec'", True),
        ('$.op != "Rec"', False),
        ("$.n >= 3 and $.n < 4", True),
        ("$.n in [1, 2, 3]", True),
        ("$.op in ['a', 'b'] or $.flag", True),
        ("not $.flag", False),
        ("($.n == 1 or $.n == 3) and $.flag == true", True),
        ("$.missing == 'x'", False),
        ("$.missing != 'x'", False),
        ("$.op < 5", False),
        ("$.a ?? $.n == 3", True),
        ("$.missing == null", False),
        ("$.none == null", True),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    """Conditions compare, combine, and are false for what is not there."""
    record = {"op": "Rec", "n": 3, "flag": True, "none": None}
    assert compile_condition(text)(record, record) is holds


@pytest.mark.parametrize(
    ("format_", "tz", "value", "time_ms"),
    [
        ("ms", None, 1763800000123, 1763800000123),
        ("s", None, 1763800000.5, 1763800000500),
        ("s", None, "1763800000", 1763800000000),
        ("us", None, 1763800000123456, 1763800000123),
        ("iso", None, "2025-11-22T08:26:40Z", 1763800000000),
        ("iso", "Asia/Shanghai", "2025-11-22T16:26:40.250", 1763800000250),
        ("iso", "Asia/Shanghai", "2025-11-22T09:26:40+01:00", 1763800000000),
        ("%d/%m/%Y %H:%M:%S", "Asia/Shanghai", "22/11/2025 16:26:40", 1763800000000),
    ],
)
def test_times_as_devices_write_them(format_: str, tz: str | None, value: Any, time_ms: int) -> None:
    """Epochs in three units, ISO with and without zone, and patterns: all become UTC milliseconds."""
    assert compile_time(format_, tz)(value) == time_ms


@pytest.mark.parametrize(
    ("format_", "value"), [("ms", 1763800000123456), ("s", True), ("s", -5), ("iso", "2025-11-22 16:26"), ("iso", 12)]
)
def test_a_time_that_is_none(format_: str, value: Any) -> None:
    """A time in the wrong unit, or local time without a zone, is refused rather than guessed."""
    with pytest.raises(ValueError, match=r"."):
        compile_time(format_, None)(value)


def test_topics_capture_whole_levels() -> None:
    """A captured name is one level, never more."""
    pattern = compile_topic("face/{sn}/rec")
    assert pattern.filters == ("face/+/rec",)
    assert pattern.capture("face/F1/rec") == {"sn": "F1"}
    assert pattern.capture("face/F1/x/rec") is None
    assert pattern.capture("face/F1/rec/ack") is None
