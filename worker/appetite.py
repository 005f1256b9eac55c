"""When a worker takes its next shard: before its device would wait, and no earlier: others are hungry too."""

from __future__ import annotations

from collections import deque

CLAIM_S = 5.0
"""what a claim may take on a store that is far away, generously"""
NO_TIME = 0.025
"""of a batch's time on the device: so long it may wait for the first sample of a shard"""
LATELY = 8
"""batches, and prepared items, that say how fast this worker is now"""


class Appetite:
    """How fast items are prepared and answered here, and how many in hand are enough."""

    def __init__(self, batch: int, ahead: int, seconds_per_item: float) -> None:
        self._batch = batch
        self._ahead = ahead
        self._estimate = seconds_per_item
        self._answered: deque[float] = deque(maxlen=LATELY)
        self._prepared: deque[float] = deque(maxlen=LATELY)

    def prepared(self, seconds: float) -> None:
        """One item, by one child."""
        self._prepared.append(seconds)

    def answered(self, seconds: float) -> None:
        """An item's share of a batch on the device."""
        self._answered.append(seconds)

    def wants(self, shards: int, unsent: int, waiting: int) -> bool:
        """Another shard? unsent: items that no child has yet; waiting: all that the device has not begun.

        Two shards at most; more only where they are so small that children would idle."""
        if unsent >= self._ahead or waiting >= self.enough:
            return False
        return shards < 2 or (not unsent and waiting < self._ahead)

    @property
    def enough(self) -> float:
        """Items that keep the device busy until a claim is answered and its first sample prepared.

        While the batch before the last one is answered the claim comes in, and while the last one is, the
        first sample is prepared; where that takes no time, one batch will do, and who has less in hand is
        waited for less at the end. Where preparing is what takes the time, these are as many as there are
        children, and more."""
        answer = _mean(self._answered, self._estimate)
        prepare = _mean(self._prepared, 0.0)
        children = self._ahead / 2
        pace = max(answer, prepare / children, 1e-9)
        batches = 1 if prepare <= NO_TIME * answer * self._batch else 2
        return batches * self._batch + (CLAIM_S + prepare) / pace


def _mean(values: deque[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
