"""The journal: the durable, append-only stream of frames of one site, read by alarms, history and screens."""

from watchroom.journal.file import FileJournal, fresh_offset
from watchroom.journal.record import Journal, Record, Unread, is_tick

__all__ = ["FileJournal", "Journal", "Record", "Unread", "fresh_offset", "is_tick"]
