"""A small plant for tests: rows, births and real frames, written into journal records by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from alarms.rows import RuleRow
from alarms.rules import RuleSet
from watchroom.births import Birth, BirthStore
from watchroom.frames import FLAG_HEARTBEAT, FLAG_SNAPSHOT, Event, Header, encode_events, encode_samples
from watchroom.journal import Record
from watchroom.signals import Kind, Lane, SignalSpec

SITE = "test-site"
EPOCH = 77
T0 = 1_763_800_000_000


def signal(key: str, *, lane: Lane = Lane.TELEMETRY, max_silence_s: float = 60.0) -> SignalSpec:
    """One signal; the alias is given by `Plant`."""
    return SignalSpec(alias=0, key=key, kind=Kind.MEASURE, lane=lane, max_silence_s=max_silence_s)


@dataclass
class _Lane:
    head: int = 0
    complete_ms: int = T0


@dataclass
class Plant:
    """Writes records as a real gateway would; times in ms after T0.

    Attributes:
        gateways: Gateway id -> its signals.
        records: Everything written so far.
    """

    folder: Path
    gateways: dict[str, Sequence[SignalSpec]]
    records: list[Record] = field(default_factory=list)
    now: int = 0
    flags: int = 0
    clock_gen: int = 1
    base_ms: int = T0

    def __post_init__(self) -> None:
        self.births = BirthStore(self.folder)
        self._alias: dict[str, tuple[str, int, Lane]] = {}
        self._births: dict[str, Birth] = {}
        self._epoch = dict.fromkeys(self.gateways, EPOCH)
        self._seq = dict.fromkeys(self.gateways, 0)
        self._lanes: dict[tuple[str, int], _Lane] = {}
        for name, specs in self.gateways.items():
            numbered = tuple(
                SignalSpec(alias=i, key=s.key, kind=s.kind, lane=s.lane, max_silence_s=s.max_silence_s)
                for i, s in enumerate(specs)
            )
            for spec in numbered:
                self._alias[spec.key] = (name, spec.alias, spec.lane)
            birth = Birth(gateway=name, epoch=EPOCH, schema=1, time_ms=T0, heartbeat_s=1, version="1", signals=numbered)
            self.births.put(SITE, birth.to_json())
            self._births[name] = birth

    def renew(self, gateway: str, *, epoch: int) -> None:
        """Give a gateway a new outbox: other epoch, numbers and chains from the start."""
        self.births.put(SITE, replace(self._births[gateway], epoch=epoch).to_json())
        self._epoch[gateway], self._seq[gateway] = epoch, 0
        for lane in (0, 1):
            self._lanes.pop((gateway, lane), None)

    def _append(self, gateway: str, payload: bytes) -> Record:
        record = Record(len(self.records), T0 + self.now, gateway, payload)
        self.records.append(record)
        return record

    def _header(self, gateway: str, lane: int, complete: int, *, flags: int = 0, beat: bool = False) -> Header:
        state = self._lanes.setdefault((gateway, lane), _Lane())
        state.complete_ms = max(state.complete_ms, T0 + complete)
        prev = 0 if flags & FLAG_SNAPSHOT else state.head
        if not beat:
            self._seq[gateway] += 1
            state.head = self._seq[gateway]
        return Header(
            kind="D",
            lane=lane,
            flags=flags | self.flags | (FLAG_HEARTBEAT if beat else 0),
            epoch=self._epoch[gateway],
            seq=0 if beat else self._seq[gateway],
            prev=prev,
            base_ms=self.base_ms,
            complete_ms=state.complete_ms if self.clock_gen == 1 else T0 + complete,
            schema=1,
            clock_gen=self.clock_gen,
        )

    def samples(
        self,
        *rows: tuple[str, int, float] | tuple[str, int, float, int],
        complete: int | None = None,
        snapshot: bool = False,
        arrived: int | None = None,
    ) -> Record:
        """Append one frame of (key, time, value[, quality]); all keys of one gateway and lane.

        The frame claims to be complete up to its newest sample unless told otherwise; it arrives then, too.
        """
        gateway, _, lane = self._alias[rows[0][0]]
        newest = max(row[1] for row in rows)
        self.now = max(self.now, newest) if arrived is None else arrived
        header = self._header(
            gateway, int(lane), newest if complete is None else complete, flags=FLAG_SNAPSHOT if snapshot else 0
        )
        payload = encode_samples(
            header,
            alias=[self._alias[row[0]][1] for row in rows],
            time_ms=[T0 + row[1] for row in rows],
            value=[row[2] for row in rows],
            quality=[row[3] if len(row) > 3 else 0 for row in rows],
        )
        return self._append(gateway, payload)

    def beat(self, gateway: str, time: int, *, lanes: Sequence[int] = (0, 1)) -> None:
        """Append heartbeats: everything up to a time was measured."""
        self.now = max(self.now, time)
        for lane in lanes:
            header = self._header(gateway, lane, time, beat=True)
            self._append(gateway, encode_samples(header, alias=[], time_ms=[], value=[], quality=[]))

    def tick(self, time: int) -> Record:
        """Append a tick of the centre's clock."""
        self.now = max(self.now, time)
        return self._append("", b"")

    def run(self, start: int, end: int, *, step: int = 1000, silent: Sequence[str] = ()) -> None:
        """Let time pass: ticks, and heartbeats of every gateway that is not silent."""
        for time in range(start, end + 1, step):
            for gateway in self.gateways:
                if gateway not in silent:
                    self.beat(gateway, time)
            self.tick(time)

    def event(
        self,
        gateway: str,
        equipment: str,
        time: int,
        *,
        seen: int | None = None,
        kind: str = "access",
        **fields: object,
    ) -> Record:
        """Append one event frame on the urgent lane."""
        seen = time if seen is None else seen
        self.now = max(self.now, seen)
        header = self._header(gateway, 0, seen)
        event = Event(
            id=f"e{len(self.records)}",
            kind=kind,
            equipment=equipment,
            time_ms=T0 + time,
            seen_ms=T0 + seen,
            fields=dict(fields),
        )
        return self._append(gateway, encode_events(header, [event]))


def rules(*rows: RuleRow, **more: object) -> RuleSet:
    """A rule set of hand-made rows."""
    return RuleSet(rows=tuple(rows), **more)  # type: ignore[arg-type]
