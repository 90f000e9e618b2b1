"""A receiver as a process of its own, to be killed: `python -m tests.ingest.receiver_process PORT FOLDER`."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from prometheus_client import CollectorRegistry

from ingest.receive import Receiver
from tests.ingest.sender import SITE
from watchroom.births import BirthStore
from watchroom.clock import utc_ms
from watchroom.disk import RealDisk
from watchroom.journal import FileJournal
from watchroom.settings import MqttSettings


def main() -> None:
    """Receive until SIGTERM."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    journal = FileJournal(folder / "journal", segment_bytes=200_000)
    receiver = Receiver(
        SITE,
        journal,
        births=BirthStore(folder / "births"),
        settings=MqttSettings(port=port),
        folder=folder / "ingest",
        disk=RealDisk(),
        now_ms=utc_ms,
        registry=CollectorRegistry(),
        free_share=lambda: 1.0,
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    receiver.run(stop)
    journal.close()


if __name__ == "__main__":
    main()
