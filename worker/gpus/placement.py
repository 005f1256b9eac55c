"""Which cards a request gets: decisions over what is free, without I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from heapq import heapify, heapreplace

from worker.gpus.allocation import Request
from worker.gpus.inventory import Card
from worker.gpus.neighbours import together
from worker.gpus.refusals import Said

Sort = tuple[str, str, float, str]


class Shelf:
    """Free cards of one sort. Nodes lie by the number of their free cards, so that none is looked for."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Card]] = {}
        self._by_number: dict[int, dict[str, None]] = {}

    @property
    def example(self) -> Card:
        return next(iter(next(iter(self.nodes.values())).values()))

    def put(self, card: Card) -> None:
        self._move(card, lambda free: free.__setitem__(card.uuid, card))

    def take(self, card: Card) -> None:
        self._move(card, lambda free: free.__delitem__(card.uuid))

    def with_at_least(self, count: int, most_first: bool) -> Iterator[tuple[int, str]]:
        for number in sorted(self._by_number, reverse=most_first):
            if number >= count:
                yield from ((number, node) for node in self._by_number[number])

    def _move(self, card: Card, change: Callable[[dict[str, Card]], None]) -> None:
        free = self.nodes.setdefault(card.node, {})
        before = len(free)
        change(free)
        if before:
            del self._by_number[before][card.node]
            if not self._by_number[before]:
                del self._by_number[before]
        if free:
            self._by_number.setdefault(len(free), {})[card.node] = None
        else:
            del self.nodes[card.node]


class Stock:
    """Free cards by their sort: a request looks at those that suit it, however large the cluster."""

    def __init__(self, cards: Iterable[Card] = ()) -> None:
        self.shelves: dict[Sort, Shelf] = {}
        for card in cards:
            self.put(card)

    def put(self, card: Card) -> None:
        self.shelves.setdefault(card.sort, Shelf()).put(card)

    def take(self, card: Card) -> None:
        self.shelves[card.sort].take(card)

    def suiting(self, request: Request) -> Iterator[Sort]:
        """The smallest first: large cards are kept for who needs them."""
        for sort in sorted(self.shelves, key=lambda sort: (sort[2], sort)):
            shelf = self.shelves[sort]
            if shelf.nodes and request.suits(shelf.example):
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
    fitting: Iterable[tuple[int, str]] = shelf.with_at_least(count, most_first=spread)
    if request.node:
        number = len(shelf.nodes.get(request.node, ()))
        fitting = [(number, request.node)] if number >= count else []
    if members == 1:
        best = next(iter(fitting), None)
        return Counter([best[1]]) if best else None
    if spread:
        return _evenly([(-number, node) for number, node in fitting], members, count)
    chosen: Counter[str] = Counter()
    for number, node in fitting:
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
        free = dict(shelf.nodes[node])
        for _ in range(members):
            for card in together(free.values(), count):
                del free[card.uuid]
                yield card


def why_never(capacity: Stock, request: Request) -> Said | None:
    """What a person can change; None: it would fit if nobody else were here."""
    if place(capacity, request):
        return None
    sorts = list(capacity.suiting(request))
    if not sorts:
        there = sorted({f"{kind} {gigabytes:.0f} GB" for _, kind, gigabytes, _ in capacity.shelves})
        if not there:
            return Said("there is no healthy GPU", "没有健康的 GPU")
        return Said(f"there are {', '.join(there)}", f"现有：{'、'.join(there)}")
    if request.node:
        here = max(len(capacity.shelves[sort].nodes.get(request.node, ())) for sort in sorts)
        return Said(f"{request.node} has {here} such cards alike", f"{request.node} 只有 {here} 张同类卡")
    nodes = [len(cards) for sort in sorts for cards in capacity.shelves[sort].nodes.values()]
    return Said(
        f"{sum(nodes)} such cards are here, at most {max(nodes)} alike on a node",
        f"这样的卡共 {sum(nodes)} 张，单个节点最多 {max(nodes)} 张同类卡",
    )
