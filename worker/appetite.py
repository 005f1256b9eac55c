"""When a worker takes its next shard: before its device would wait, and no earlier: others are hungry too."""

from __future__ import annotations

from collections import deque

CLAIM_S = 5.0
"""what a claim may take on a store that is far away, generously; until it is known here"""
ROUND_S = 1.0
"""until it is asked again, at the latest"""
NO_TIME = 0.025
"""of a batch's time on the device: so long it may wait, so that nobody waits for what is held back here"""
TURN_S = 0.02
"""for less it does not pay to wake another thread"""
TURN_MOST = 64
LATELY = 8
"""batches and claims that say how fast this worker is now"""
OF_LATE = 64
"""prepared items that do"""


class Appetite:
    """How fast items are prepared and answered here, and how many in hand are enough."""

    def __init__(self, children: float, seconds_per_item: float) -> None:
        self._children = children
        self._estimate = seconds_per_item
        self._answered: deque[float] = deque(maxlen=LATELY)
        self._claimed: deque[float] = deque(maxlen=LATELY)
        self._prepared: deque[float] = deque(maxlen=OF_LATE)
        self._needy: deque[bool] = deque(maxlen=OF_LATE)

    def prepared(self, seconds: float, *, needs_device: bool) -> None:
        """One item, by one child."""
        self._prepared.append(seconds)
        self._needy.append(needs_device)

    def answered(self, seconds: float) -> None:
        """A sample's share of a batch on the device."""
        self._answered.append(seconds)

    def claimed(self, seconds: float) -> None:
        """From the asking until a shard was in hand."""
        self._claimed.append(seconds)

    def batches(self, batch: int) -> int:
        """So many are answered in no time, and may go to the device at once."""
        each = batch * _mean(self._answered, self._estimate)
        return max(1, min(TURN_MOST, int(TURN_S / max(each, 1e-9))))

    def wants(self, waiting: int, batch: int, on_device: int, busy_s: float) -> bool:
        """Another shard? waiting: items in hand that the device has not begun; on_device: samples that it
        has, for busy_s by now.

        Asked for when what there is leaves the next batch an item short by the time that a claim is answered
        and its first sample is prepared; where that takes no time, nothing is asked for ahead. Where
        preparing is what takes the time, that is an item a child."""
        answer = _mean(self._answered, self._estimate)
        prepare = _mean(self._prepared, 0.0)
        pace = max(answer * _mean(self._needy, 1.0), prepare / self._children, 1e-9)
        left_s = abs(on_device * answer - busy_s)  # what overruns may take as much longer again
        lead_s = max(self._claimed, default=CLAIM_S) + prepare
        batch_s = batch * answer
        lead_s = 0.0 if lead_s <= NO_TIME * batch_s else lead_s + min(ROUND_S, batch_s)
        return waiting + left_s / pace <= batch - 1 + lead_s / pace


def _mean(values: deque[float] | deque[bool], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
