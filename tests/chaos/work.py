"""What the workers of a round have to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

SHARD = 16
"""items in a shard of the task `chaotic`"""
LEAST_SHARDS = 16
SHARDS_PER_KILL = 1.25


@dataclass(frozen=True, slots=True)
class Work:
    task: str
    inputs: Sequence[str]
    shards: int


def values(seed: int, kills: int) -> Work:
    """Inputs whose first word says how they behave; enough of them to last for all the kills."""
    chance = Random(seed)
    shards = max(LEAST_SHARDS, round(SHARDS_PER_KILL * kills))
    behave = ("quick", "slow", "bad")
    some = [f"{chance.choices(behave, (12, 6, 1))[0]} {number:05d}" for number in range(SHARD * shards - 1)]
    return Work("chaotic", [*some, "bad one"], shards)


def jobs(seed: int, kills: int) -> Work:
    """Long items with checkpoints, each a shard of its own; the last one fails."""
    count = max(LEAST_SHARDS, round(SHARDS_PER_KILL * kills))
    return Work(
        "chaotic-job", [*(f"job {seed} {number:05d}" for number in range(count - 1)), "bad one"], count
    )


WORKS = {"items": values, "jobs": jobs}
