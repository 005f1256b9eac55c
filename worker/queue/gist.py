"""The gist of some answers: how many, which kinds of failures, and how long they took."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.items import Json


@dataclass(slots=True)
class Seconds:
    """What items took, as sums: enough for a mean and a spread, and they can be added."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, seconds: float) -> None:
        self.merge(Seconds(1, seconds, seconds * seconds))

    def merge(self, other: Seconds) -> None:
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    @property
    def deviation(self) -> float:
        # the difference of two large sums may come out a little below zero
        return math.sqrt(max(0.0, self.squares / self.count - self.mean**2)) if self.count else 0.0


@dataclass(slots=True)
class Gist:
    """Written into done records, so that a look at a queue needs no results."""

    answered: int = 0
    """failures included"""
    failed: Counter[str] = field(default_factory=Counter)
    """by kind"""
    seconds: Seconds = field(default_factory=Seconds)

    def add(self, kind: str | None, seconds: float | None) -> None:
        """One answer; `kind` is its failure's, if it is one."""
        self.answered += 1
        if kind is not None:
            self.failed[kind] += 1
        if seconds is not None:
            self.seconds.add(seconds)

    def take_back(self, kind: str | None, seconds: float | None) -> None:
        """An answer that was added and counts no longer."""
        self.answered -= 1
        if kind is not None:
            self.failed[kind] -= 1
        if seconds is not None:
            self.seconds.merge(Seconds(-1, -seconds, -seconds * seconds))

    def merge(self, other: Gist) -> None:
        self.answered += other.answered
        if other.failed:
            self.failed.update(other.failed)
        self.seconds.merge(other.seconds)

    def as_json(self) -> dict[str, Json]:
        sums = self.seconds
        return {
            "count": self.answered,
            "failed": dict(sorted(self.failed.items())),
            "seconds": [sums.count, round(sums.total, 6), round(sums.squares, 6)],
        }

    @classmethod
    def of(cls, record: Mapping[str, Json]) -> Gist:
        count, total, squares = record["seconds"]
        return cls(int(record["count"]), Counter(record["failed"]), Seconds(count, total, squares))
