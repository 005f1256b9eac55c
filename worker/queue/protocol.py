"""The rules by which workers share a queue: pure decisions over what was read, no I/O.

The rules and their numbers are those of docs/protocol.md.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.items import Json, Result
from worker.queue.text import dumps

SHARD_SECONDS = 60.0
SHARD_MOST = 64
SHARD_LEAST_SECONDS = 5.0
"""a shard of less work costs more to take than it is worth, on a store that is far away"""
PIECES = 128
"""as many as a list is cut into, at least: several for each of some dozens of workers"""
MEASURED_LEAST = 20
"""answers before what items took is believed more than the task's estimate"""
DEATHS_BEFORE_CARE = 2
CAREFUL_DEATHS_OF_AN_ITEM = 2


def shard_size(seconds_per_item: float, seconds: float = SHARD_SECONDS) -> int:
    """Rule 8: about a minute of work, so that slow items leave a small tail."""
    return max(1, min(SHARD_MOST, round(seconds / max(seconds_per_item, 1e-6))))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rule 8, before anything was measured: what a task's estimate says of the size of shards."""

    usual: int
    least: int = SHARD_MOST

    @classmethod
    def of(cls, seconds_per_item: float) -> Sizes:
        return cls(shard_size(seconds_per_item), shard_size(seconds_per_item, SHARD_LEAST_SECONDS))

    def of_list(self, items: int) -> int:
        """An estimate may be wrong, so a short list is cut finer: all others would wait for one."""
        return min(self.usual, max(self.least, math.ceil(items / PIECES)))


def measured_size(frozen: int, seconds_per_item: float) -> int:
    """Rule 8, for what is brought later: by what items took, if that says twice as many or half.

    Shards of one item stay so: a job has its checkpoints to itself."""
    size = shard_size(seconds_per_item)
    return frozen if frozen == 1 or (frozen < 2 * size and size < 2 * frozen) else size


def item_id(fingerprint: str, input: str, size: int, mark: str, params: Mapping[str, Json]) -> str:
    """Rule 9: the same work under the same recipe has the same id wherever it is enqueued."""
    return hashlib.sha256(dumps([fingerprint, input, size, mark, dict(params)]).encode()).hexdigest()[:24]


@dataclass(slots=True)
class Watch:
    """Rule 3: how long a thing has stood still, by our own clock and only while we could look.

    A pause of ours, or an outage, makes one long step between two looks; it must not prove a death.
    """

    state: str = ""
    still: float = 0.0
    seen: float = 0.0

    def see(self, state: str, now: float, poll: float) -> float:
        if state != self.state:
            self.state, self.still = state, 0.0
        else:
            self.still += min(now - self.seen, 2 * poll)
        self.seen = now
        return self.still


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known of one past claim of a shard."""

    number: int
    careful: bool
    released: bool
    died: bool
    """released by the parent of a worker that died"""
    hand: tuple[str, ...]
    """the items it had begun, as its last beat or its release says"""
    progressed: bool
    """it left a part or a checkpoint"""

    @property
    def silent(self) -> bool:
        return self.died or not self.released


def needs_care(epochs: Iterable[Epoch]) -> bool:
    """Rule 7: two silent ends that brought nothing forward: the next holder goes item by item."""
    return sum(e.silent and not e.progressed for e in epochs) >= DEATHS_BEFORE_CARE


def killers(
    epochs: Iterable[Epoch], answered: frozenset[str], *, reported_only: bool = False
) -> frozenset[str]:
    """Rule 7: items in hand at two careful silent deaths; they are failed without being run.

    `reported_only`: only deaths that a parent lived to report count. A job is longer than the life of many
    a machine, and must not be blamed for a power cut."""
    blamed = [e for e in epochs if e.careful and (e.died and not e.progressed if reported_only else e.silent)]
    named = Counter(item for e in blamed for item in e.hand)
    return frozenset(i for i, n in named.items() if n >= CAREFUL_DEATHS_OF_AN_ITEM and i not in answered)


def first_answers(parts: Iterable[Sequence[Result]]) -> dict[str, Result]:
    """Rule 1: an item's answer is the first one in the order of the parts."""
    answers: dict[str, Result] = {}
    for part in parts:
        for result in part:
            answers.setdefault(result.item, result)
    return answers


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer of an item, in one done shard."""

    generation: int
    shard: str
    ok: bool

    def beats(self, other: Candidate | None) -> bool:
        """Rules 9 and 10: ok before failed, then the later generation, then the lower shard name."""
        return other is None or self.rank < other.rank

    @property
    def rank(self) -> tuple[bool, int, str]:
        """The lowest one counts."""
        return not self.ok, -self.generation, self.shard
