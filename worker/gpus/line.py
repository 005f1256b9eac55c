"""Who waits, and who is next: priority first, then who has the least, then who came first."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from worker.gpus.allocation import Request, Waiting
from worker.gpus.inventory import Card
from worker.gpus.placement import Sort, Stock, place

HALF_LIFE_S = 3600.0
"""after which what somebody used counts half"""


def faded(gpu_seconds: float, passed: float) -> float:
    return gpu_seconds * math.pow(0.5, passed / HALF_LIFE_S)


def settle(
    waiting: Iterable[Waiting],
    stock: Stock,
    held: Mapping[str, int],
    spent: Mapping[str, float],
    possible: Callable[[Request], bool],
) -> Iterator[tuple[Waiting, tuple[Card, ...]]]:
    """Who gets what now; what is granted is taken from the stock.

    Nobody is overtaken on the cards that he waits for: a large gang would wait for ever. Who asks for what is
    not here at all keeps nobody waiting."""
    lines: dict[tuple[int, str], deque[Waiting]] = defaultdict(deque)
    for one in sorted(waiting, key=lambda one: one.asked):
        lines[one.request.priority, one.request.owner].append(one)
    has = defaultdict(int, held)
    heads = [_rank(line[0], has, spent) for line in lines.values()]
    heapq.heapify(heads)
    blocked: set[Sort] = set()
    while heads:
        rank = heapq.heappop(heads)
        owner, line = rank[4], lines[-rank[0], rank[4]]
        if rank[1] != has[owner]:  # of another priority he got something meanwhile
            heapq.heappush(heads, _rank(line[0], has, spent))
            continue
        one = line.popleft()
        if cards := place(stock, one.request, blocked):
            for card in cards:
                stock.take(card)
            has[owner] += len(cards)
            yield one, cards
        elif possible(one.request):
            blocked |= set(stock.suiting(one.request))
        if line:
            heapq.heappush(heads, _rank(line[0], has, spent))


def _rank(
    one: Waiting, has: Mapping[str, int], spent: Mapping[str, float]
) -> tuple[int, int, float, float, str]:
    owner = one.request.owner
    return -one.request.priority, has[owner], spent.get(owner, 0.0), one.asked, owner
