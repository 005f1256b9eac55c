"""How long it will still take: a range, because a single number would pretend to know."""

from __future__ import annotations

import math
from collections.abc import Sequence

from worker.queue.gist import Seconds

LEAST_SPREAD = 0.1
MOST_SPREAD = 0.6
FEW = 5
"""answers seen: with fewer we only know the order of magnitude"""


def eta(
    left: float, rates: Sequence[float], seen: Seconds, shard_size: int, longest: float = 0.0
) -> tuple[int, int] | None:
    """Seconds, low and high. None: nobody works, or no worker knows its rate yet.

    left: items to answer, of a job in hand what is not done yet; rates: of the live workers, items a second;
    seen: seconds of the items so far; shard_size: of the largest that is open; longest: what a job in hand
    still takes, for nobody can share it. The middle is left / sum(rates), or the longest. It is widened by
    twice the standard error that the spread of `seen` gives the mean of what is left, by 10 % at least and
    60 % at most, and by a factor of two while few are seen. On top comes the tail, when some workers are idle
    and the slowest ends its shard: no schedule that hands out shards greedily is later than (1 - 1/workers)
    of it (Graham's bound).
    """
    if left <= 0:
        return 0, 0
    rates = [rate for rate in rates if rate > 0]
    if not rates:
        return None
    middle = max(left / math.fsum(rates), longest)
    tail = (1 - 1 / len(rates)) * min(shard_size, left) / min(rates)
    if seen.count < FEW:
        return math.floor(middle / 2), math.ceil(middle * 2 + tail)
    off = spread(left, seen)
    return math.floor(middle / (1 + off)), math.ceil(middle / (1 - off) + tail)


def spread(left: float, seen: Seconds) -> float:
    error = seen.deviation / seen.mean / math.sqrt(min(max(left, 1), seen.count)) if seen.mean > 0 else 0.0
    return min(MOST_SPREAD, max(LEAST_SPREAD, 2 * error))
