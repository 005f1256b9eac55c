"""Of a node's free cards those that reach each other fastest, so that what is left is well connected too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from math import comb

from worker.gpus.inventory import Card

LINKED, SAME_NUMA = 4, 1
MOST_TRIED = 500
"""combinations; of more the next best is taken again and again"""

Place = tuple[int, int | None, tuple[int, ...]]
Near = Mapping[tuple[int, int], int]


def together(free: Iterable[Card], count: int) -> tuple[Card, ...]:
    cards = sorted(free, key=lambda card: (card.index, card.uuid))
    places = tuple((card.index, card.numa, card.links) for card in cards)
    return tuple(cards[number] for number in _choose(places, count))


@lru_cache(maxsize=4096)  # nodes of one make look alike
def _choose(places: Sequence[Place], count: int) -> tuple[int, ...]:
    everyone = range(len(places))
    near = {(a, b): _near(places[a], places[b]) for a in everyone for b in everyone if a < b}
    if len(set(near.values())) < 2:
        return tuple(everyone[:count])
    if comb(len(places), count) > MOST_TRIED:
        return max(
            (_grown(start, everyone, near, count) for start in everyone), key=lambda some: _sum(some, near)
        )
    return max(
        combinations(everyone, count),
        key=lambda some: (_sum(some, near), _sum([one for one in everyone if one not in some], near)),
    )


def _near(a: Place, b: Place) -> int:
    linked = b[0] in a[2] or a[0] in b[2]
    return LINKED * linked + SAME_NUMA * (a[1] is not None and a[1] == b[1])


def _sum(some: Sequence[int], near: Near) -> int:
    return sum(near[pair] for pair in combinations(some, 2))


def _grown(start: int, everyone: Iterable[int], near: Near, count: int) -> tuple[int, ...]:
    some = [start]
    while len(some) < count:
        left = (one for one in everyone if one not in some)
        some.append(max(left, key=lambda one: sum(near[min(one, has), max(one, has)] for has in some)))
    return tuple(sorted(some))
