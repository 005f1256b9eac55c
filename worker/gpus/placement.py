"""Which cards a request gets: decisions over what is free, without I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from heapq import heapify, heapreplace

from worker.gpus.allocation import Request
from worker.gpus.inventory import Card
from worker.gpus.neighbours import together

Sort = tuple[str, str, float]
Shelf = dict[str, dict[str, Card]]
"""free cards of one sort, by node and uuid"""


class Stock:
    """Free cards by their sort: a request looks at those that suit it, however large the cluster."""

    def __init__(self, cards: Iterable[Card] = ()) -> None:
        self.shelves: dict[Sort, Shelf] = {}
        for card in cards:
            self.put(card)

    def put(self, card: Card) -> None:
        self.shelves.setdefault(card.sort, {}).setdefault(card.node, {})[card.uuid] = card

    def take(self, card: Card) -> None:
        shelf = self.shelves[card.sort]
        del shelf[card.node][card.uuid]
        if not shelf[card.node]:
            del shelf[card.node]

    def suiting(self, request: Request) -> Iterator[Sort]:
        """The smallest first: large cards are kept for who needs them."""
        for sort in sorted(self.shelves, key=lambda sort: (sort[2], sort)):
            shelf = self.shelves[sort]
            if shelf and request.suits(next(iter(next(iter(shelf.values())).values()))):
                yield sort


def place(stock: Stock, request: Request, without: Collection[Sort] = ()) -> tuple[Card, ...] | None:
    """In the order of the members. None: not now. `without`: sorts that others wait for."""
    sorts = [sort for sort in stock.suiting(request) if sort not in without]
    for members, count in shapes(request):
        for sort in sorts:
            shelf = stock.shelves[sort]
            if chosen := _nodes(shelf, request, members, count):
                return tuple(_cards(shelf, chosen, count))
    return None


def shapes(request: Request) -> Iterator[tuple[int, int]]:
    """(members, cards of each); of those that a request may be split into, the fewest first."""
    yield request.members, request.count
    if request.spans:
        for parts in range(2, request.count + 1):
            if request.count % parts == 0:
                yield request.members * parts, request.count // parts


def _nodes(shelf: Shelf, request: Request, members: int, count: int) -> Counter[str] | None:
    """How many members each node takes."""
    spread = request.strategy == "spread"
    if request.node:
        free = {request.node: len(shelf.get(request.node, ()))}
    else:
        free = {node: len(cards) for node, cards in shelf.items()}
    fitting = ((-number if spread else number, node) for node, number in free.items() if number >= count)
    if members == 1:
        best = min(fitting, default=None)
        return Counter([best[1]]) if best else None
    if spread:
        return _evenly(list(fitting), members, count)
    chosen: Counter[str] = Counter()
    for number, node in sorted(fitting):
        chosen[node] = min(number // count, members - chosen.total())
        if chosen.total() == members:
            return chosen
    return None


def _evenly(fullness: list[tuple[int, str]], members: int, count: int) -> Counter[str] | None:
    heapify(fullness)
    chosen: Counter[str] = Counter()
    for _ in range(members):
        if not fullness or -fullness[0][0] < count:
            return None
        taken, node = fullness[0]
        chosen[node] += 1
        heapreplace(fullness, (taken + count, node))
    return chosen


def _cards(shelf: Shelf, chosen: Mapping[str, int], count: int) -> Iterator[Card]:
    for node, members in chosen.items():
        free = dict(shelf[node])
        for _ in range(members):
            for card in together(free.values(), count):
                del free[card.uuid]
                yield card


def why_never(capacity: Stock, request: Request) -> str:
    """What a person can change; empty: it would fit if nobody else were here."""
    if place(capacity, request):
        return ""
    sorts = list(capacity.suiting(request))
    if not sorts:
        there = sorted({f"{kind} of {gigabytes:.0f} GB" for _, kind, gigabytes in capacity.shelves})
        return f"there are {', '.join(there)}" if there else "there is no healthy GPU"
    if request.node:
        here = max(len(capacity.shelves[sort].get(request.node, ())) for sort in sorts)
        return f"{request.node} has {here} such cards alike"
    nodes = [len(cards) for sort in sorts for cards in capacity.shelves[sort].values()]
    return f"{sum(nodes)} such cards are here, at most {max(nodes)} alike on a node"
