"""What the workers of a round have to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.chaos.schedule import drops

SHARD = 16
"""items in a shard of the task `chaotic`"""
LEAST_SHARDS = 12
SHARDS_PER_KILL = 1.25


@dataclass(frozen=True, slots=True)
class Work:
    task: str
    inputs: Sequence[str]
    """all of them"""
    dropped: Sequence[Sequence[str]]
    """those that come through the inbox, file by file"""
    shards: int
    """as many as it is cut into, about"""

    @property
    def enqueued(self) -> Sequence[str]:
        dropped = {one for file in self.dropped for one in file}
        return [one for one in self.inputs if one not in dropped]


def values(seed: int, kills: int) -> Work:
    """Inputs whose first word says how they behave; enough of them to last for all the kills."""
    chance = Random(seed)
    shards = max(LEAST_SHARDS, round(SHARDS_PER_KILL * kills))
    behave = ("quick", "slow", "bad")
    words = [chance.choices(behave, (12, 6, 1))[0] for _ in range(SHARD * shards)]
    words[0] = "bad"
    words[SHARD - 1 :: SHARD] = ["last"] * shards
    inputs = [f"{word} {number:05d}" for number, word in enumerate(words)]
    files = [inputs[-SHARD:], *(inputs[-SHARD * n : -SHARD * (n - 1)] for n in range(2, drops(kills) + 1))]
    return Work("chaotic", inputs, files, shards)


def jobs(seed: int, kills: int) -> Work:
    """Long items with checkpoints, each a shard of its own; the first and some others fail."""
    count = max(LEAST_SHARDS, round(SHARDS_PER_KILL * kills))
    words = ["job" if number % 8 else "bad" for number in range(count)]
    inputs = [f"{word} {seed} {number:05d}" for number, word in enumerate(words)]
    return Work("chaotic-job", inputs, [[one] for one in inputs[-drops(kills) :]], count)


WORKS = {"items": values, "jobs": jobs}
