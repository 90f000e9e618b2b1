"""The usual Python way, for comparison: aiomqtt, one JSON message a sample, one INSERT a batch, QoS 1.

Sender and receiver are a process each: ``python -m benchmarks.json_chain PORT FOLDER SECONDS`` sends as fast as the
broker confirms, stores in SQLite, and prints how many samples a second were stored.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import aiomqtt

from benchmarks.load import key_of

SIGNALS = 10_000
BATCH = 500


async def _send(port: int, seconds: float) -> None:
    source, until = random.Random(1), time.monotonic() + seconds
    async with aiomqtt.Client("127.0.0.1", port, identifier="json-sender", max_inflight_messages=200) as client:
        client.pending_calls_threshold = 1000  # or it warns of every burst
        number = 0
        while time.monotonic() < until:
            burst = []
            for _ in range(100):
                number += 1
                sample = {"time": time.time(), "value": source.gauss(0, 1), "quality": "good"}
                burst.append(client.publish(f"json/{key_of(number % SIGNALS)}", json.dumps(sample), qos=1))
            await asyncio.gather(*burst)


def _sender(port: int, seconds: float) -> None:
    asyncio.run(_send(port, seconds))


async def _receive(port: int, folder: Path, seconds: float) -> float:
    store = sqlite3.connect(folder / "json.sqlite")
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("CREATE TABLE sample (key TEXT, time REAL, value REAL, quality TEXT)")
    rows: list[tuple[str, float, float, str]] = []
    stored, outside, begun = 0, 0, 0.0
    async with aiomqtt.Client("127.0.0.1", port, identifier="json-receiver") as client:
        await client.subscribe("json/#", qos=1)
        sender = get_context("spawn").Process(target=_sender, args=(port, seconds))
        sender.start()
        messages = aiter(client.messages)
        while True:
            try:
                async with asyncio.timeout(20 if not begun else 2):
                    message = await anext(messages)
            except TimeoutError:
                break
            begun = begun or time.monotonic()
            content = json.loads(message.payload)
            outside += not -50 < content["value"] < 50
            rows.append((str(message.topic), content["time"], content["value"], content["quality"]))
            if len(rows) >= BATCH:
                store.executemany("INSERT INTO sample VALUES (?, ?, ?, ?)", rows)
                store.commit()
                stored, rows, last = stored + len(rows), [], time.monotonic()
        sender.join()
    store.close()
    return stored / (last - begun) if stored else 0.0


def main() -> None:
    """Measure."""
    port, folder, seconds = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    print(json.dumps({"samples_per_s": asyncio.run(_receive(port, folder, seconds))}))


if __name__ == "__main__":
    main()
