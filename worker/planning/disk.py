"""What lies on a disk, from which step of the work to which: what may be deleted when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

ENVIRONMENT = 10e9
"""torch with CUDA, transformers and their friends, the code, a pip cache"""


@dataclass(frozen=True, slots=True)
class Kept:
    name: str
    size: float
    steps: Sequence[str]
    """in which it is needed; empty: in all"""
    cached: bool = False
    """by the hub, which may hold it already"""

    def is_there(self, step: str) -> bool:
        return not self.steps or step in self.steps

    @property
    def told(self) -> str:
        return f"may be deleted once {self.steps[-1]} is done" if self.steps else "stays"


@dataclass(frozen=True, slots=True)
class Disk:
    kept: Sequence[Kept]
    step: str = ""
    """that the plan is for"""
    steps: Sequence[str] = ("",)

    def at(self, step: str) -> float:
        return sum(one.size for one in self.kept if one.is_there(step))

    @property
    def now(self) -> float:
        return self.at(self.step)

    def fetched(self) -> Disk:
        """Where what comes from the hub lies in its cache already."""
        return replace(self, kept=[one for one in self.kept if not one.cached])

    @property
    def most(self) -> float:
        """Of any step, if what may be deleted is."""
        return max(map(self.at, self.steps))

    @property
    def all(self) -> float:
        """If nothing is ever deleted."""
        return sum(one.size for one in self.kept)
