"""Why a signal is, or is not, in alarm: what each of its rules sees, and what it still waits for. Pure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from alarms.conditions import Conditions
from alarms.lanes import Lanes
from alarms.rows import RuleRow, StateTest
from alarms.signal_table import IS_USABLE, NEVER, SignalTable

REASONS: dict[str, dict[str, str]] = {
    "never_seen": {"en": "no sample has ever come", "zh": "从未收到数据"},
    "gateway_silent": {"en": "the gateway is silent: everything holds", "zh": "网关离线，状态保持"},
    "bad_quality": {"en": "the newest sample is not usable: the state holds", "zh": "最新数据无效，状态保持"},
    "stale": {"en": "the data have stopped: the state holds", "zh": "数据停止更新，状态保持"},
    "guard_off": {"en": "the guard does not hold: not judged as true", "zh": "防护条件不成立，不报警"},
    "on_delay": {"en": "true, the on delay is running", "zh": "条件成立，延时中"},
    "off_delay": {"en": "no longer true, the off delay or the minimum on is running", "zh": "条件已恢复，恢复延时中"},
    "deadband": {"en": "inside the limit but within the deadband: still true", "zh": "在回差范围内，仍成立"},
    "active": {"en": "in alarm", "zh": "报警中"},
    "normal": {"en": "normal", "zh": "正常"},
}


def explain_signal(key: str, table: SignalTable, lanes: Lanes) -> dict[str, Any]:
    """Return what is known of a signal; NaN becomes None."""
    number = table.find(key)
    if number < 0:
        return {"key": key, "is_known": False}
    gateway = int(table.gateway[number])
    time_ms = int(table.time_ms[number])
    lane = int(table.lane[number])
    measured_ms = int(lanes.complete_ms[lane]) if lane >= 0 else NEVER
    return {
        "key": key,
        "is_known": True,
        "value": _number(float(table.value[number])),
        "quality": int(table.quality[number]),
        "is_usable": bool(IS_USABLE[table.quality[number]]) and not math.isnan(table.value[number]),
        "time_ms": None if time_ms <= NEVER + 1 else time_ms,
        "measured_ms": None if measured_ms <= NEVER else measured_ms,
        "stale_after_ms": int(table.stale_ms[number]),
        "is_stale": _is_stale(number, table, lanes),
        "gateway": lanes.name(gateway),
        "is_gateway_silent": gateway >= 0 and lanes.states[gateway].is_silent,
    }


def explain_row(row: RuleRow, number: int, *, state: Conditions, table: SignalTable, lanes: Lanes) -> dict[str, Any]:
    """Return what a limit, state, count or logic row sees.

    Args:
        row: The row.
        number: Its number among the conditions' rows.
        state: The conditions.
        table: The signals.
        lanes: Watermarks.
    """
    conditions = [
        _condition(one, row, state=state, table=table, lanes=lanes)
        for one in range(state.m)
        if int(state.row[one]) == number
    ]
    return {
        "row": row.key,
        "rule": row.rule,
        "kind": row.kind,
        "version": row.version,
        "unit": row.unit,
        "is_active": state.row_level[number] != "-",
        "level": state.row_level[number].replace("-", ""),
        "transform": row.derived.how if row.derived is not None else "raw",
        "conditions": conditions,
    }


def _condition(one: int, row: RuleRow, *, state: Conditions, table: SignalTable, lanes: Lanes) -> dict[str, Any]:
    test, number = state.test[one], int(state.signal[one])
    cond, act, since_ms = bool(state.cond[one]), bool(state.act[one]), int(state.since[one])
    only = np.array([one])
    delay_ms = int(state.delay_ms(only, state.cond[only], state.since[only])[0])
    lane = int(table.lane[number])
    measured_ms = int(lanes.complete_ms[lane]) if lane >= 0 else NEVER
    left_ms = None
    if cond != act:
        left_ms = max(0, since_ms + delay_ms - measured_ms) if measured_ms > NEVER else delay_ms
    return {
        "level": state.level[one],
        "test": _words(test),
        "limit": _number(test.limit) if test.op <= 1 else None,
        "deadband": test.deadband,
        "value": _number(float(table.value[number])),
        "is_true": cond,
        "is_active": act,
        "since_ms": None if since_ms <= NEVER + 1 else since_ms,
        "delay_ms": delay_ms,
        "left_ms": left_ms,
        "guard": _guard(row.guard, one, state=state, table=table),
        "reason": _reason(one, state=state, table=table, lanes=lanes),
    }


def _guard(guard: StateTest | None, one: int, *, state: Conditions, table: SignalTable) -> dict[str, Any] | None:
    if guard is None:
        return None
    value = float(table.value[int(state.guard_signal[one])])
    return {"signal": guard.signal, "test": _words(guard), "value": _number(value), "holds": bool(state.guard[one] > 0)}


def _reason(one: int, *, state: Conditions, table: SignalTable, lanes: Lanes) -> str:
    number = int(state.signal[one])
    cond, act = bool(state.cond[one]), bool(state.act[one])
    gateway, value = int(table.gateway[number]), float(table.value[number])
    if table.time_ms[number] <= NEVER:
        return "never_seen"
    if gateway >= 0 and lanes.states[gateway].is_silent:
        return "gateway_silent"
    if not IS_USABLE[table.quality[number]] or math.isnan(value):
        return "bad_quality"
    if _is_stale(number, table, lanes):
        return "stale"
    if cond != act:
        return "on_delay" if cond else "off_delay"
    if state.hyst[one] > 0 and state.guard[one] <= 0:
        return "guard_off"
    if cond:
        return "deadband" if state.test[one].verdict(value) == 0 else "active"
    return "normal"


def _is_stale(number: int, table: SignalTable, lanes: Lanes) -> bool:
    """Whether its lane was measured on for longer than a sample lasts; the table's own column is as old as its tick."""
    lane = int(table.lane[number])
    return lane < 0 or bool(lanes.complete_ms[lane] > table.time_ms[number] + table.stale_ms[number])


def _words(test: StateTest) -> str:
    values = ", ".join(f"{value:g}" for value in test.values)
    told = (f"> {test.limit:g}", f"< {test.limit:g}", f"bits {test.mask}", f"in [{values}]", f"not in [{values}]")
    return told[test.op]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def lines(found: dict[str, Any], *, lang: str = "en") -> list[str]:
    """Return an explanation as lines for a terminal."""
    signal = found["signal"]
    if not signal["is_known"]:
        return [f"{signal['key']}: no rule and no gateway knows this signal"]
    result = [
        f"{signal['key']} = {_text(signal['value'])}   quality {signal['quality']}   "
        f"gateway {signal['gateway'] or 'none'}{' (silent)' if signal['is_gateway_silent'] else ''}"
        f"{'   STALE' if signal['is_stale'] else ''}"
    ]
    for row in found["rules"]:
        result.append("")
        verdict = f"IN ALARM {row['level']}".strip() if row["is_active"] else "not in alarm"
        result.append(f"{row['row']}  ({row['kind']}): {verdict}")
        for one in row.get("conditions", ()):
            unit = f" {row['unit']}" if row["unit"] else ""
            left = ""
            if one["left_ms"] is not None:
                left = f", {one['left_ms'] / 1000:g} s left of {one['delay_ms'] / 1000:g} s"
            what = "" if row["transform"] == "raw" else f"{row['transform']} "
            result.append(
                f"  {one['level'] or '-':2} {what}{_text(one['value'])}{unit} {one['test']}: "
                f"{REASONS[one['reason']][lang]}{left}"
            )
            if one["guard"] is not None:
                guard = one["guard"]
                holds = "holds" if guard["holds"] else "does not hold"
                result.append(f"     guard {guard['signal']} {guard['test']}: {holds} ({_text(guard['value'])})")
        if row.get("state"):
            result.append(f"     alarm {row['state']}" + (f", {', '.join(row['overlays'])}" if row["overlays"] else ""))
        for event in row.get("events", ()):
            who = f" by {event['user']}" if event["user"] else ""
            result.append(f"     {event['time']}  {event['kind']}{who}{'' if event['is_accepted'] else ' (rejected)'}")
    return result


def _text(value: float | None) -> str:
    return "no value" if value is None else f"{value:g}"
