"""The bare chain that ``ingest`` is compared with: receive, append, sync, compare with limits, store, acknowledge.

As little as the task allows: no life cycle of alarms, no de-duplication, no births, no quarantine, no restart. One
thread for the link, one for everything else. Run as a process: ``python -m benchmarks.bare_chain PORT FOLDER``; ends
when standard input ends and prints what it stored.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from pathlib import Path

import duckdb
import numpy as np

from benchmarks.load import SITE, checksum
from watchroom.births import format_epoch
from watchroom.frames import SampleFrame, decode
from watchroom.mqtt import Message, MqttLink
from watchroom.settings import MqttSettings

STORE_SAMPLES = 200_000
LOW, HIGH = -50.0, 50.0


class Chain:
    """Everything of the chain.

    Args:
        port: Of the broker.
        folder: For log and store.
    """

    def __init__(self, port: int, folder: Path) -> None:
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._link = MqttLink(
            MqttSettings(port=port),
            "bare",
            manual_ack=True,
            receive_maximum=256,
            on_message=self._queue.put,
            on_up=lambda: self._link.subscribe(f"wr1/{SITE}/+/u", f"wr1/{SITE}/+/d"),
        )
        self._log = os.open(folder / "bare.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._store = duckdb.connect(str(folder / "bare.duckdb"))
        self._store.execute("CREATE TABLE sample (series UINTEGER, time_ms BIGINT, value DOUBLE, quality UTINYINT)")
        self._first: dict[str, int] = {}
        self._waiting: list[tuple[int, SampleFrame]] = []
        self._size = 0
        self.samples, self.checksum, self.outside = 0, 0, 0
        self.first_s = self.last_s = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        self._link.start()
        while not stop.is_set():
            messages = []
            try:
                messages.append(self._queue.get(timeout=0.1))
                while len(messages) < 512:
                    messages.append(self._queue.get_nowait())
            except queue.Empty:
                pass
            if messages:
                self._take(messages)
        begun = time.monotonic()
        self._flush()
        self.last_s += time.monotonic() - begun
        self._store.close()
        self._link.stop()

    def _take(self, messages: list[Message]) -> None:
        if not self.samples:
            self.first_s = time.monotonic()
        os.write(self._log, b"".join(message.payload for message in messages))
        os.fdatasync(self._log)
        upto: dict[str, tuple[int, int]] = {}
        for message in messages:
            gateway = message.topic.split("/")[2]
            frame = decode(message.payload)
            if frame.header.seq:
                upto[gateway] = (frame.header.epoch, frame.header.seq)
            if isinstance(frame, SampleFrame) and frame.header.n:
                self.outside += int(((frame.value < LOW) | (frame.value > HIGH)).sum())
                self.samples += frame.header.n
                self.checksum = (self.checksum + checksum(frame.value)) % (1 << 64)
                self._waiting.append((int(gateway.rpartition("-")[2]), frame))
                self._size += frame.header.n
            if message.qos:
                self._link.ack(message)
        for gateway, (epoch, seq) in upto.items():
            content = {"epoch": format_epoch(epoch), "upto": seq, "have": []}
            self._link.publish(f"wr1/{SITE}/{gateway}/ack", json.dumps(content).encode(), qos=1)
        if self._size >= STORE_SAMPLES:
            self._flush()
        if self.samples:
            self.last_s = time.monotonic()

    def _flush(self) -> None:
        if not self._waiting:
            return
        columns = {
            "series": np.concatenate([frame.alias + np.uint32(number << 16) for number, frame in self._waiting]),
            "time_ms": np.concatenate([frame.time_ms for _, frame in self._waiting]),
            "value": np.concatenate([frame.value for _, frame in self._waiting]),
            "quality": np.concatenate([frame.quality for _, frame in self._waiting]),
        }
        self._waiting, self._size = [], 0
        self._store.register("batch", columns)
        self._store.execute("INSERT INTO sample SELECT * FROM batch")
        self._store.unregister("batch")


def main() -> None:
    """Work until standard input ends."""
    chain, stop = Chain(int(sys.argv[1]), Path(sys.argv[2])), threading.Event()
    thread = threading.Thread(target=chain.run, args=(stop,))
    thread.start()
    sys.stdin.read()
    stop.set()
    thread.join()
    told = {"samples": chain.samples, "checksum": chain.checksum, "outside": chain.outside}
    print(json.dumps(told | {"seconds": chain.last_s - chain.first_s}))


if __name__ == "__main__":
    main()
