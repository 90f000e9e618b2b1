"""The journal: the durable, append-only stream of frames of one site, read by alarms, history and screens."""

from watchroom.journal.file import FileJournal
from watchroom.journal.record import Journal, Record, is_tick

__all__ = ["FileJournal", "Journal", "Record", "is_tick"]
