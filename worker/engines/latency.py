"""How long answers took: counted by length, for counts add up over workers, and percentiles do not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from threading import Lock

from worker.items import Json

_STEP = 1.05
"""one length to the next: as exactly as a percentile is told"""
_PREFIX = "took_"
_SHARES = {"p50_s": 0.5, "p95_s": 0.95}


class Latencies:
    """From the question to the answer, of each item; those of one batch wait for each other."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._batches = 0
        self._lock = Lock()

    def add(self, seconds: float, items: int) -> None:
        with self._lock:
            self._counts[round(math.log(max(seconds, 1e-6), _STEP))] += items
            self._batches += 1

    def told(self) -> dict[str, Json]:
        with self._lock:
            return {"batches": self._batches, **{f"{_PREFIX}{n}": c for n, c in sorted(self._counts.items())}}


def figures(spent: Mapping[str, Json]) -> dict[str, Json]:
    """With percentiles in place of the counts, beside what they depend on: batch and tokens said."""
    counts = {int(name.removeprefix(_PREFIX)): n for name, n in spent.items() if name.startswith(_PREFIX)}
    told = {name: value for name, value in spent.items() if not name.startswith(_PREFIX)}
    items = sum(counts.values())
    if not items:
        return told
    latency: dict[str, Json] = {
        name: float(f"{_STEP ** _at(counts, share * items):.3g}") for name, share in _SHARES.items()
    }
    latency["batch"] = round(items / spent["batches"], 1)
    latency["tokens"] = round(spent.get("generated_tokens", 0) / items, 1)
    return {**told, "latency": latency}


def _at(counts: Mapping[int, float], place: float) -> int:
    """Of the item at that place, from the shortest on."""
    passed = 0.0
    for length in sorted(counts):
        passed += counts[length]
        if passed >= place:
            return length
    return max(counts)
