"""One device on the bench, for training and commissioning: ``python -m simulators.bench isapi HOST:PORT``.

transmitter HOST:PORT   a GB/T 26875.3 transmitter that dials in, or listens with --listen
isapi HOST:PORT         a Hikvision terminal that pushes
zkteco HOST:PORT        a ZKTeco reader that pushes
printer                 a printing fire panel on a pseudo terminal; its name is shown
frigate HOST:PORT       a video recorder on a broker
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from zoneinfo import ZoneInfo

import aiomqtt

from simulators.frigate import Frigate
from simulators.printer import Printer
from simulators.push_readers import IsapiReader, ZktecoReader
from simulators.transmitter import FAULT, FIRE, NORMAL, SHIELDED, Transmitter

ZONE = ZoneInfo("Asia/Shanghai")
Device = tuple[Callable[[], Awaitable[None]], Callable[[], int]]
PLACES = ("3号楼2单元5层烟感", "地下车库B区感温", "消防水泵房手报", "1号楼大堂烟感")


def now_ms() -> int:
    """Return the wall clock, UTC ms."""
    return time.time_ns() // 1_000_000


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", choices=["transmitter", "isapi", "zkteco", "printer", "frigate"])
    parser.add_argument("where", nargs="?", default="127.0.0.1:8090", metavar="HOST:PORT")
    parser.add_argument("--mode", choices=["healthy", "failing", "lying"], default="healthy")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="between two events")
    parser.add_argument("--count", type=int, default=0, help="events before it ends; 0 for ever")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--listen", action="store_true", help="transmitter: wait for the centre to dial")
    parser.add_argument("--id", default="", help="device id or serial number of a reader")
    return parser.parse_args(arguments)


async def run(options: argparse.Namespace) -> int:
    """Run one device until its events are answered, or for ever; return how many happened."""
    host, _, port = options.where.rpartition(":")
    chance = random.Random(options.seed)
    async with contextlib.AsyncExitStack() as stack:
        happen, waiting = await _device(options, host, int(port), chance, stack)
        done = 0
        while not options.count or done < options.count:
            await happen()
            done += 1
            await asyncio.sleep(options.every)
        while True:
            if not waiting():
                return done
            await asyncio.sleep(0.05)


async def _device(
    options: argparse.Namespace, host: str, port: int, chance: random.Random, stack: contextlib.AsyncExitStack
) -> Device:
    """Build and start the device; return what lets something happen, and how many records wait."""
    if options.device == "printer":
        printer = Printer(mode=options.mode, seed=options.seed)
        stack.callback(printer.close)
        print(f"printing on {printer.open_terminal()}", flush=True)

        async def print_() -> None:
            words = chance.choice(["火警", "火警恢复", "故障", "故障恢复", "屏蔽", "解除屏蔽"])
            printer.happen(words, loop=chance.randint(1, 4), number=chance.randint(1, 127), place=chance.choice(PLACES))

        return print_, lambda: 0
    if options.device == "frigate":
        client = await stack.enter_async_context(aiomqtt.Client(host, port))
        frigate = Frigate(client, now_ms=now_ms, mode=options.mode, seed=options.seed)
        await frigate.begin()
        stack.push_async_callback(frigate.end)

        async def see() -> None:
            await frigate.face("gate", f"Resident {chance.randint(1, 50)}")
            await frigate.plate("garage", f"京A{chance.randint(10000, 99999)}")

        return see, lambda: 0
    if options.device == "transmitter":
        transmitter = Transmitter(zone=ZONE, now_ms=now_ms, mode=options.mode, seed=options.seed)
        if options.listen:
            server = await asyncio.start_server(transmitter.talk, host, port)
            stack.callback(server.close)
        else:
            _keep(stack, asyncio.create_task(transmitter.connect(host, port)))

        async def tell() -> None:
            state = chance.choice([FIRE, NORMAL, FAULT, SHIELDED, NORMAL])
            transmitter.part(chance.randint(1, 4), chance.randint(1, 127), state=state, text=chance.choice(PLACES))

        return tell, lambda: transmitter.waiting
    kind: type[IsapiReader | ZktecoReader] = IsapiReader if options.device == "isapi" else ZktecoReader
    reader = kind(host, port, zone=ZONE, now_ms=now_ms, mode=options.mode, seed=options.seed)
    reader.device = options.id or reader.device
    _keep(stack, asyncio.create_task(reader.run()))

    async def read() -> None:
        reader.read(person=str(chance.randint(1000, 1050)))

    return read, lambda: reader.waiting


def _keep(stack: contextlib.AsyncExitStack, task: asyncio.Task[None]) -> None:
    """End a task with the device."""

    async def end() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(parse()))
