"""The site's gateway files and models, against what is simulated."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alarms.templates import load_templates
from gateway.config import load_gateway, signals_of
from gateway.model import Model, ModelLibrary
from gateway.registers import decode
from simulators.compound import Compound
from simulators.devices import RegisterImage, load_fleet
from simulators.replay import replays_of
from tests.simulators.places import spruce_court
from watchroom.centre import CENTRE, CENTRE_TYPE
from watchroom.errors import ConfigError
from watchroom.signals import Kind, Lane, split_key

SITE = spruce_court()
MODELS = ModelLibrary()
SHIPPED = (
    "booster_plc",
    "eastron_sdm630",
    "elevator_controller",
    "fire_panel_zone",
    "recorded_machine",
    "sump_controller",
    "tank_level",
    "vfd_atv312",
)
GATEWAYS = {path.stem: load_gateway(path, models=MODELS) for path in SITE.gateway_files}


def values_of(compound: Compound) -> dict[str, float]:
    for replay in replays_of(SITE):
        compound.values.update(replay.values(0.0))
    return compound.values


def test_twelve_gateways_of_one_site() -> None:
    """Twelve gateways, each in a file of its name, of this site, marked as simulated, with its own equipment."""
    assert len(GATEWAYS) == 12
    for name, config in GATEWAYS.items():
        assert (config.id, config.site, config.is_simulated) == (name, SITE.id, True)
        assert config.own_equipment is not None
        equipment = SITE.equipment[config.own_equipment]
        assert equipment.type == "gateway"
        assert (equipment.model_extra or {})["gateway"] == name


def test_no_signal_twice_and_none_of_nobody() -> None:
    """Every key of every gateway belongs to equipment of the site, and no two gateways report the same."""
    keys = [spec.key for config in GATEWAYS.values() for spec in signals_of(config)]
    assert len(keys) == len(set(keys))
    # the centre reports on itself
    assert {split_key(key)[0] for key in keys} == set(SITE.equipment) - {CENTRE}


@pytest.mark.parametrize(
    "equipment", sorted(key for key, item in SITE.equipment.items() if item.type not in {"gateway", CENTRE_TYPE})
)
def test_equipment_reports_what_its_template_knows(equipment: str) -> None:
    """No signal that its template does not know; kinds and units agree; every door at least contact, lock, button."""
    item = SITE.equipment[equipment]
    known = load_templates()[item.type].signals_of(item)
    specs = {
        split_key(spec.key)[1]: spec
        for config in GATEWAYS.values()
        for spec in signals_of(config)
        if split_key(spec.key)[0] == equipment
    }
    assert set(specs) <= set(known)
    assert len(specs) > 0
    assert item.type != "door" or {"contact", "exit_button", "lock", "tamper"} <= set(specs)
    for name, spec in specs.items():
        info = known[name]
        assert (spec.kind, spec.unit) == (info.kind, info.unit), name
        for value, text in spec.texts.items():
            assert info.texts[int(value)].model_dump() == text, name


@pytest.mark.parametrize("name", SHIPPED)
def test_models_say_where_they_come_from(name: str) -> None:
    """Every shipped model names its source and how far to trust it; none claims a test on hardware."""
    model = MODELS.model(name)
    assert len(model.source) > 20
    assert len(model.trust) > 20
    assert "tested on hardware" not in model.trust.replace("Not tested on hardware", "")
    assert set(SHIPPED) <= set(MODELS.names())


def test_safety_bits_are_urgent() -> None:
    """Trapped, alarm button, fault codes, fire and floats travel on the urgent lane, polled twice a second."""
    urgent = {
        "elevator_controller": ["trapped", "alarm_button", "fault_code", "door", "floor"],
        "fire_panel_zone": ["fire", "supervisory", "fault", "mains_fault", "zone1_state", "zone16_state"],
        "sump_controller": ["float_high"],
        "vfd_atv312": ["fault", "state"],
        "tank_level": ["overflow"],
    }
    for name, signals in urgent.items():
        model = MODELS.model(name)
        for signal in signals:
            assert model.signals[signal].lane is Lane.URGENT
            assert model.signals[signal].kind is Kind.STATE
            assert model.groups[model.signals[signal].group] <= 0.5


def test_drive_state_is_read_from_the_status_word() -> None:
    """ETA 0x0637 (operation enabled) is running, 0x0238 (fault) is fault, 0x0250 (switch on disabled) is stopped."""
    state = MODELS.model("vfd_atv312").signals["state"]
    words = [decode([word], state.encoding) for word in (0x0637, 0x0238, 0x0250)]
    assert words == [1.0, 2.0, 0.0]


def test_zones_are_packed_four_to_a_register() -> None:
    """Zone z stands in register 6002 + (z-1)//4, four bits from ((z-1)%4)*4, as the public map says."""
    model = MODELS.model("fire_panel_zone")
    for zone in range(1, 17):
        signal = model.signals[f"zone{zone}_state"]
        assert signal.offset == 6002 + (zone - 1) // 4
        assert signal.encoding.bit == ((zone - 1) % 4) * 4


def test_meter_registers_follow_their_source() -> None:
    """Offsets of the meter as in mbmd's sdm.go: all input registers, two each."""
    model = MODELS.model("eastron_sdm630")
    offsets = {name: signal.offset for name, signal in model.signals.items()}
    assert offsets["voltage_a"] == 0
    assert offsets["current_c"] == 10
    assert (offsets["power"], offsets["power_factor"], offsets["frequency"], offsets["energy"]) == (52, 62, 70, 72)
    assert all(str(signal.table) == "input" for signal in model.signals.values())


def registers_hold(image: RegisterImage, model: Model, values: dict[str, float]) -> None:
    """Fail unless the registers decode to the values, within half a step of each encoding."""
    for signal in model.polled:
        assert signal.table is not None
        words = image.read(signal.table, signal.offset, signal.encoding.registers)
        value = values[image.device.key(signal.name)]
        step = abs(signal.encoding.scale) if signal.encoding.type not in {"f32", "f64"} else 0.0
        assert decode(words, signal.encoding) == pytest.approx(value, abs=step / 2 + 1e-9, rel=1e-6), signal.name


def test_registers_hold_what_the_physics_says() -> None:
    """For every device of the site: read back through the gateway's decoder, each register is the simulated value."""
    compound = Compound(SITE, seed=2, time_of_day_s=30_000.0)
    fleet = load_fleet(SITE, values_of(compound), {})
    images = [image for endpoint in fleet.endpoints for image in endpoint.units.values()]
    assert len(images) == 28
    for _ in range(3):
        for image in images:
            registers_hold(image, image.device.model, compound.values)
        compound.step(7.0)


@settings(deadline=None)
@given(st.data())
def test_any_state_survives_its_registers(data: st.DataObject) -> None:
    """Every state, also -1 for a basement and every bit pattern of a zone, comes back as it was written."""
    config = GATEWAYS["bldg-5-6"]
    device = config.devices["lift-5-2"]
    values = {device.key(signal.name): 0.0 for signal in device.model.polled}
    floor = data.draw(st.integers(-3, 60).filter(bool))
    door, direction = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))
    bits = {name: float(data.draw(st.booleans())) for name in ("trapped", "alarm_button", "moving", "door_zone")}
    values |= {device.key(name): value for name, value in bits.items()}
    values |= {"EL-5-2/floor": float(floor), "EL-5-2/door": float(door), "EL-5-2/direction": float(direction)}
    registers_hold(RegisterImage(device, values), device.model, values)


def test_only_what_exists_can_be_read() -> None:
    """Registers far from any signal do not exist, as on a real device."""
    device = GATEWAYS["pump-house"].devices["drive-1"]
    image = RegisterImage(device, {})
    (table,) = image.spans
    assert image.runs(table) == [(3201, 3204), (8606, 8606)]
    assert image.missing == ["WP-01/p1_state", "WP-01/p1_frequency", "WP-01/p1_current", "WP-01/p1_fault"]


def test_damaged_recording_reads_as_no_value() -> None:
    """NaN goes out as the float's NaN, and as the 'invalid' code where a register has one."""
    device = GATEWAYS["pump-house"].devices["booster"]
    values = {device.key(signal.name): 1.0 for signal in device.model.polled}
    values["WP-01/outlet_pressure"] = math.nan
    image = RegisterImage(device, values)
    signal = device.model.signals["outlet_pressure"]
    assert signal.table is not None
    assert image.read(signal.table, signal.offset, 1) == [0x7FFF]
    assert np.isnan(values["WP-01/outlet_pressure"])


def test_signal_without_simulator_is_told(tmp_path: Path) -> None:
    """A gateway file that asks for more than is simulated names the file, the device and the signal."""
    compound = Compound(SITE, seed=1, time_of_day_s=0.0)
    with pytest.raises(ConfigError, match=r"plant-recorded.yaml: devices.machine: nothing simulates MC-01/temperature"):
        load_fleet(SITE, compound.values, {})


def test_addresses_can_be_moved() -> None:
    """Ports that are taken are replaced by the map; the rest stays as written."""
    compound = Compound(SITE, seed=1, time_of_day_s=0.0)
    fleet = load_fleet(SITE, values_of(compound), {"127.0.0.1:15020": "127.0.0.2:25020"})
    places = {(endpoint.host, endpoint.port) for endpoint in fleet.endpoints}
    assert ("127.0.0.2", 25020) in places
    assert ("127.0.0.1", 15020) not in places
    assert ("127.0.0.1", 15021) in places
    assert fleet.door_gateways["DR-7-1"] == "bldg-7-8"
    assert len(fleet.door_gateways) == 22
