"""What there is: nodes and their cards, whoever looked for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from worker.gpus.figures import UNKNOWN, Figures


@dataclass(frozen=True, slots=True)
class Card:
    """One device, or one slice of a device that is sold in slices."""

    node: str
    index: int
    uuid: str
    """alone in the whole inventory"""
    kind: str
    maker: str
    memory_gb: float
    """in 10⁹ bytes, as the makers count: a T4 has 15 GiB, and is sold as 16 GB"""
    used_gb: float | None = None
    """None: it does not say"""
    busy: float | None = None
    """share of the time in which it computes"""
    numa: int | None = None
    links: tuple[int, ...] = ()
    """indices of the cards that it reaches over NVLink"""
    processes: tuple[int, ...] = ()
    """that compute on it"""
    trouble: str = ""
    """why it must not be handed out"""
    figures: Figures = UNKNOWN
    resource: str = ""
    """in a cluster: what a pod asks for to get one like it"""
    pods: tuple[str, ...] = ()
    """that have it: in a cluster nobody tells processes"""

    @property
    def used(self) -> bool:
        return bool(self.processes or self.pods)

    @property
    def sort(self) -> tuple[str, str, float, str]:
        """Cards of one sort may serve one request."""
        return self.maker, self.kind, self.memory_gb, self.resource


@dataclass(frozen=True, slots=True)
class Use:
    """So many of a node's cards, nobody says which."""

    resource: str
    count: int
    pod: str = ""
    """that has them"""
    allocation: str = ""
    """that the pod names as its own"""
    trouble: str = ""
    """why nobody can have them"""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    cards: tuple[Card, ...]
    uses: tuple[Use, ...] = ()


class Inventory(Protocol):
    def look(self) -> Sequence[Node]:
        """As it is now. Raises MachineError with the reason if nothing can be said."""
        ...


@runtime_checkable
class Followed(Inventory, Protocol):
    """One that tells by itself that something has changed."""

    def follow(self, changed: Callable[[], None]) -> None: ...

    def close(self) -> None: ...


def load(cards: Iterable[Card]) -> Mapping[str, float]:
    """Shares of 1, as the wire calls them."""
    busy = memory = used = number = 0.0
    for card in cards:
        number += 1
        busy += card.busy or 0.0
        memory += card.memory_gb
        used += card.used_gb or 0.0
    return {
        "gpu_utilization": round(busy / number, 3) if number else 0.0,
        "gpu_memory_usage": round(used / memory, 3) if memory else 0.0,
    }
