"""The ledger as it is at a moment, to be looked at while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.clock import Clock
from worker.gpus.allocation import Allocation, Held, Waiting
from worker.gpus.inventory import Node
from worker.gpus.ledger import Ledger

Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Times:
    """The ledger's clock counts from the boot, people's from 1970."""

    ledger: float
    wall: float

    @classmethod
    def now(cls) -> Times:
        clock = Clock()
        return cls(clock.now(), clock.wall())

    def unix(self, at: float) -> float:
        return round(self.wall + at - self.ledger, 1)


@dataclass(frozen=True, slots=True)
class Glance:
    nodes: Sequence[Node]
    allocations: Mapping[str, Allocation]
    waiting: Sequence[Waiting]
    holder: Mapping[str, str]
    """allocations by cards"""
    missing: Sequence[tuple[Allocation, Held]] = ()
    """cards that are held, and are no longer here"""

    @classmethod
    def of(cls, ledger: Ledger) -> Glance:
        held = dict(ledger.allocations)
        holder = {card.uuid: one.id for one in held.values() for card in one.cards}
        return cls(ledger.nodes, held, list(ledger.waiting.values()), holder, list(ledger.missing()))


def allocation_told(one: Allocation, times: Times) -> Told:
    return {
        "id": one.id,
        "owner": one.request.owner,
        "asked": str(one.request),
        "priority": one.request.priority,
        "nodes": list(one.nodes),
        "cards": [card.uuid for card in one.cards],
        "made": times.unix(one.made),
        "until": times.unix(one.until),
    }


def waiting_told(one: Waiting, times: Times) -> Told:
    return {
        "id": one.ticket,
        "owner": one.request.owner,
        "asked": str(one.request),
        "priority": one.request.priority,
        "since": times.unix(one.asked),
        "until": times.unix(one.until),
    }
