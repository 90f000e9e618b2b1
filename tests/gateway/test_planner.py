"""Which requests read a device."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import Table
from gateway.model import Hole, Model, ModelSignal
from gateway.planner import Block, describe, halves, plan_reads, requests_per_second
from gateway.registers import Encoding


def signal(
    name: str, offset: int, type_: str = "u16", *, table: Table = Table.HOLDING, group: str = "fast"
) -> ModelSignal:
    return ModelSignal(name=name, table=table, offset=offset, encoding=Encoding(type=type_), group=group)


def model(
    *signals: ModelSignal, max_regs: int | None = None, max_gap: int | None = None, holes: tuple[Hole, ...] = ()
) -> Model:
    return Model(
        name="m",
        groups={"fast": 1.0, "slow": 30.0},
        signals={item.name: item for item in signals},
        max_regs=max_regs,
        max_gap=max_gap,
        holes=holes,
    )


def ranges(blocks: tuple[Block, ...]) -> list[tuple[int, int]]:
    return [(block.start, block.start + block.count - 1) for block in blocks]


@st.composite
def models(draw: st.DrawFn) -> Model:
    max_regs = draw(st.integers(4, 125))
    table_of = st.sampled_from([Table.HOLDING, Table.INPUT, Table.DISCRETE])
    signals = []
    for i in range(draw(st.integers(1, 40))):
        table = draw(table_of)
        type_ = "bit" if table.is_bits else draw(st.sampled_from(["u16", "f32", "u64"]))
        group = draw(st.sampled_from(["fast", "slow"]))
        signals.append(signal(f"s{i}", draw(st.integers(0, 400)), type_, table=table, group=group))
    holes = []
    for _ in range(draw(st.integers(0, 3))):
        first = draw(st.integers(0, 400))
        hole = (Table.HOLDING, first, first + draw(st.integers(0, 30)))
        if not any(s.table is hole[0] and s.offset <= hole[2] and s.last >= first for s in signals):
            holes.append(hole)
    return model(*signals, max_regs=max_regs, max_gap=draw(st.integers(0, 40)), holes=tuple(holes))


@given(models())
def test_every_signal_is_read_once(device: Model) -> None:
    """No signal is forgotten and none is read twice, each in its own table and group, inside its block."""
    blocks = plan_reads(device)
    assert sorted(item.name for block in blocks for item in block.signals) == sorted(device.signals)
    for block in blocks:
        for item in block.signals:
            assert (item.table, item.group) == (block.table, block.group)
            assert block.start <= item.offset
            assert item.last < block.start + block.count


@given(models())
def test_no_request_is_too_long_or_touches_a_hole(device: Model) -> None:
    """Devices that answer 60 registers at most, or crash at some of them, are never asked for more."""
    for block in plan_reads(device):
        limit = (device.max_regs or 0) * (16 if block.table.is_bits else 1)
        assert block.count <= limit
        for table, first, last in device.holes:
            assert block.table is not table or last < block.start or first >= block.start + block.count


@given(models())
def test_no_gap_is_wider_than_allowed(device: Model) -> None:
    """Registers nobody wants are read only where that saves a request."""
    for block in plan_reads(device):
        limit = (device.max_gap or 0) * (16 if block.table.is_bits else 1)
        end = block.start - 1
        for item in block.signals:
            assert item.offset - end - 1 <= limit
            end = max(end, item.last)


@given(models())
def test_a_refused_block_can_be_cut_down_to_single_registers(device: Model) -> None:
    """Halving goes on until one register is left, and loses no signal on the way."""
    todo = list(plan_reads(device))
    names: list[str] = []
    while todo:
        block = todo.pop()
        parts = halves(block)
        if parts is None:
            names += [item.name for item in block.signals]
            continue
        assert sum(len(part.signals) for part in parts) == len(block.signals)
        assert max(part.count for part in parts) < block.count
        todo += parts
    assert sorted(names) == sorted(device.signals)


def test_small_gaps_are_bridged() -> None:
    """Forty registers with a few unused ones are one request on TCP."""
    assert ranges(plan_reads(model(signal("a", 0), signal("b", 9), signal("c", 19)))) == [(0, 9), (19, 19)]


def test_a_serial_line_bridges_wider_gaps() -> None:
    """A request costs more than ten registers there."""
    device = model(signal("a", 0), signal("b", 15))
    assert len(plan_reads(device)) == 2
    assert len(plan_reads(device, link_kind="serial")) == 1


def test_a_refused_block_is_cut_at_its_gap() -> None:
    """The unused registers in between are the first suspects."""
    parts = halves(
        plan_reads(model(signal("a", 0), signal("b", 1), signal("c", 8), signal("d", 9), signal("e", 10)))[0]
    )
    assert parts is not None
    assert ranges(parts) == [(0, 1), (8, 10)]


def test_bits_of_one_register_stay_together() -> None:
    """A refused register cannot be cut into its bits."""
    block = plan_reads(model(signal("a", 5, "bit"), signal("b", 5, "bit")))[0]
    assert halves(block) is None


def test_the_plan_as_people_read_it() -> None:
    """`watchroom plan` names unit, function, registers, and how many of them are unused."""
    device = model(*(signal(f"s{i}", i) for i in range(0, 42) if i not in {7, 8, 30}), signal("slow", 50, group="slow"))
    assert list(describe(1, plan_reads(device))) == [
        "unit 1 FC3 0..41, 42 regs, 3 unused, every 1s, 39 signals",
        "unit 1 FC3 50..50, 1 regs, every 30s, 1 signals",
    ]
    assert requests_per_second(plan_reads(device)) == 1 + 1 / 30
