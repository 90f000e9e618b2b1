"""Questions whose answer did not come in time and may still come. Pure: time is an argument.

RTU and ASCII telegrams carry no number. The answer to a read says unit, function and byte count, never the address:
after one late answer the next question of the same shape would get the previous one's registers, and so on for
ever. The rule here: a question is asked only while its unit owes no answer of that shape. Because a unit answers in
order, an answer proves that nothing older than the first question it could belong to will come any more; a control
question of another shape therefore clears the unit after a late, lost or damaged answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.addresses import Table
from gateway.telegram import Question, read_question

MAX_GHOSTS = 32
LIFE_S = 60.0
"""No converter delivers an answer later than this."""
_OTHER = {
    Table.HOLDING: Table.INPUT,
    Table.INPUT: Table.HOLDING,
    Table.COIL: Table.DISCRETE,
    Table.DISCRETE: Table.COIL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ghost:
    """One question without an answer."""

    question: Question
    lost_s: float


class Ghosts:
    """What the units of one link still owe.

    Args:
        settle_s: A unit that owes an answer is left alone for so long.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._owed: dict[int, list[Ghost]] = {}

    def lost(self, question: Question, now_s: float) -> None:
        """No answer came in time."""
        owed = self._owed.setdefault(question.unit, [])
        owed.append(Ghost(question=question, lost_s=now_s))
        # the oldest goes last out: it decides what an answer of its shape proves
        while len(owed) > MAX_GHOSTS:
            del owed[1]

    def answered(self, question: Question, now_s: float, *, is_refusal: bool) -> None:
        """An answer came: forget what it proves will not come any more.

        An exception answer only tells its function, so it may belong to any older question of that function.
        """
        owed = self._owed.get(question.unit)
        if not owed:
            return

        def is_alike(old: Question) -> bool:
            return old.function == question.function if is_refusal else old.shape == question.shape

        self._keep_from(question.unit, is_alike)
        if question.unit in self._owed:
            # it may have been the answer to the old question, and then the one to the new question is still to come
            self.lost(question, now_s)

    def arrived(self, question: Question) -> None:
        """The late answer to an old question has come and was thrown away."""
        owed = self._owed.get(question.unit, [])
        for i, ghost in enumerate(owed):
            if ghost.question.shape == question.shape:
                del owed[: i + 1]
                break
        if not owed:
            self._owed.pop(question.unit, None)

    def is_clear(self, question: Question, now_s: float) -> bool:
        """Whether an answer to this question could not be an old one."""
        owed = self._owed.get(question.unit)
        if not owed:
            return True
        owed[:] = [ghost for ghost in owed if ghost.lost_s >= now_s - LIFE_S]
        if not owed:
            del self._owed[question.unit]
        return all(ghost.question.shape != question.shape for ghost in owed)

    def quiet_until_s(self, unit: int) -> float:
        """Until when a unit is left alone, in seconds of the loop's clock; -inf if it owes nothing."""
        owed = self._owed.get(unit)
        return max(ghost.lost_s for ghost in owed) + self._settle_s if owed else float("-inf")

    def owed(self) -> Iterator[Question]:
        """Yield every question that may still be answered."""
        for ghosts in self._owed.values():
            for ghost in ghosts:
                yield ghost.question

    def controls(self, table: Table, *, unit: int, start: int, count: int) -> list[Question]:
        """Return control questions that clear the way for a read, the best one first.

        A shorter read of the same registers, and one register of the other table: a device that lacks that table
        says so with an exception of another function, which proves just as much. What was asked in vain lately
        goes last, because some devices never answer a function they do not know.
        """
        step = 8 if table.is_bits else 1
        questions = []
        if count > step:
            questions.append(read_question(table, unit=unit, start=start, count=count - step))
        questions.append(read_question(_OTHER[table], unit=unit, start=start, count=1))
        tried = [ghost.question.shape for ghost in self._owed.get(unit, [])]
        return sorted(questions, key=lambda question: tried.count(question.shape))

    def _keep_from(self, unit: int, is_alike: Callable[[Question], bool]) -> None:
        """Keep what a unit owes from the first question of a kind on; nothing if there is none."""
        owed = self._owed[unit]
        for i, ghost in enumerate(owed):
            if is_alike(ghost.question):
                del owed[:i]
                return
        del self._owed[unit]
