"""What is asked for, what waits, and what somebody holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from worker.gpus import tenants
from worker.gpus.inventory import Card

Strategy = Literal["binpack", "spread"]

LEASE_S = 600.0


@dataclass(frozen=True, slots=True)
class Request:
    """All of it or nothing. The cards of one request are alike."""

    count: int = 1
    """cards of a member, all on one node"""
    members: int = 1
    """of a gang"""
    spans: bool = False
    """a member that fits no node may be split into equal ones"""
    kind: str = ""
    """empty: any"""
    maker: str = ""
    memory_gb: float = 0.0
    """of each card, at least"""
    resource: str = ""
    """of a cluster, where a whole card must not be a slice, nor a slice a whole card; empty: any"""
    node: str = ""
    """this one alone; empty: any"""
    strategy: Strategy = "binpack"
    """binpack keeps nodes whole for large requests, spread keeps away from other people's work"""
    owner: str = ""
    """whose share it counts on"""
    priority: int = 0
    """the highest waits the least"""
    lease_s: float = LEASE_S
    cards: tuple[str, ...] = ()
    """these, by their UUIDs, whatever else runs there"""
    process: str = ""
    """without which it ends at once: see tenants.py; empty: its lease alone says"""

    def __str__(self) -> str:
        if self.cards:
            return ", ".join(self.cards)
        size = f" of {self.memory_gb:g} GB" if self.memory_gb else ""
        gang = f"{self.members} x " if self.members > 1 else ""
        where = f" on {self.node}" if self.node else ""
        return f"{gang}{self.count} {self.kind or self.maker or 'GPU'}{size}{where}"

    @property
    def total(self) -> int:
        return self.count * self.members

    def suits(self, card: Card) -> bool:
        """By its sort alone."""
        return (
            self.kind in ("", card.kind)
            and self.maker in ("", card.maker)
            and self.memory_gb <= card.memory_gb
            and (not self.cards or card.uuid in self.cards)
            and (self.resource in ("", card.resource) or not card.resource)
        )

    def encode(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def decode(cls, text: str) -> Request:
        told = json.loads(text)
        return cls(**{**told, "cards": tuple(told.get("cards", ()))})


@dataclass(frozen=True, slots=True)
class Waiting:
    ticket: str
    """becomes the allocation's id"""
    request: Request
    key: str
    asked: float
    until: float
    """the asker's patience"""


@dataclass(frozen=True, slots=True)
class Held:
    """A card as it was when it was handed out."""

    node: str
    index: int
    uuid: str
    kind: str
    maker: str
    memory_gb: float
    resource: str = ""
    """in a cluster: what its pod has to ask for"""

    @classmethod
    def of(cls, card: Card) -> Held:
        return cls(card.node, card.index, card.uuid, card.kind, card.maker, card.memory_gb, card.resource)


@dataclass(frozen=True, slots=True)
class Allocation:
    id: str
    request: Request
    cards: tuple[Held, ...]
    key: str
    made: float
    until: float
    """the lease's end, unless it is renewed"""

    @property
    def who(self) -> str:
        pid = tenants.pid_of(self.request.process)
        return f"{self.request.owner or 'somebody'}{f' (process {pid})' if pid else ''}"

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(card.node for card in self.cards))


def encode_cards(cards: tuple[Held, ...]) -> str:
    return json.dumps([{name: getattr(card, name) for name in Held.__slots__} for card in cards])


def decode_cards(text: str) -> tuple[Held, ...]:
    told: list[Mapping[str, Any]] = json.loads(text)
    return tuple(Held(**card) for card in told)
