"""Whether the ranks come together in time."""

from __future__ import annotations

import time

from worker.ranks import backend
from worker.ranks.words import DIED, NETWORK, Loaded, Raised, Together, Word


class Watch:
    """Of one start of the ranks. What hangs in the first sum over all of them never says so."""

    def __init__(self, ranks: int, way: str) -> None:
        self._ranks = ranks
        self._way = way
        self._there = self._together = 0
        self._since: float | None = None

    def hear(self, word: Word) -> Word:
        """What was said, or what that means at this point."""
        self._there += isinstance(word, Loaded)
        self._together += isinstance(word, Together)
        if self._there == self._ranks and self._since is None:
            self._since = time.monotonic()
        if (
            isinstance(word, Raised)
            and word.kind == DIED
            and self._way == backend.NCCL
            and self._since is not None
            and not self._together
        ):
            return Raised(word.rank, word.text, NETWORK)
        return word

    def look(self) -> Raised | None:
        """Why there is no waiting any longer."""
        if self._since is None or self._together == self._ranks:
            return None
        if time.monotonic() - self._since < backend.FIRST_WORD_S:
            return None
        return Raised(0, f"the ranks did not come together in {backend.FIRST_WORD_S:.0f} s", NETWORK)
