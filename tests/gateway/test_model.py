"""Device model files, as an integrator writes and misspells them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.addresses import Address, Table, parse_address
from gateway.model import Model, ModelLibrary, compile_model
from gateway.modelfile import named_booleans
from gateway.registers import LARGEST_EXACT
from watchroom.errors import ConfigError
from watchroom.signals import Kind, Lane
from watchroom.yamlfile import parse_yaml

PUMP = """\
model: pump_vfd
base: 0
order: CDAB
groups: {fast: 1s, slow: 30s}
params: {rated_a: 20}
signals:
  run:        {at: "holding:0.0", type: bit, class: state, true: 运行, false: 停止}
  fault:      {at: "holding:0.1", type: bit, class: alarm}
  fault_code: {at: "holding:1", type: u16, enum: {0: ok, 3: overcurrent, 7: {zh: 干转, en: dry run}}}
  pressure:   {at: "input:10", type: i16, scale: 0.001, unit: MPa, group: fast,
               deadband: 0.002, range: [0, 1.6], invalid: [0x7FFF, 0xFFFF]}
  current:    {at: "input:12", type: f32, unit: A, group: fast, range: [0, 50], deadband: 1%}
  energy:     {at: "input:40", type: u32, order: ABCD, scale: 0.1, unit: kWh, group: slow, counter: true}
  load:       {expr: "current / rated_a * 100", unit: "%"}
  reset:      {at: "coil:5", type: bit, write: pulse 500ms, confirm: true}
workarounds: {max_regs: 60, max_gap: 4, holes: ["input:20-39"]}
"""


def model(text: str, name: str = "pump_vfd") -> Model:
    return compile_model(named_booleans(parse_yaml(text, Path(f"{name}.yaml"))))


def small(signals: str, top: str = "") -> str:
    return f"model: pump_vfd\nbase: 0\n{top}signals:\n  {signals}\n"


def test_the_example_of_the_handbook() -> None:
    """Every line of the example means what it says."""
    pump = model(PUMP)
    assert [*pump.groups.items()] == [("fast", 1.0), ("slow", 30.0)]
    assert (pump.max_regs, pump.max_gap, pump.holes) == (60, 4, ((Table.INPUT, 20, 39),))
    run, fault, code = (pump.signals[name] for name in ("run", "fault", "fault_code"))
    assert (run.kind, run.lane, run.texts["1"]) == (Kind.STATE, Lane.URGENT, {"zh": "运行", "en": "运行"})
    assert (fault.kind, fault.lane) == (Kind.STATE, Lane.URGENT)
    assert code.texts["7"] == {"zh": "干转", "en": "dry run"}
    pressure = pump.signals["pressure"]
    assert (pressure.kind, pressure.lane, pressure.unit) == (Kind.MEASURE, Lane.TELEMETRY, "MPa")
    assert (pressure.low, pressure.high, pressure.deadband) == (0, 1.6, 0.002)


def test_a_code_may_be_written_as_the_word_or_as_the_number() -> None:
    """0xFFFF of a signed register is the -1 it decodes to."""
    assert model(PUMP).signals["pressure"].invalid == (32767, -1)


def test_a_deadband_in_percent_is_of_the_range() -> None:
    """1 % of 0 to 50 A is half an ampere."""
    assert model(PUMP).signals["current"].deadband == 0.5


def test_orders_come_from_the_model_unless_a_signal_says_so() -> None:
    """The model's order is for wide values; a signal can differ."""
    pump = model(PUMP)
    orders = {name: pump.signals[name].encoding.order for name in ("pressure", "current", "energy")}
    assert orders == {"pressure": "AB", "current": "CDAB", "energy": "ABCD"}


def test_a_counter_says_where_it_rolls_over() -> None:
    """A 32-bit counter of tenths rolls over at 2**32 tenths; a 64-bit one where floats end."""
    assert model(PUMP).signals["energy"].modulus == pytest.approx(429496729.6)
    wide = model(small("total: {at: 'holding:0', type: u64, counter: true}")).signals["total"]
    assert (wide.modulus, wide.encoding.wrap) == (LARGEST_EXACT, LARGEST_EXACT)


def test_a_reset_button_is_not_polled() -> None:
    """What is only commanded is neither read nor announced."""
    pump = model(PUMP)
    reset = pump.signals["reset"]
    assert (reset.write, reset.pulse_s, reset.confirm) == ("pulse", 0.5, True)
    assert "reset" not in [signal.name for signal in pump.polled]


def test_a_calculated_signal_has_no_address() -> None:
    """It names signals and parameters; the device file may change a parameter."""
    load = model(PUMP).signals["load"]
    assert load.table is None
    assert load.expression is not None
    assert load.expression({"current": 10.0, "rated_a": 20.0}) == 50.0


def test_a_fire_panel_in_one_line() -> None:
    """Sixteen zones of four bits each are one entry."""
    panel = model(
        small("""'zone{z}_state': {at: "holding:{6002+(z-1)//4}.{((z-1)%4)*4}", type: u4, repeat: {z: 1..16}}""")
    )
    zone = panel.signals["zone6_state"]
    assert (len(panel.signals), zone.offset, zone.encoding.bit, zone.encoding.bits) == (16, 6003, 4, 4)


def test_a_bitfield_is_a_signal_a_bit() -> None:
    """A status word with named bits gives those signals."""
    panel = model(small("status: {at: 'input:0', type: bitfield, bits: {0: fire, 2: fault}, class: alarm}"))
    assert [(signal.name, signal.encoding.bit, signal.lane) for signal in panel.signals.values()] == [
        ("fire", 0, Lane.URGENT),
        ("fault", 2, Lane.URGENT),
    ]


def test_a_map_translates_numbers_or_names_them() -> None:
    """Numbers give other numbers, texts give the number a name."""
    lift = model(small("mode: {at: 'holding:0', map: {5: 1, 6: 2}, enum: {1: normal}}"))
    assert lift.signals["mode"].mapping == ((5.0, 1.0), (6.0, 2.0))
    floor = model(small("floor: {at: 'holding:0', type: i16, map: {-1: B1, 0: G}}")).signals["floor"]
    assert (floor.mapping, floor.texts["-1"]["zh"]) == ((), "B1")


@pytest.mark.parametrize(
    ("text", "base", "place"),
    [
        ("holding:10", 0, Address(table=Table.HOLDING, offset=10)),
        ("holding:10", 1, Address(table=Table.HOLDING, offset=9)),
        ("holding:0x0A", 0, Address(table=Table.HOLDING, offset=10)),
        ("40011", 0, Address(table=Table.HOLDING, offset=10)),
        ("40011", 1, Address(table=Table.HOLDING, offset=10)),
        ("400011", 0, Address(table=Table.HOLDING, offset=10)),
        ("30001.4", 1, Address(table=Table.INPUT, offset=0, bit=4)),
        ("00006", 1, Address(table=Table.COIL, offset=5)),
        ("input:3.4", 0, Address(table=Table.INPUT, offset=3, bit=4)),
        ("holding:102.0-3", 0, Address(table=Table.HOLDING, offset=102, bit=0, bits=4)),
    ],
)
def test_addresses_in_both_styles(text: str, base: int, place: Address) -> None:
    """Offsets as on the wire, counted from 1, or in the old 40001 style, all mean the same register."""
    assert parse_address(text, base) == place


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("holding:0", r"offset -1 on the wire; offsets go from 0 to 65535 \(base is 1\)"),
        ("register:5", "'register' is not a table: holding, input, coil or discrete"),
        ("holding 5", "is not an address such as holding:10"),
        ("holding:5.16", "bits 16-16 are not inside one register"),
        ("coil:5.1", "a coil is one bit already: write coil:5"),
    ],
)
def test_an_address_that_is_none(text: str, says: str) -> None:
    """The sentence says what an address looks like."""
    with pytest.raises(ValueError, match=says):
        parse_address(text, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            small("p: {at: 'input:1', scael: 0.1}"),
            "pump_vfd.yaml:4: signals.p.scael: unknown key (did you mean 'scale'?)",
        ),
        (small("p: {at: 'input:1', type: f23}"), "signals.p.type: there is no type 'f23' (did you mean 'f32'?)"),
        (
            small("p: {at: 'input:1', type: f32, order: AB}"),
            "signals.p.order: f32 has the byte orders ABCD, CDAB, BADC, DCBA, not 'AB'",
        ),
        (small("p: {at: 'inptu:1'}"), "signals.p.at: 'inptu' is not a table"),
        (small("p: {at: 'input:65535', type: f32}"), "signals.p.at: a f32 at input:65535 ends after the last register"),
        (small("p: {at: 'input:1', type: u4}"), "signals.p.at: say which bits of the register: input:1.0"),
        (small("p: {at: 'input:1.3', type: u16}"), "signals.p.type: input:1.3 is a bit; a u16 takes whole registers"),
        (small("p: {at: 'input:1.0-3', type: u5}"), "signals.p.type: input:1.0-3 is 4 bits wide, u5 is 5"),
        (small("p: {at: 'coil:1', type: u16}"), "signals.p.type: a coil holds one bit, not u16"),
        (small("p: {unit: A}"), "signals.p: a signal needs either at: or expr:"),
        (small("p: {at: 'input:1', scale: 0}"), "signals.p.scale: scale cannot be 0"),
        (
            small("p: {at: 'input:1', group: fats}", "groups: {fast: 1s}\n"),
            "signals.p.group: there is no group 'fats' (did you mean 'fast'?)",
        ),
        (small("p: {at: 'input:1'}", "groups: {fast: 5ms}\n"), "groups.fast: the shortest polling period is 20ms"),
        (
            small("p: {at: 'input:1', deadband: 1%}"),
            "signals.p.deadband: a percentage is of the range, and there is none",
        ),
        (
            small("p: {at: 'input:1', deadband: much}"),
            "signals.p.deadband: 'much' is neither a number nor a percentage",
        ),
        (small("p: {at: 'input:1', range: [5, 1]}"), "signals.p.range: the lower end of a range comes first"),
        (small("Pressure: {at: 'input:1'}"), "'Pressure' is not a signal name (lower case letters, digits and _)"),
        (
            small("p: {at: 'input:25'}", "workarounds: {holes: ['input:20-39']}\n"),
            "signals.p: lies in the hole input:20-39, which is never read",
        ),
        (
            small("p: {at: 'input:25'}", "workarounds: {holes: ['input:40-30']}\n"),
            "workarounds.holes.0: 'input:40-30' is not a range inside",
        ),
        (small("p: {expr: 'q * 2'}\n  power: {at: 'input:1'}"), "signals.p.expr: 'q' is no read signal or parameter"),
        (small("p: {expr: 'powr * 2'}\n  power: {at: 'input:1'}"), "(did you mean 'power'?)"),
        (
            small("'p{n}': {at: 'input:{n}', repeat: {n: 1-3}}"),
            "signals.p{n}.repeat.n: '1-3' is not a span such as 1..8",
        ),
        (small("'p{n}': {at: 'input:1', repeat: {n: 1..300, m: 1..300}}"), "a model has at most 20000 signals"),
        (small("p: {at: 'input:1', type: bitfield}"), "signals.p: a bitfield needs at: and bits:"),
        (small("p: {at: 'input:1', type: bitfield, bits: {0: q}}\n  q: {at: 'input:2'}"), "two signals are called 'q'"),
        (
            small("p: {at: 'input:1', map: {1: 2, 2: two}}"),
            "signals.p.map: a map gives either numbers or texts, not both",
        ),
        (small("p: {at: 'input:1'}\n  p: {at: 'input:2'}"), "pump_vfd.yaml:5: signals.p: this key stands here twice"),
        (
            small("p: {at: 'input:1', type: f32}", "workarounds: {max_regs: 1}\n"),
            "workarounds.max_regs: 'p' alone takes 2 registers",
        ),
        (
            "model: other\nbase: 0\nsignals: {p: {at: 'input:1'}}",
            "the model is called 'other' but the file 'pump_vfd.yaml'",
        ),
        ("model: pump_vfd\nsignals: {p: {at: 'input:1'}}", "base: this key is missing"),
        ("model: pump_vfd\nbase: 2\nsignals: {p: {at: 'input:1'}}", "pump_vfd.yaml:2: base: "),
    ],
)
def test_at_two_in_the_morning(text: str, says: str) -> None:
    """Every slip gives file, line, key, and what was expected."""
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        model(text)
    assert str(caught.value).startswith("pump_vfd.yaml:")


def test_an_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    """A misspelt model name is answered with the one that was meant."""
    (tmp_path / "pump_vfd.yaml").write_text(PUMP)
    library = ModelLibrary(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no model 'pump_vdf' .did you mean 'pump_vfd'"):
        library.model("pump_vdf")


def test_a_site_s_own_model_wins_over_the_package(tmp_path: Path) -> None:
    """An integrator can correct a shipped model without touching the package."""
    shipped = ModelLibrary().names()[0]
    (tmp_path / f"{shipped}.yaml").write_text(f"model: {shipped}\nbase: 0\nsignals: {{only_mine: {{at: 'input:1'}}}}\n")
    assert [*ModelLibrary(tmp_path).model(shipped).signals] == ["only_mine"]


def test_one_device_differs_from_its_model(tmp_path: Path) -> None:
    """`set:` changes single values of one device; everything is checked again."""
    (tmp_path / "pump_vfd.yaml").write_text(PUMP)
    library = ModelLibrary(tmp_path)
    changed = library.model(
        "pump_vfd", overrides={"pressure.range": [0, 1.0], "groups.fast": "100ms"}, params={"rated_a": 30}
    )
    assert (changed.signals["pressure"].high, changed.groups["fast"], changed.params) == (1.0, 0.1, {"rated_a": 30})
    assert library.model("pump_vfd").signals["pressure"].high == 1.6
    with pytest.raises(ValueError, match=r"has no signal 'presure' .did you mean 'pressure'"):
        library.model("pump_vfd", overrides={"presure.range": [0, 1]})
    with pytest.raises(ValueError, match=r"signals.pressure.rang: unknown key .did you mean 'range'"):
        library.model("pump_vfd", overrides={"pressure.rang": [0, 1]})
    with pytest.raises(ValueError, match=r"has no parameter 'rated' .known: rated_a"):
        library.model("pump_vfd", params={"rated": 1})


@pytest.mark.parametrize("name", ModelLibrary().names())
def test_every_shipped_model_compiles_and_says_where_it_comes_from(name: str) -> None:
    """Public register maps contradict each other: a model without source and trust is not shipped."""
    shipped = ModelLibrary().model(name)
    assert shipped.source
    assert shipped.trust
