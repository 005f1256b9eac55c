"""Which results count: a fault of the machine says nothing of the item at which it happened (rule 7)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from worker.blame import ILL_AFTER
from worker.errors import MachineError
from worker.items import Failure, Result

log = logging.getLogger(__name__)


class Faults:
    """Of this machine, as its results show them one after the other."""

    def __init__(self) -> None:
        self._in_a_row: set[str] = set()
        """different items, with no work done between them"""
        self._at: Counter[str] = Counter()
        """how often at each item"""

    def judge(self, results: Sequence[Result], *, stopping: bool) -> tuple[list[Result], MachineError | None]:
        """Those that count; and why there is no going on, which takes nothing from them."""
        final: list[Result] = []
        for result in results:
            if stopping and isinstance(result.outcome, Failure) and _says_nothing(result.outcome):
                continue  # it was not begun, or is of no interest any more
            try:
                if self.is_final(result):
                    final.append(result)
            except MachineError as ill:
                return final, ill
        return final, None

    def is_final(self, result: Result) -> bool:
        """False: the item is to be tried again. Several items in a row, and the worker stops."""
        failure = result.outcome
        if not isinstance(failure, Failure) or not _says_nothing(failure):
            self._in_a_row.clear()
            return True
        if failure.blames_machine:
            self._in_a_row.add(result.item)
        if len(self._in_a_row) >= ILL_AFTER:
            raise MachineError(
                f"this machine is ill, {len(self._in_a_row)} items in a row: {failure.message}"
            )
        self._at[result.item] += 1
        if self._at[result.item] >= ILL_AFTER:
            return True
        log.warning("%s: %s; trying again", result.input, failure.message)
        return False


def _says_nothing(failure: Failure) -> bool:
    """Of the item."""
    return failure.blames_machine or failure.is_unanswered
