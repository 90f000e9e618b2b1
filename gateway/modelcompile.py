"""Compiles a device model file, and says where it is wrong. Pure."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from gateway.addresses import Address, parse_address, parse_range
from gateway.devicemodel import Hole, Model, ModelSignal
from gateway.eventlog import LogField, LogSource, TextSource
from gateway.expression import compile_expression, fill
from gateway.modelfile import FieldEntry, ModelFile, SignalEntry
from gateway.registers import LARGEST_EXACT, Encoding, known_types, order_for, width_of
from watchroom.durations import seconds
from watchroom.signals import SIGNAL_NAME, Kind, Lane
from watchroom.yamlfile import Text, YamlFile

MAX_SIGNALS = 20_000
_SPAN = re.compile(r"\s*(-?\d+)\s*\.\.\s*(-?\d+)\s*")


def compile_model(file: YamlFile) -> Model:
    """Return the model of one parsed file.

    Raises:
        ConfigError: With file, line, key and what was expected.
    """
    entry: ModelFile = file.parse(ModelFile)
    if entry.model != file.path.stem:
        raise file.error(("model",), f"the model is called {entry.model!r} but the file {file.path.name!r}")
    signals: dict[str, ModelSignal] = {}
    logs: list[LogSource | TextSource] = []
    for name, signal_entry in entry.signals.items():
        if signal_entry.type == "log" or _is_text(signal_entry):
            logs.append(_log(file, entry, name, signal_entry))
            continue
        for signal in _expand(file, entry, name, signal_entry):
            if signal.name in signals:
                raise file.error(("signals", name), f"two signals are called {signal.name!r}")
            if len(signals) >= MAX_SIGNALS:
                raise file.error(("signals", name, "repeat"), f"a model has at most {MAX_SIGNALS} signals")
            signals[signal.name] = signal
    model = Model(
        name=entry.model,
        groups=entry.groups,
        signals=signals,
        max_regs=entry.workarounds.max_regs,
        max_gap=entry.workarounds.max_gap,
        holes=tuple(_hole(file, entry, i) for i in range(len(entry.workarounds.holes))),
        params=entry.params,
        source=entry.source,
        trust=entry.trust,
        title={"zh": entry.name.zh, "en": entry.name.en} if entry.name else {},
        is_fire=entry.purpose == "fire",
        write_multiple=entry.workarounds.write_multiple,
        logs=tuple(logs),
    )
    _check_writes(file, entry)
    _check_groups(file, entry)
    _check_workarounds(file, model)
    return _with_expressions(file, entry, model)


def _expand(file: YamlFile, entry: ModelFile, name: str, signal: SignalEntry) -> Iterator[ModelSignal]:
    """Yield the signals that one entry stands for: one, a repeated family, or the bits of a bitfield."""
    where = ("signals", name)
    for values in _combinations(file, where, signal.repeat):
        try:
            full_name = fill(name, values)
            at = None if signal.at is None else fill(str(signal.at), values)
        except ValueError as exc:
            raise file.error((*where, "repeat" if signal.repeat else "at"), str(exc)) from exc
        if not SIGNAL_NAME.fullmatch(full_name):
            raise file.error(where, f"{full_name!r} is not a signal name", hint="lower case letters, digits and _")
        if signal.type == "bitfield":
            yield from _bitfield(file, entry, (*where,), signal, at)
        else:
            yield _signal(file, entry, where, full_name, signal, at)


def _bitfield(
    file: YamlFile, entry: ModelFile, where: tuple[str, ...], signal: SignalEntry, at: str | None
) -> Iterator[ModelSignal]:
    if not signal.bits or at is None:
        raise file.error(where, "a bitfield needs at: and bits:", hint="bits: {0: fire, 2: fault}")
    for bit, name in signal.bits.items():
        if not SIGNAL_NAME.fullmatch(name):
            raise file.error(
                (*where, "bits", bit), f"{name!r} is not a signal name", hint="lower case letters, digits, _"
            )
        one = signal.model_copy(update={"type": "bit", "bits": {}})
        yield _signal(file, entry, where, name, one, f"{at}.{bit}")


def _combinations(file: YamlFile, where: tuple[str, ...], repeat: Mapping[str, str]) -> Iterator[dict[str, float]]:
    spans: list[range] = []
    for key, text in repeat.items():
        match = _SPAN.fullmatch(text)
        if match is None or int(match[1]) > int(match[2]):
            raise file.error((*where, "repeat", key), f"{text!r} is not a span such as 1..8")
        spans.append(range(int(match[1]), int(match[2]) + 1))
    if math.prod(len(span) for span in spans) > MAX_SIGNALS:
        raise file.error((*where, "repeat"), f"a model has at most {MAX_SIGNALS} signals")
    for numbers in itertools.product(*spans):
        yield dict(zip(repeat, numbers, strict=True))


def _signal(
    file: YamlFile, entry: ModelFile, where: tuple[str, ...], name: str, signal: SignalEntry, at: str | None
) -> ModelSignal:
    if (at is None) == (signal.expr is None):
        raise file.error(where, "a signal needs either at: or expr:", hint="at: holding:10, or expr: power / 630 * 100")
    address = None
    encoding = Encoding(type="f64")
    if at is not None:
        try:
            address = parse_address(at, entry.base)
        except ValueError as exc:
            raise file.error((*where, "at"), str(exc)) from exc
        encoding = _encoding(file, entry, where, signal, address)
    kind = _kind(signal, encoding)
    signal_class = signal.signal_class or ("state" if kind is Kind.STATE else "telemetry")
    low, high = signal.range or (-math.inf, math.inf)
    if low >= high:
        raise file.error((*where, "range"), "the lower end of a range comes first")
    return ModelSignal(
        name=name,
        table=address.table if address else None,
        offset=address.offset if address else 0,
        written=at or "",
        encoding=encoding,
        unit=signal.unit,
        kind=kind,
        lane=Lane.TELEMETRY if signal_class == "telemetry" else Lane.URGENT,
        urgency={"alarm": 1, "event": 1, "state": 2}.get(signal_class, 3),
        group=signal.group or next(iter(entry.groups)),
        deadband=_deadband(file, where, signal),
        low=low,
        high=high,
        invalid=tuple(_unsigned(code, encoding) for code in signal.invalid),
        mapping=tuple((float(raw), float(v)) for raw, v in signal.map.items() if isinstance(v, int | float)),
        texts=_texts(file, where, signal),
        modulus=_modulus(signal, encoding) if kind is Kind.COUNTER else None,
        max_silence_s=signal.max_silence,
        write="value" if signal.write is True else "pulse" if signal.write else "",
        pulse_s=0.0 if isinstance(signal.write, bool) else _pulse_s(file, where, signal.write),
        confirm=signal.confirm,
        roles=tuple(signal.roles),
        is_polled=not str(signal.write).startswith("pulse"),
    )


def _pulse_s(file: YamlFile, where: tuple[str, ...], text: str) -> float:
    word, _, length = text.strip().partition(" ")
    try:
        length_s = seconds(length)
    except ValueError as exc:
        raise file.error((*where, "write"), f"{text!r} is not true or a pulse", hint="write: pulse 500ms") from exc
    if word != "pulse" or not 0.01 <= length_s <= 60:
        raise file.error((*where, "write"), f"{text!r} is not a pulse of 10ms to 60s", hint="write: pulse 500ms")
    return length_s


def _check_writes(file: YamlFile, entry: ModelFile) -> None:
    for name, signal in entry.signals.items():
        where = ("signals", name, "write")
        if not signal.write:
            for key in ("confirm", "roles"):
                if getattr(signal, key):
                    raise file.error(("signals", name, key), "this is for what can be written", hint="write: true")
            continue
        if entry.purpose == "fire":
            raise file.error(where, "equipment of fire protection is never written")
        table = str(signal.at).partition(":")[0]
        if table in {"input", "discrete"} or re.fullmatch(r"[13]\d{4,5}(\..*)?", str(signal.at)):
            raise file.error(where, f"{signal.at} cannot be written", hint="coil: and holding: can")
        if signal.write is not True and (signal.type or "bit") != "bit":
            raise file.error(where, "a pulse is for a bit")


def _is_text(signal: SignalEntry) -> bool:
    return re.fullmatch(r"str\d+", signal.type or "") is not None


def _log(file: YamlFile, entry: ModelFile, name: str, signal: SignalEntry) -> LogSource | TextSource:
    """An event log or a text of the device."""
    where = ("signals", name)
    group = signal.group or next(iter(entry.groups))
    try:
        at = parse_address(str(signal.at), entry.base)
        if _is_text(signal):
            return TextSource(
                name=name,
                table=at.table,
                offset=at.offset,
                registers=int(str(signal.type)[3:]),
                is_swapped=signal.order == "BA",
                group=group,
            )
        if signal.record is None or signal.count_at is None:
            raise ValueError("a log needs count_at: and record:")
        counter = parse_address(signal.count_at, entry.base)
        ack = parse_address(signal.ack, entry.base) if signal.ack else None
        return LogSource(
            name=name,
            table=at.table,
            offset=at.offset,
            group=group,
            counter=(counter.table, counter.offset),
            ack=None if ack is None else (ack.table, ack.offset),
            registers=signal.record.regs,
            depth=signal.record.depth,
            zone=signal.record.zone,
            fields=tuple(_field(key, field) for key, field in signal.record.fields.items()),
        )
    except ValueError as exc:
        raise file.error(where, str(exc)) from exc


def _field(name: str, entry: str | FieldEntry) -> LogField:
    if isinstance(entry, str):
        return LogField(name=name, type=entry)
    texts = {value: text if isinstance(text, str) else text.en for value, text in entry.enum.items()}
    return LogField(name=name, type=entry.type, texts=texts, is_personal=entry.pii == "hash")


def _encoding(
    file: YamlFile, entry: ModelFile, where: tuple[str, ...], signal: SignalEntry, address: Address
) -> Encoding:
    """How the value stands at its address; type and order take their defaults from the address and the model."""
    one_bit = address.table.is_bits or address.bit is not None
    type_ = signal.type or (f"u{address.bits}" if address.bits > 1 else "bit" if one_bit else "u16")
    try:
        registers = width_of(type_)
    except ValueError as exc:
        near = difflib.get_close_matches(type_, known_types(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known_types())}, bitfield"
        raise file.error((*where, "type"), str(exc), hint=hint) from exc
    order = signal.order or order_for(entry.order, registers)
    wrap = 0
    if signal.counter and type_ in {"u64", "i64"}:
        wrap = LARGEST_EXACT if signal.modulus is None else round(signal.modulus / signal.scale)
    try:
        encoding = Encoding(
            type=type_, order=order, bit=address.bit or 0, scale=signal.scale, offset=signal.offset, wrap=wrap
        )
    except ValueError as exc:
        key = "order" if "orders" in str(exc) else "scale" if "scale" in str(exc) else "at"
        raise file.error((*where, key), str(exc)) from exc
    _check_bits(file, where, encoding, address)
    if address.offset + registers - 1 > 65535:
        raise file.error((*where, "at"), f"a {type_} at {address} ends after the last register")
    return encoding


def _check_bits(file: YamlFile, where: tuple[str, ...], encoding: Encoding, address: Address) -> None:
    if address.table.is_bits and encoding.type != "bit":
        raise file.error((*where, "type"), f"a {address.table} holds one bit, not {encoding.type}")
    if address.bits and address.bits != encoding.bits:
        raise file.error((*where, "type"), f"{address} is {address.bits} bits wide, {encoding.type} is {encoding.bits}")
    if address.bit is not None and not encoding.is_narrow and encoding.bits != address.bits:
        raise file.error((*where, "type"), f"{address} is a bit; a {encoding.type} takes whole registers")
    if address.bit is None and encoding.is_narrow and not address.table.is_bits:
        raise file.error(
            (*where, "at"), f"say which bits of the register: {address}.0", hint=f"type is {encoding.type}"
        )


def _kind(signal: SignalEntry, encoding: Encoding) -> Kind:
    if signal.kind:
        return Kind(signal.kind)
    if signal.counter:
        return Kind.COUNTER
    has_texts = bool(signal.enum or signal.when_true or signal.when_false or signal.map)
    if signal.signal_class == "state" or has_texts or (encoding.type == "bit" and signal.expr is None):
        return Kind.STATE
    return Kind.MEASURE


def _unsigned(code: float, encoding: Encoding) -> float:
    """An ``invalid`` code as the raw number it decodes to: -1 and 0xFFFF mean the same word."""
    low, high = encoding.raw_limits
    if math.isinf(high) or low <= code <= high:
        return code
    return code + 2.0**encoding.bits if code < low else code - 2.0**encoding.bits


def _deadband(file: YamlFile, where: tuple[str, ...], signal: SignalEntry) -> float:
    text = str(signal.deadband).strip()
    try:
        if not text.endswith("%"):
            number = float(text)
        elif signal.range is None:
            raise file.error((*where, "deadband"), "a percentage is of the range, and there is none", hint="add range:")
        else:
            number = float(text[:-1]) / 100 * (signal.range[1] - signal.range[0])
    except ValueError as exc:
        raise file.error((*where, "deadband"), f"{text!r} is neither a number nor a percentage") from exc
    if number < 0:
        raise file.error((*where, "deadband"), "a deadband cannot be negative")
    return number


def _texts(file: YamlFile, where: tuple[str, ...], signal: SignalEntry) -> dict[str, dict[str, str]]:
    texts: dict[int, str | Text] = dict(signal.enum)
    if signal.when_false is not None:
        texts[0] = signal.when_false
    if signal.when_true is not None:
        texts[1] = signal.when_true
    for raw, value in signal.map.items():
        if not isinstance(value, int | float):
            texts[raw] = value
    mixed = {isinstance(value, int | float) for value in signal.map.values()}
    if len(mixed) > 1:
        raise file.error((*where, "map"), "a map gives either numbers or texts, not both")
    return {
        str(int(value)): {"zh": text, "en": text} if isinstance(text, str) else {"zh": text.zh, "en": text.en}
        for value, text in texts.items()
    }


def _modulus(signal: SignalEntry, encoding: Encoding) -> float | None:
    if signal.modulus is not None:
        return signal.modulus
    if encoding.wrap:
        return encoding.wrap * encoding.scale
    _, high = encoding.raw_limits
    return None if math.isinf(high) else (high + 1) * encoding.scale


def _hole(file: YamlFile, entry: ModelFile, index: int) -> Hole:
    try:
        return parse_range(entry.workarounds.holes[index], entry.base)
    except ValueError as exc:
        raise file.error(("workarounds", "holes", index), str(exc)) from exc


def _check_groups(file: YamlFile, entry: ModelFile) -> None:
    for group, period_s in entry.groups.items():
        if period_s < 0.02:
            raise file.error(("groups", group), "the shortest polling period is 20ms")
    for name, signal in entry.signals.items():
        if signal.group is not None and signal.group not in entry.groups:
            near = difflib.get_close_matches(signal.group, entry.groups, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"groups: {', '.join(entry.groups)}"
            raise file.error(("signals", name, "group"), f"there is no group {signal.group!r}", hint=hint)


def _check_workarounds(file: YamlFile, model: Model) -> None:
    for signal in model.polled:
        registers = signal.encoding.registers if signal.table else 0
        if model.max_regs is not None and registers > model.max_regs:
            raise file.error(("workarounds", "max_regs"), f"{signal.name!r} alone takes {registers} registers")
        for table, first, last in model.holes:
            if signal.table is table and signal.offset <= last and signal.last >= first:
                raise file.error(
                    ("signals", signal.name), f"lies in the hole {table}:{first}-{last}, which is never read"
                )


def _with_expressions(file: YamlFile, entry: ModelFile, model: Model) -> Model:
    """The model with every ``expr`` compiled; they may name read signals and parameters."""
    words = {
        name: {text: float(value) for value, texts in signal.texts.items() for text in texts.values()}
        for name, signal in model.signals.items()
    }
    known = {signal.name for signal in model.polled if signal.table is not None} | model.params.keys()
    signals = dict(model.signals)
    for name, signal_entry in entry.signals.items():
        if signal_entry.expr is None:
            continue
        where = ("signals", name, "expr")
        try:
            expression = compile_expression(signal_entry.expr, words)
        except ValueError as exc:
            raise file.error(where, str(exc)) from exc
        for unknown in sorted(expression.names - known):
            near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.4)
            raise file.error(
                where, f"{unknown!r} is no read signal or parameter", hint=f"did you mean {near[0]!r}?" if near else ""
            )
        signals[name] = replace(signals[name], expression=expression)
    return replace(model, signals=signals)
