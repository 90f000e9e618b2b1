"""Commands for whoever connects devices: ``models``, ``scan``, ``import``, ``test-mapping``."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from watchroom.durations import seconds
from watchroom.errors import ConfigError
from watchroom.settings import Settings

if TYPE_CHECKING:
    from gateway.config import LinkConfig

SubParsers = argparse._SubParsersAction
AddCommand = Callable[..., argparse.ArgumentParser]
SettingsOf = Callable[[argparse.Namespace], Settings]
MAX_SAMPLE = 1 << 20


def add_field_tools(commands: SubParsers[argparse.ArgumentParser], add: AddCommand, settings_of: SettingsOf) -> None:
    """Add the commands to the command line.

    Args:
        commands: Where to add them.
        add: Makes one command, see ``watchroom.cli._command``.
        settings_of: Reads the settings of a call, starts the log.
    """

    def called(handler: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
        def run(options: argparse.Namespace) -> int:
            settings_of(options)
            return handler(options)

        return run

    models = add(commands, "models", called(_models), "list the device models, or show one")
    models.add_argument("name", nargs="?", help="show this one: its signals, source and trust")
    models.add_argument("--site", type=Path, help="also the models of this site folder")
    scan = add(commands, "scan", called(_scan), "look who answers on a line or behind a converter")
    scan.add_argument("target", help="host, host:port, or a serial device such as /dev/ttyUSB0")
    scan.add_argument("--units", default="1-32", help="unit ids to ask (default 1-32)")
    scan.add_argument("--ports", help="look which of these ports of the host are open, for example 502,4001-4008")
    scan.add_argument("--framing", choices=["tcp", "rtu", "ascii"], help="default: tcp on hosts, rtu on serial lines")
    scan.add_argument("--baud", type=int, default=9600)
    scan.add_argument("--parity", choices=["N", "E", "O"], default="N")
    scan.add_argument("--timeout", default="300ms", help="wait for each answer (default 300ms)")
    bring = add(commands, "import", called(_import), "make a gateway file and models of another program's list")
    bring.add_argument("file", type=Path, help="modbus.json of ThingsBoard, Telegraf .toml or .conf, .csv or .xlsx")
    bring.add_argument("--folder", type=Path, default=Path(), help="site folder to write into (default: here)")
    bring.add_argument("--gateway", default="imported", help="id of the gateway (default: imported)")
    bring.add_argument("--site", required=True, help="id of the site")
    bring.add_argument("--host", default="", help="host[:port] for point lists that name none")
    bring.add_argument("--base", type=int, choices=[0, 1], default=0, help="what the list's first register is called")
    sample = add(commands, "test-mapping", called(_test_mapping), "try a reader's mapping on a sample message")
    sample.add_argument("file", type=Path, help="gateway file")
    sample.add_argument("sample", type=Path, help="file with one message")
    sample.add_argument("--topic", required=True, help="topic the message comes on")


def _models(options: argparse.Namespace) -> int:
    from gateway.check import library_for
    from gateway.model import ModelLibrary
    from gateway.planner import describe, plan_reads

    library = library_for(options.site) if options.site else ModelLibrary()
    if options.name:
        model = library.model(options.name)
        print(f"{model.name}: {model.title.get('en', '')}  {model.title.get('zh', '')}")
        print(f"file: {library.path(options.name)}\nsource: {model.source.strip()}\ntrust: {model.trust.strip()}")
        for signal in model.signals.values():
            place = "calculated" if signal.table is None else f"{signal.table}:{signal.offset} {signal.encoding.type}"
            written = f", {signal.write} can be written" if signal.write else ""
            print(f"  {signal.name:<28} {place:<20} {signal.unit}{written}")
        print("\n".join(f"  {line}" for line in describe(1, plan_reads(model))))
        return 0
    for name in library.names():
        model = library.model(name)
        trust = model.trust.split(".")[0].split(";")[0].split("(")[0].strip()
        print(f"{name:<24} {len(model.signals):>5} signals  {model.title.get('en', ''):<44} {trust[:40]}")
    return 0


def _scan(options: argparse.Namespace) -> int:
    from gateway.scan import MAX_PORTS, parse_numbers, scan_ports, scan_units

    timeout_s = _timeout_s(options.timeout)
    if options.ports:
        ports = parse_numbers(options.ports, low=1, high=65535, most=MAX_PORTS)
        found = asyncio.run(scan_ports(options.target.partition(":")[0], ports, timeout_s=max(timeout_s, 1.0)))
        print(f"open: {', '.join(map(str, found)) or 'none'} of {len(ports)} ports")
        return 0
    units = parse_numbers(options.units, low=0, high=255, most=256)
    print(f"asking {len(units)} units, at most {2 * len(units) * timeout_s:.0f} s")
    link = _link_of(options, timeout_s)
    there = asyncio.run(scan_units(link, units, say=lambda line: print(line, flush=True)))
    print(f"{len(there)} of {len(units)} units answer")
    return 0


def _timeout_s(text: str) -> float:
    try:
        timeout_s = seconds(text)
    except ValueError as exc:
        raise ConfigError(str(exc), key="--timeout") from exc
    if not 0.01 <= timeout_s <= 10:
        raise ConfigError("between 10ms and 10s", key="--timeout")
    return timeout_s


def _link_of(options: argparse.Namespace, timeout_s: float) -> LinkConfig:
    from gateway.config import LinkConfig

    if options.target.startswith("/"):
        if options.framing == "tcp":
            raise ConfigError("a serial line carries rtu or ascii telegrams", key="--framing")
        return LinkConfig(
            name="scan", kind="serial", host=options.target, framing=options.framing or "rtu", timeout_s=timeout_s,
            baud=options.baud, parity=options.parity,
        )  # fmt: skip
    host, _, port = options.target.partition(":")
    if not (port or "502").isdigit():
        raise ConfigError(f"{options.target!r} is not host:port")
    return LinkConfig(
        name="scan", kind="tcp", host=host, port=int(port or 502), framing=options.framing or "tcp", timeout_s=timeout_s
    )


def _import(options: argparse.Namespace) -> int:
    from gateway.check import check_gateway, library_for
    from gateway.imports import read_devices
    from gateway.points import write

    devices = read_devices(options.file, host=options.host, base=options.base)
    files = write(devices, options.folder, gateway=options.gateway, site=options.site)
    for path in files:
        print(f"wrote {path}")
    problems = check_gateway(files[-1], models=library_for(options.folder))
    for problem in problems:
        print(problem)
    if not problems:
        print(f"next: watchroom plan {files[-1]}, then watchroom probe {files[-1]} DEVICE")
    return 2 if problems else 0


def _test_mapping(options: argparse.Namespace) -> int:
    from gateway.check import library_for
    from gateway.config import load_gateway
    from gateway.mappingtry import try_mapping

    config = load_gateway(options.file, models=library_for(options.file.parent.parent))
    try:
        payload = options.sample.read_bytes()[:MAX_SAMPLE]
    except OSError as exc:
        raise ConfigError(f"cannot read the sample: {exc.strerror}", path=options.sample) from exc
    for line in try_mapping(config, options.topic, payload, arrived_ms=time.time_ns() // 1_000_000):
        print(line)
    return 0
