"""From messages to the journal: what one commit takes in, and what it means once it is durable."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from ingest.aside import Aside, Waiting
from ingest.intake import check_content, check_header, loss_ranges
from ingest.ledger import Ledger
from ingest.quarantine import Quarantine
from ingest.sources import Source
from watchroom.births import ID, Birth, BirthStore, parse_epoch
from watchroom.centre import CENTRE_GATEWAY
from watchroom.errors import ContractError
from watchroom.frames import BirthFrame, EventFrame, Frame, Header, decode_body
from watchroom.intervals import IntervalSet, Range
from watchroom.journal import Journal
from watchroom.topics import Topic, parse_topic


class Batch:
    """Take messages in one by one, then `commit` them together.

    Every step before the commit may be repeated: births, quarantine and waiting frames are kept under names
    made from their content, and a frame enters the sets of received numbers only after the journal's sync.

    Args:
        site: Id of the site.
        journal: Where frames go; this object is its only writer.
        births: Gets every birth before its frame is journalled.
        ledger: What was received.
        aside: Frames that wait for their birth.
        quarantine: Messages that break the contract.
    """

    def __init__(
        self, site: str, journal: Journal, *, births: BirthStore, ledger: Ledger, aside: Aside, quarantine: Quarantine
    ) -> None:
        self._site, self._journal, self._births = site, journal, births
        self._ledger, self._aside, self._quarantine = ledger, aside, quarantine
        self.sources: dict[str, Source] = {}
        self._recent: dict[str, tuple[int, IntervalSet]] = {}
        self._needs_save = False
        self._clear()

    def _clear(self) -> None:
        self._taken: set[tuple[str, int, int]] = set()
        self._ranges: list[tuple[str, int, list[Range]]] = []
        self._heard: list[tuple[str, Header, int, bool]] = []
        self._released: list[Waiting] = []
        self._touched: dict[tuple[str, int], int] = {}
        self._repeated: Counter[str] = Counter()
        self._is_urgent = False
        self._is_outside = False

    @property
    def must_sync(self) -> bool:
        """Whether anything taken in is worth a sync of its own; heartbeats are not."""
        return self._is_urgent or self._is_outside or self._needs_save

    def source(self, gateway: str) -> Source:
        """Return what is known about a gateway."""
        found = self.sources.get(gateway)
        if found is None:
            found = self.sources[gateway] = Source()
        return found

    def recent(self, gateway: str, epoch: int) -> IntervalSet:
        """Return the numbers that came since `answered`, repetitions included."""
        known, numbers = self._recent.get(gateway, (epoch, IntervalSet()))
        return numbers if known == epoch else IntervalSet()

    def answered(self, gateway: str) -> None:
        """Say that a gateway was told what of its numbers is here."""
        self._recent.pop(gateway, None)

    def take(self, topic_text: str, payload: bytes, now_ms: int) -> None:
        """Take one message in.

        Raises:
            StoreError: If the disk refuses; the message was not taken.
        """
        topic: Topic | None = None
        try:
            topic = self._address(topic_text)
            self._dispatch(topic, payload, now_ms)
        except ContractError as exc:
            self._refuse(exc, topic_text, payload, now_ms=now_ms)
            if topic is not None and exc.reason != "topic":
                self.source(topic.gateway).quarantined += 1

    def retry(self, topic_text: str, payload: bytes, now_ms: int) -> bool:
        """Take in a message that was refused before; return whether it was taken this time.

        A refused frame counts as received, so that its sender goes on; its number does not speak against it here.
        Readers drop what they have judged before.

        Raises:
            StoreError: If the disk refuses; the message was not taken.
        """
        try:
            topic = self._address(topic_text)
            if topic.leaf in ("status", "birth"):
                self._dispatch(topic, payload, now_ms)
                return True
            header, is_known = check_header(payload)
            key = (topic.gateway, header.epoch, header.seq)
            if header.is_heartbeat or key in self._taken:
                return header.is_heartbeat
            frame, is_explained = self._understood(topic.gateway, payload, header, is_known)
            if is_explained:
                self._append(key, frame, payload, now_ms=now_ms, is_live=False)
            return is_explained
        except ContractError:
            return False

    def release_waiting(self, now_ms: int) -> None:
        """Take in the frames whose birth came while nobody looked (a crash between the two)."""
        for gateway, epoch, schema in self._aside.births_wanted():
            if self._births.get(self._site, gateway, epoch, schema) is not None:
                self._release(gateway, epoch, schema, now_ms)

    def commit(self) -> dict[tuple[str, int], int]:
        """Make everything taken in durable and enter it as received.

        Returns:
            (gateway, epoch) -> frames to acknowledge.

        Raises:
            StoreError: If the disk refuses. Nothing counts as taken: take it in again.
        """
        try:
            end = self._journal.sync(self._site)
            for gateway, epoch, ranges in self._ranges:
                self._ledger.add(gateway, epoch, ranges)
            self._needs_save |= self._is_outside
            if self._needs_save:
                # numbers that no journal record proves
                self._ledger.save(end)
                self._needs_save = False
            for frame in self._released:
                self._aside.drop(frame)
            for gateway, header, now_ms, is_live in self._heard:
                self.source(gateway).heard(header, now_ms=now_ms, is_live=is_live)
            for gateway, count in self._repeated.items():
                self.source(gateway).duplicates += count
            return self._touched
        finally:
            self._clear()

    def _address(self, text: str) -> Topic:
        topic = parse_topic(text)
        if topic.site != self._site or not ID.fullmatch(topic.gateway) or topic.gateway == CENTRE_GATEWAY:
            raise ContractError("topic", text)
        return topic

    def _dispatch(self, topic: Topic, payload: bytes, now_ms: int) -> None:
        if topic.leaf == "status":
            self._status(topic.gateway, payload)
        elif topic.leaf == "birth":
            self._birth_message(topic.gateway, payload, now_ms)
        else:
            self._frame(topic, payload, now_ms)

    def _status(self, gateway: str, payload: bytes) -> None:
        if not payload:
            return
        content = _object(payload)
        source = self.source(gateway)
        source.is_online = content.get("online") is True
        if content.get("epoch") is not None:
            source.epoch = parse_epoch(content["epoch"])

    def _birth_message(self, gateway: str, payload: bytes, now_ms: int) -> None:
        if not payload:
            return
        content = _object(payload)
        birth = Birth.from_json(content)
        if birth.gateway != gateway:
            raise ContractError("birth", f"the birth of {birth.gateway} came from {gateway}")
        self._births.put(self._site, content)
        self._release(gateway, birth.epoch, birth.schema, now_ms)

    def _frame(self, topic: Topic, payload: bytes, now_ms: int) -> None:
        gateway = topic.gateway
        header, is_known = check_header(payload)
        if header.is_heartbeat:
            self._heartbeat(gateway, header, payload, now_ms=now_ms)
            return
        self._touched[gateway, header.epoch] = self._touched.get((gateway, header.epoch), 0) + 1
        self._recent[gateway] = (header.epoch, self.recent(gateway, header.epoch))
        self._recent[gateway][1].add(header.seq)
        key = (gateway, header.epoch, header.seq)
        if key in self._taken or self._ledger.has(*key):
            self._repeated[gateway] += 1
            return
        try:
            frame, is_explained = self._understood(gateway, payload, header, is_known)
            if not is_explained:
                self._aside.keep(Waiting(gateway, header.epoch, header.schema, header.seq), payload)
                return
        except ContractError as exc:
            # its checksum was right, so its number counts: it must not block the sender's window
            if self._refuse(exc, str(topic), payload, now_ms=now_ms):
                self._is_outside = True
                self._enter(key, [[header.seq, header.seq]])
            self.source(gateway).quarantined += 1
            return
        self._append(key, frame, payload, now_ms=now_ms, is_live=topic.leaf != "b")
        if isinstance(frame, BirthFrame):
            self._release(gateway, header.epoch, header.schema, now_ms)

    def _heartbeat(self, gateway: str, header: Header, payload: bytes, *, now_ms: int) -> None:
        if self._births.get(self._site, gateway, header.epoch, header.schema) is None:
            self.source(gateway).early += 1
            return
        self._journal.append(self._site, gateway, payload, arrived_ms=now_ms)
        self._heard.append((gateway, header, now_ms, True))

    def _understood(self, gateway: str, payload: bytes, header: Header, is_known: bool) -> tuple[Frame, bool]:
        """Return a frame, and whether its birth is known; a birth is put on the way.

        Raises:
            ContractError: If the frame breaks the contract.
        """
        if not is_known:
            raise ContractError("version", "a newer program of ours wrote this frame")
        frame = decode_body(payload, header)
        birth = self._explain(gateway, frame)
        if birth is None:
            return frame, False
        check_content(frame, gateway=gateway, birth=birth)
        if isinstance(frame, BirthFrame):
            self._births.put(self._site, frame.birth)
        return frame, True

    def _explain(self, gateway: str, frame: Frame) -> Birth | None:
        if isinstance(frame, BirthFrame):
            return Birth.from_json(frame.birth)
        return self._births.get(self._site, gateway, frame.header.epoch, frame.header.schema)

    def _append(self, key: tuple[str, int, int], frame: Frame, payload: bytes, *, now_ms: int, is_live: bool) -> None:
        ranges: list[Range] = [[key[2], key[2]]]
        if isinstance(frame, EventFrame):
            ranges += [row for event in frame.events for row in loss_ranges(event)]
        self._journal.append(self._site, key[0], payload, arrived_ms=now_ms)
        self._is_urgent = True
        self._enter(key, ranges)
        self._heard.append((key[0], frame.header, now_ms, is_live))

    def _enter(self, key: tuple[str, int, int], ranges: list[Range]) -> None:
        self._taken.add(key)
        self._ranges.append((key[0], key[1], ranges))

    def _release(self, gateway: str, epoch: int, schema: int, now_ms: int) -> None:
        """Take in the frames that waited for a birth."""
        for frame, payload in self._aside.ready(gateway, epoch, schema):
            self._frame(Topic(self._site, gateway, "b"), payload, now_ms)
            self._released.append(frame)

    def _refuse(self, exc: ContractError, topic: str, payload: bytes, *, now_ms: int) -> bool:
        return self._quarantine.put(exc.reason, topic, payload, now_ms=now_ms, detail=exc.detail)


def _object(payload: bytes) -> dict[str, Any]:
    try:
        content = json.loads(payload)
    except ValueError as exc:
        raise ContractError("json", str(exc)) from exc
    if not isinstance(content, dict):
        raise ContractError("json", "an object was expected")
    return content
