"""What there is to plan for: sorts of cards, and how much of their memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Strategy = Literal["conservative", "aggressive", "dynamic"]

SHARES: Mapping[str, float] = {"conservative": 0.8, "aggressive": 0.95}
DYNAMIC = ((1e9, 0.95), (1e10, 0.9))
"""up to so many numbers in the model: the larger it is, the more an estimate's error weighs"""


@dataclass(frozen=True, slots=True)
class Sort:
    """Cards that are alike, and the most of them on a node."""

    kind: str
    memory_gb: float
    most: int


def share(strategy: Strategy, parameters: float | None = None) -> float:
    """`parameters`: of the model; None: nobody said which."""
    if strategy != "dynamic":
        return SHARES[strategy]
    if parameters is None:
        return SHARES["conservative"]
    return next((part for most, part in DYNAMIC if parameters < most), SHARES["conservative"])
