"""The ledger as it lies in a cluster's object: all of it, small, and without anybody's clock.

Times are written as how long ago, and how long still. Who reads adds them to his own clock at that moment:
a lease may end a little late and never early, and while nobody reads it stands still."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any

from worker.errors import MachineError
from worker.gpus.allocation import Allocation, Held, Request, Waiting

FORMAT = 1
KEYS = 1000
"""of allocations that have ended, remembered at most"""
WRITERS = 16
DEFAULT = Request()


@dataclass(frozen=True, slots=True)
class Ended:
    id: str
    request: Request
    at: float


@dataclass
class Book:
    allocations: dict[str, Allocation] = field(default_factory=dict)
    renewals: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    spent: dict[str, tuple[float, float]] = field(default_factory=dict)
    """GPU seconds of an owner, and when that was so"""
    ended: dict[str, Ended] = field(default_factory=dict)
    """by their keys"""
    turns: dict[str, int] = field(default_factory=dict)
    """the last one of each writer: so one whose answer was lost finds out whether it was heard"""

    def copy(self) -> Book:
        """As far as `decode` compares."""
        return Book(dict(self.allocations), dict(self.renewals), dict(self.waiting))

    def signed(self, writer: str, turn: int) -> None:
        self.turns.pop(writer, None)
        self.turns[writer] = turn
        self.turns = dict(list(self.turns.items())[-WRITERS:])


def encode(book: Book, now: float) -> bytes:
    told = {
        "format": FORMAT,
        "allocations": [
            {
                "id": one.id,
                "request": _request(one.request),
                "cards": list(_cards(one.cards)),
                "key": one.key,
                "age": round(now - one.made, 3),
                "left": round(one.until - now, 3),
                "renewals": book.renewals.get(one.id, 0),
            }
            for one in book.allocations.values()
        ],
        "waiting": [
            {
                "ticket": one.ticket,
                "request": _request(one.request),
                "key": one.key,
                "age": round(now - one.asked, 3),
                "left": round(one.until - now, 3),
            }
            for one in book.waiting.values()
        ],
        "spent": {owner: [round(spent, 1), round(now - at, 1)] for owner, (spent, at) in book.spent.items()},
        "ended": [
            [key, one.id, _request(one.request), round(now - one.at, 1)] for key, one in book.ended.items()
        ],
        "turns": book.turns,
    }
    return gzip.compress(json.dumps(told, separators=(",", ":")).encode(), 3, mtime=0)


def decode(data: bytes, now: float, before: Book | None = None) -> Book:
    """`before`: what this reader knew, who has seen leases run for longer than the writer may have."""
    try:
        told = json.loads(gzip.decompress(data))
    except (OSError, EOFError, ValueError) as error:
        raise MachineError(f"what lies there is no ledger of GPUs: {error}") from error
    if told.get("format") != FORMAT:
        raise MachineError(
            f"the ledger is of format {told.get('format')}, and this manager knows {FORMAT}: update it"
        )
    book = Book(turns=told["turns"])
    for one in told["allocations"]:
        name, until = one["id"], now + one["left"]
        known = before.allocations.get(name) if before else None
        if known and before and before.renewals.get(name) == one["renewals"]:
            until = min(until, known.until)
        book.renewals[name] = one["renewals"]
        book.allocations[name] = Allocation(
            id=name,
            request=_asked(one["request"]),
            cards=tuple(_held(one["cards"])),
            key=one["key"],
            made=known.made if known else now - one["age"],
            until=until,
        )
    for one in told["waiting"]:
        seen = before.waiting.get(one["ticket"]) if before else None
        book.waiting[one["ticket"]] = seen or Waiting(
            one["ticket"], _asked(one["request"]), one["key"], now - one["age"], now + one["left"]
        )
    book.spent = {owner: (spent, now - age) for owner, (spent, age) in told["spent"].items()}
    book.ended = {key: Ended(name, _asked(request), now - age) for key, name, request, age in told["ended"]}
    return book


def _asked(told: Mapping[str, Any]) -> Request:
    return Request(**{**told, "cards": tuple(told.get("cards", ()))})


@lru_cache(1024)
def _request(request: Request) -> Mapping[str, Any]:
    values = {name: getattr(request, name) for name in Request.__slots__}
    return {name: value for name, value in values.items() if value != getattr(DEFAULT, name)}


def _cards(cards: tuple[Held, ...]) -> Iterator[dict[str, Any]]:
    """A node's cards that follow each other are one entry."""

    def alike(card: Held) -> tuple[Any, ...]:
        return card.node, card.resource, card.kind, card.maker, card.memory_gb

    for (node, resource, kind, maker, memory), some in groupby(cards, alike):
        yield {
            "node": node,
            "resource": resource,
            "kind": kind,
            "maker": maker,
            "memory_gb": memory,
            "slots": [card.index for card in some],
        }


def _held(entries: list[dict[str, Any]]) -> Iterator[Held]:
    for one in entries:
        for index in one["slots"]:
            yield Held(
                node=one["node"],
                index=index,
                uuid=f"{one['node']}/{one['resource']}/{index}",
                kind=one["kind"],
                maker=one["maker"],
                memory_gb=one["memory_gb"],
                resource=one["resource"],
            )
