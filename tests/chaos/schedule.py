"""What is done to the workers of a round, and when: drawn from the seed before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

BEFORE_THE_END = 0.5
"""of the work, so that the last blow still finds somebody, where those before it were long in coming too"""


class Way(StrEnum):
    MACHINE = "every process of a worker dies at once"
    LOOP = "its working process dies"
    PARENT = "its parent dies"
    FREEZE = "it stands still for longer than the TTL, and wakes up"
    MUTE = "its parent stands still, so nobody beats for it while it works on"
    LATE = "it stands still with a shard's last answer in hand, and commits when others have long done so"
    CHILD = "a process that prepares for it dies"
    STOP = "it is asked to stop"
    FULL = "the disk is full for a while"
    DROP = "somebody drops a file into the inbox"
    RETRY = "somebody asks again for all that has failed"


KILLS = (Way.MACHINE, Way.LOOP, Way.PARENT)
ZOMBIES = (Way.FREEZE, Way.MUTE, Way.LATE)


@dataclass(frozen=True, slots=True)
class Blow:
    way: Way
    commits: int
    """not before so many shards are committed"""
    gap: float
    """nor sooner than so many seconds after the blow before"""
    rank: float
    """whom it hits: 0.0 the worker that has lived longest, towards 1.0 the youngest"""
    lasts: float
    """seconds of a freeze, or of a full disk; who is late waits for the others instead"""


def few(kills: int) -> int:
    return max(1, kills // 8)


def drops(kills: int) -> int:
    """Files that come through the inbox; of late commits, full disks and retries there are as many."""
    return max(1, few(kills) // 3)


def schedule(seed: int, kills: int, shards: int, ttl: float) -> Sequence[Blow]:
    """For every eight kills a zombie, a stop and a dead child; now and then the others; all over the work."""
    chance = Random(seed)
    ways = [chance.choices(KILLS, (6, 2, 2))[0] for _ in range(kills)]
    ways += chance.choices((Way.FREEZE, Way.MUTE), (3, 1), k=few(kills))
    ways += [Way.CHILD, Way.STOP] * few(kills)
    ways += [Way.LATE, Way.FULL, Way.DROP, Way.RETRY] * drops(kills)
    chance.shuffle(ways)
    moments = sorted(chance.uniform(0, BEFORE_THE_END * shards) for _ in ways)
    return [
        Blow(
            way,
            int(moment),
            chance.uniform(0.1, 0.7),
            chance.random() ** 2,
            ttl * chance.uniform(1.2, 2.0),
        )
        for way, moment in zip(ways, moments, strict=True)
    ]
