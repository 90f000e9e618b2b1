"""The numbers of GB/T 26875.3-2011 in words: states, operations, systems and parts. Pure.

Source: tables of public parsers of the standard; a number that is not here is shown as a number.
"""

from __future__ import annotations

from collections.abc import Mapping

SYSTEM_BITS: Mapping[int, str] = {
    1: "fire",
    2: "fault",
    3: "disabled",
    4: "supervisory",
    5: "started",
    6: "feedback",
    7: "delayed",
    8: "mains_fault",
    9: "battery_fault",
    10: "bus_fault",
    11: "manual",
    12: "config_changed",
    13: "reset",
}
PART_BITS: Mapping[int, str] = {
    1: "fire",
    2: "fault",
    3: "disabled",
    4: "supervisory",
    5: "started",
    6: "feedback",
    7: "delayed",
    8: "power_fault",
}
TRANSMITTER_BITS: Mapping[int, str] = {
    1: "fire",
    2: "fault",
    3: "mains_fault",
    4: "battery_fault",
    5: "centre_fault",
    6: "line_fault",
}
PANEL_OPERATIONS: Mapping[int, str] = {
    0: "reset",
    1: "silence",
    2: "manual_alarm",
    3: "cleared",
    4: "self_test",
    5: "confirm",
    6: "test",
}
TRANSMITTER_OPERATIONS: Mapping[int, str] = {**PANEL_OPERATIONS, 5: "duty_answer"}

STATES_ZH: Mapping[str, str] = {
    "fire": "火警",
    "pre_alarm": "预警",
    "fault": "故障",
    "disabled": "屏蔽",
    "supervisory": "监管",
    "started": "启动",
    "feedback": "反馈",
    "delayed": "延时",
    "power_fault": "电源故障",
    "mains_fault": "主电故障",
    "battery_fault": "备电故障",
    "bus_fault": "总线故障",
    "manual": "手动状态",
    "config_changed": "配置改变",
    "reset": "复位",
    "centre_fault": "与监控中心通信故障",
    "line_fault": "监测连接线路故障",
    "normal": "正常",
}
OPERATIONS_ZH: Mapping[str, str] = {
    "reset": "复位",
    "silence": "消音",
    "manual_alarm": "手动报警",
    "cleared": "警情消除",
    "self_test": "自检",
    "confirm": "确认",
    "test": "测试",
    "duty_answer": "查岗应答",
    "duty_check": "查岗",
}
SYSTEMS_ZH: Mapping[int, str] = {
    0: "通用",
    1: "火灾报警系统",
    10: "消防联动控制器",
    11: "消火栓系统",
    12: "自动喷水灭火系统",
    13: "气体灭火系统",
    14: "水喷雾灭火系统（泵启动方式）",
    15: "水喷雾灭火系统（压力容器启动方式）",
    16: "泡沫灭火系统",
    17: "干粉灭火系统",
    18: "防烟排烟系统",
    19: "防火门及卷帘系统",
    20: "消防电梯",
    21: "消防应急广播",
    22: "消防应急照明和疏散指示系统",
    23: "消防电源",
    24: "消防电话",
}
PARTS_ZH: Mapping[int, str] = {
    1: "火灾报警控制器",
    10: "可燃气体探测器",
    16: "电气火灾监控报警器",
    21: "探测回路",
    22: "火灾显示盘",
    23: "手动火灾报警按钮",
    24: "消火栓按钮",
    25: "火灾探测器",
    30: "感温火灾探测器",
    31: "点型感温火灾探测器",
    40: "感烟火灾探测器",
    42: "点型光电感烟火灾探测器",
    43: "线型光束感烟火灾探测器",
    44: "吸气式感烟火灾探测器",
    50: "复合式火灾探测器",
    61: "紫外火焰探测器",
    62: "红外火焰探测器",
    84: "模块",
    85: "输入模块",
    86: "输出模块",
    87: "输入/输出模块",
    88: "中继模块",
    91: "消防水泵",
    92: "消防水箱",
    95: "喷淋泵",
    96: "水流指示器",
    97: "信号阀",
    98: "报警阀",
    99: "压力开关",
    102: "防火门",
    103: "防火阀",
    111: "防烟排烟风机",
    117: "防火卷帘",
    118: "防火门监控器",
    121: "警报装置",
}


def words(flags: int, bits: Mapping[int, str]) -> tuple[str, ...]:
    """Return the names of the set bits, lowest first; bits without a name are left out."""
    return tuple(name for bit, name in bits.items() if flags >> bit & 1)


def states_text(states: tuple[str, ...]) -> str:
    """Return states in Chinese as a panel prints them."""
    return "、".join(STATES_ZH.get(state, state) for state in states) or STATES_ZH["normal"]


def system_text(system: int) -> str:
    """Return what a fire system is called."""
    return SYSTEMS_ZH.get(system, f"系统类型 {system}")


def part_type_text(part_type: int) -> str:
    """Return what a kind of part is called; empty for 0, which says nothing."""
    return PARTS_ZH.get(part_type, f"部件类型 {part_type}") if part_type else ""
