"""Of the workers that wait, one looks out for all; the others ask it now and then, and rest (rule 12).

Nothing is decided by its word but how soon somebody looks again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from random import Random

from worker.clock import Clock
from worker.queue import layout
from worker.queue.store import Store
from worker.queue.text import decode, encode

REST_SHARE = 1 / 8
"""of the time waited so far: so much later than it might a worker finds new work, or the end"""
REST_LEAST_TTLS = 1.25
"""shorter ones could miss that somebody looks out: the word is given twice a TTL"""
WORDS_LEAST = 1.3
"""a TTL; two are meant"""
REST_MOST_TTLS = 5
"""when many machines are gone at once, those that rest find it out so much later"""


@dataclass(frozen=True, slots=True)
class Word:
    worker: str
    counter: int
    calm: bool
    """nothing is free, and nobody who holds a shard is silent"""

    @staticmethod
    def decode(data: bytes) -> Word | None:
        try:
            record = decode(data)
            return Word(str(record["worker"]), int(record["counter"]), bool(record["calm"]))
        except (ValueError, KeyError, TypeError):
            return None


class Lookout:
    """One worker's part in it."""

    def __init__(self, store: Store, worker: str, ttl: float, clock: Clock, random: Random) -> None:
        self._store = store
        self._worker = worker
        self._ttl = ttl
        self._clock = clock
        self._random = random
        self._since: float | None = None
        """when the waiting began"""
        self._awake = 0.0
        """since when we look ourselves"""
        self._asked = self._ask_at = 0.0
        self._word: Word | None = None
        """as we last saw it, or said it"""
        self._ours = False
        self._counter = 0

    def worked(self) -> None:
        self._since = self._word = None
        self._ours = False

    def rest(self, calm: bool) -> float:
        """How long we may leave it to somebody else; 0: look. `calm`: what our own last look says."""
        now = self._clock.now()
        if self._since is None:
            self._since = self._awake = now
        rest = min(REST_SHARE * (now - self._since), REST_MOST_TTLS * self._ttl)
        if self._ours and not calm:
            self.alarm()
        if rest < REST_LEAST_TTLS * self._ttl or now < self._ask_at:
            return 0.0
        before, self._word = self._word, self._read()
        spent, self._asked = now - self._asked, now
        if self._looks_out(before, spent):
            self._ours = False
            if self._word and self._word.calm:
                rest *= self._random.uniform(0.8, 1.0)
                self._awake = self._ask_at = now + rest
                return rest
            self._ask_at = now + self._ttl
            return 0.0
        if before or not self._word:  # a word seen for the first time may be old
            self._say(calm and now - self._awake >= self._ttl)  # who has just woken up knows nothing yet
        self._ask_at = now + self._ttl / (2 if self._ours else 1)
        return 0.0

    def alarm(self) -> None:
        """There is more to do than for one, or nobody will look out: who wakes up shall stay awake."""
        if self._ours and self._word and self._word.calm:
            self._say(False)

    def _looks_out(self, before: Word | None, spent: float) -> bool:
        """Somebody else spoke since we last asked, and went on speaking as far as its words tell.

        Of two who look out the one with the lower name stays."""
        word = self._word
        if word is None or before is None or word == before or word.worker == self._worker:
            return False
        words = word.counter - before.counter
        if word.worker == before.worker and words < int(WORDS_LEAST * spent / self._ttl):
            return False
        return not self._ours or word.worker < self._worker

    def _say(self, calm: bool) -> None:
        self._counter += 1
        self._word, self._ours = Word(self._worker, self._counter, calm), True
        self._store.put(layout.LOOKOUT, encode(asdict(self._word)), durable=False)

    def _read(self) -> Word | None:
        data = self._store.get(layout.LOOKOUT)
        return Word.decode(data) if data else None
