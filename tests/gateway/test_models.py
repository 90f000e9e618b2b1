"""Every model of the library against registers computed by hand, byte by byte, without our own encoder."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from gateway.addresses import Table
from gateway.decoder import BlockDecoder
from gateway.eventlog import LogSource, decode_record
from gateway.model import PACKAGE_MODELS, Model, ModelLibrary
from gateway.planner import plan_reads
from watchroom.signals import Quality
from watchroom.yamlfile import load_yaml

Registers = Mapping[int, bytes | int]


@dataclass(frozen=True)
class Sample:
    """What a device holds, and what a person reads from the maker's table.

    Attributes:
        table: ``holding``, ``input`` or ``discrete``.
        registers: Offset -> a 16-bit number, or the bytes from there on.
        values: Signal -> value; None for "no value".
    """

    table: str
    registers: Registers
    values: Mapping[str, float | None]
    params: Mapping[str, float] | None = None


def f32(value: float) -> bytes:
    return struct.pack(">f", value)


def s64(value: int) -> bytes:
    return struct.pack(">q", value)


LIFT: dict[int, bytes | int] = {
    0: 0b0000_0010_0010_1100,
    1: 1,
    3: 0xFFFF,
    4: 40,
    5: 1750,
    6: 305,
    8: bytes.fromhex("0001E240"),
}
LIFT_VALUES: dict[str, float | None] = {
    "trapped": 0, "alarm_button": 0, "moving": 1, "person_present": 1, "door_zone": 0, "direction": 1, "door": 2,
    "service_mode": 1, "floor": -1, "load_percent": 40, "speed": 1.75, "motor_temperature": 30.5, "runs": 123456,
}  # fmt: skip
SAMPLES: dict[str, list[Sample]] = {
    "abb_acs550": [
        Sample("holding", {0: 0x047F, 1: 10000, 3: 0x0100, 102: 402, 103: 123},
               {"control_word": 0x047F, "speed_ref": 50, "at_setpoint": 1, "frequency": 40.2, "current": 12.3}),
    ],
    "analog_4_20ma": [
        Sample("input", {0: 12000, 1: 4000, 2: 20000, 3: 3500},
               {"current1": 12, "value1": 5, "value2": 0, "value3": 100, "current4": 3.5}, {"low1": 0, "high1": 10}),
    ],
    "booster_plc": [
        Sample("holding", {0: 1, 1: 400, 2: 402, 3: 0x7FFF, 4: 123, 6: bytes.fromhex("000F1206")},
               {"mode": 1, "setpoint": 0.4, "outlet_pressure": 0.402, "inlet_pressure": None, "flow": 12.3,
                "energy": 98765.4}),
    ],
    "chint_dtsu666": [
        Sample("holding", {8198: f32(2315.0), 8204: f32(12340.0), 8210: f32(32170.0), 8234: f32(987.0),
                           8260: f32(5001.0), 4126: f32(1234.5), 4136: f32(1.25)},
               {"voltage_a": 231.5, "current_a": 12.34, "power": 3.217, "power_factor": 0.987, "frequency": 50.01,
                "energy": 1234.5, "energy_export": 1.25}),
    ],
    "door_controller": [
        Sample("discrete", {0: 1, 1: 0, 2: 0, 3: 1, 4: 0, 12: 1, 15: 1},
               {"contact1": 1, "exit_button1": 0, "tamper1": 0, "lock1": 1, "contact2": 0, "contact4": 1, "lock4": 1}),
    ],
    "dry_contact_8": [
        Sample("discrete", {0: 1, 3: 1, 7: 1}, {"contact1": 1, "contact2": 0, "contact4": 1, "contact8": 1}),
        Sample("coil", {1: 1}, {"relay1": 0, "relay2": 1}),
    ],
    "eastron_sdm120": [
        Sample("input", {0: f32(229.5), 6: f32(3.25), 12: f32(745.0), 30: f32(0.95), 70: f32(49.98), 72: f32(88.5)},
               {"voltage_a": 229.5, "current_a": 3.25, "power": 0.745, "power_factor": 0.95, "frequency": 49.98,
                "energy": 88.5}),
    ],
    "eastron_sdm630": [
        Sample("input", {0: f32(230.5), 6: f32(1.5), 52: f32(500000.0), 56: f32(512000.0), 62: f32(0.98),
                         70: f32(50.0), 72: f32(4096.0)},
               {"voltage_a": 230.5, "current_a": 1.5, "power": 500, "transformer_load": 51.2, "power_factor": 0.98,
                "frequency": 50, "energy": 4096}),
    ],
    "eastron_sdm72v2": [
        Sample("input", {4: f32(231.0), 10: f32(2.5), 16: f32(1500.0), 52: f32(4500.0), 76: f32(0.5), 342: f32(9.5)},
               {"voltage_c": 231, "current_c": 2.5, "power_c": 1.5, "power": 4.5, "energy_total": 9.5}),
    ],
    "elevator_controller": [Sample("input", LIFT | {2: 12}, LIFT_VALUES | {"fault_code": 12})],
    "elevator_gbt24476_a": [Sample("input", LIFT | {2: 14}, LIFT_VALUES | {"fault_code": 14})],
    "elevator_gbt24476_b": [Sample("input", LIFT | {2: 11}, LIFT_VALUES | {"fault_code": 11})],
    "elevator_gbt24476_c": [Sample("input", LIFT | {2: 41}, LIFT_VALUES | {"fault_code": 41})],
    "fire_panel_loops": [
        Sample("holding", {152: 0x0200, 242: 0x4018, 273: 0x1000, 242 + 7 * 32: 0x0002},
               {"loop1_short_a": 0, "loop2_short_a": 1, "loop2_open": 0, "l1_a1_state": 8, "l1_a2_state": 1,
                "l1_a3_state": 0, "l1_a4_state": 4, "l1_a128_state": 1, "l8_a1_state": 2}),
    ],
    "fire_panel_zone": [
        Sample("holding", {6000: 0b010001, 6002: 0x0081, 6005: 0x4000, 6010: 850, 6011: 0x7FFF},
               {"fire": 1, "supervisory": 0, "mains_fault": 1, "zone1_state": 1, "zone2_state": 8, "zone16_state": 4,
                "sprinkler_pressure": 0.85, "hydrant_pressure": None}),
    ],
    "grundfos_cim": [
        Sample("input", {200: (1 << 9) | (1 << 10), 203: 9, 205: 57, 300: 4510, 301: 123, 303: 2870, 304: 502,
                         311: bytes.fromhex("00000FA0"), 320: 31315, 321: 0xFFFF, 331: bytes.fromhex("00012345")},
               {"running": 1, "alarm": 1, "warning": 0, "operation_mode": 9, "alarm_code": 57, "head": 4.51,
                "flow": 12.3, "speed": 2870, "frequency": 50.2, "power": 4.0, "electronics_temperature": 40.0,
                "liquid_temperature": None, "energy": 0x12345}),
    ],
    "leak_rope": [Sample("input", {0: 1, 1: 123, 2: 500}, {"leak": 1, "rope_broken": 0, "leak_place": 12.3,
                                                         "rope_length": 50})],
    "recorded_machine": [Sample("holding", {0: f32(73.5)}, {"temperature": 73.5})],
    "schneider_iem3000": [
        Sample("holding", {2999: f32(1.5), 3027: f32(230.5), 3059: f32(12.25), 3109: f32(50.02),
                           3203: s64(123_456_789), 3207: s64(1000)},
               {"current_a": 1.5, "voltage_a": 230.5, "power": 12.25, "frequency": 50.02, "energy": 123456.789,
                "energy_export": 1}),
    ],
    "siemens_pac2200": [
        Sample("input", {1: f32(229.0), 13: f32(5.5), 46: f32(50.01), 65: f32(2500.0),
                         801: struct.pack(">d", 987_654_321.0)},
               {"voltage_a": 229, "current_a": 5.5, "frequency": 50.01, "power": 2.5, "energy": 987654.321}),
    ],
    "sump_controller": [
        Sample("input", {0: 0b1001, 1: 1234}, {"p1_state": 1, "p2_state": 2, "level": 1.234}),
        Sample("discrete", {0: 1}, {"float_high": 1}),
    ],
    "tank_level": [Sample("holding", {0: 1, 1: 655}, {"overflow": 1, "level": 65.5})],
    "techno_lift": [
        Sample("holding", {6: 0, 7: 1, 12: 1, 16: 1, 17: 1, 18: 0, 19: 0, 20: 1, 21: 7},
               {"mimo_error": 0, "fault": 1, "overload": 1, "moving": 1, "floor": 7, "direction": 1, "door": 0}),
    ],
    "temperature_humidity": [Sample("holding", {0: 553, 1: 0xFFCE}, {"humidity": 55.3, "temperature": -5})],
    "vfd_atv312": [
        Sample("holding", {3201: 0b0100, 3202: 0xFE0C, 3204: 85, 8606: 0x2310},
               {"state": 1, "frequency": -50, "current": 8.5, "fault": 0x2310}),
    ],
    "xintai_water_meter": [
        # the source's own sample: bytes 1E 85 0B 3F are 0.545
        Sample("holding", {5: bytes.fromhex("1E850B3F"), 7: 0x00AA, 28: 0b1001},
               {"flow": 0.545, "pipe": 0xAA, "valve_open": 1, "valve_closed": 0, "valve_fault": 0, "battery_low": 1}),
    ],
}  # fmt: skip


def image(registers: Registers) -> dict[int, int]:
    """Every register by its offset."""
    words: dict[int, int] = {}
    for offset, content in registers.items():
        if isinstance(content, int):
            words[offset] = content
        else:
            for i, word in enumerate(struct.unpack(f">{len(content) // 2}H", content)):
                words[offset + i] = word
    return words


def decoded(model: Model, sample: Sample) -> tuple[dict[str, float], dict[str, int]]:
    """All signals of one table, and the calculated ones that need nothing else."""
    words = image(sample.registers)
    values: dict[str, float] = {}
    quality: dict[str, int] = {}
    for block in plan_reads(model):
        if block.table is Table(sample.table) and block.signals:
            read = np.array([words.get(block.start + i, 0) for i in range(block.count)], dtype=np.uint16)
            found, codes = BlockDecoder(block.signals, block.start).decode(read)
            names = [signal.name for signal in block.signals]
            values.update(zip(names, found.tolist(), strict=True))
            quality.update(zip(names, codes.tolist(), strict=True))
    for signal in model.polled:
        known = {**model.params, **values}
        if signal.expression is not None and signal.expression.names <= known.keys():
            values[signal.name] = float(signal.expression(known))
    return values, quality


def test_there_are_twenty_models_and_a_sample_for_each() -> None:
    """A model without a sample is not in the library."""
    assert len(ModelLibrary().names()) >= 20
    assert set(SAMPLES) == set(ModelLibrary().names())


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_registers_become_the_values_a_person_reads(name: str) -> None:
    """Registers as the maker's table has them become the values with unit and sign."""
    for sample in SAMPLES[name]:
        model = ModelLibrary().model(name, params=sample.params)
        values, quality = decoded(model, sample)
        for signal, expected in sample.values.items():
            if expected is None:
                assert math.isnan(values[signal]), signal
                assert quality[signal] == Quality.INVALID, signal
            else:
                assert values[signal] == pytest.approx(expected, rel=1e-6), signal


@pytest.mark.parametrize("name", ModelLibrary().names())
def test_every_model_says_where_it_comes_from(name: str) -> None:
    """Source, trust and a name in both languages stand in each file; what we have not tested is not claimed."""
    model = ModelLibrary().model(name)
    assert len(model.source) > 10
    assert len(model.trust) > 10
    assert set(model.title) == {"zh", "en"}
    assert "tested on hardware" not in model.trust.lower().replace("not tested on hardware", "")


def test_faults_of_the_three_code_sets_differ_where_they_must() -> None:
    """Code 8 means different faults in the sets: whoever takes the wrong table reads the wrong fault."""
    texts = {s: ModelLibrary().model(f"elevator_gbt24476_{s}").signals["fault_code"].texts for s in "abc"}
    assert all(texts["a"][str(code)] == texts["b"][str(code)] == texts["c"][str(code)] for code in range(1, 8))
    assert texts["a"]["8"]["en"] == "door opened while running"
    assert texts["b"]["8"]["en"] == texts["c"]["8"]["en"] == "restart prevented"
    assert texts["b"]["11"]["en"] == "passengers trapped"
    assert texts["c"]["90"]["en"] == "alarm button"


def test_fire_models_cannot_be_written() -> None:
    """Watchroom observes fire protection and never drives it."""
    for name in ("fire_panel_zone", "fire_panel_loops"):
        model = ModelLibrary().model(name)
        assert model.is_fire
        assert not any(signal.write for signal in model.signals.values())


def test_a_record_of_the_door_controller() -> None:
    """Time, door and card of one record, in China's time."""
    (log,) = ModelLibrary().model("door_controller").logs
    assert isinstance(log, LogSource)
    words = np.array([0x1A0B, 0x160F, 0x1E2D, 2, 0x00BC, 0x614E], dtype=np.uint16)
    fields, time_ms = decode_record(log, words)
    assert fields == {"door": 2, "card": 12345678}
    assert time_ms == 1795332645000  # 2026-11-22 15:30:45 in Shanghai, 07:30:45 UTC


def test_files_are_named_after_their_models() -> None:
    """One file is one model; adding one is adding one file."""
    for path in PACKAGE_MODELS.glob("*.yaml"):
        assert load_yaml(path).data["model"] == path.stem
