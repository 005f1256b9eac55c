"""How a card was used, in little room: the farther back, the coarser.

Only changes are kept. When a trace is full, pairs that are short for their age are drawn together, at their
mean over time: what was used stays the same however often that happens, and the room is bounded."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Mapping, Sequence
from math import isnan, nan

from worker.gpus.inventory import Card

MOST = 200
"""samples in a trace: 4 KB of a card"""
CARD = {"gpu_utilization": 1.0, "gpu_memory_usage": 1.0, "temperature_c": 100.0, "power_w": 0.0}
"""of how much a share is a change; 0: of the larger of both"""
ALL = {"held": 1.0, "gpu_utilization": 1.0, "gpu_memory_usage": 1.0}

Values = tuple[float, ...]
"""nan: unknown"""
Columns = Mapping[str, Sequence[float | None]]


def values(*told: float | None) -> Values:
    return tuple(nan if one is None else one for one in told)


def of_card(card: Card) -> Values:
    used = None if card.used_gb is None or not card.memory_gb else card.used_gb / card.memory_gb
    return values(card.busy, used, card.figures.temperature_c, card.figures.power_w)


def changed(before: Values, after: Values, scales: Iterable[float], threshold: float) -> bool:
    return any(
        isnan(old) != isnan(new) or abs(new - old) > threshold * (scale or max(abs(old), abs(new)))
        for old, new, scale in zip(before, after, scales, strict=True)
    )


class Trace:
    """Each sample holds until the next one."""

    def __init__(self, names: Sequence[str], most: int = MOST) -> None:
        self._names = names
        self._most = most
        self._times = array("I")
        self._values = array("f")

    def add(self, at: float, told: Values) -> None:
        if len(self._times) >= self._most:
            self._thin()
        self._times.append(max(int(at), self._times[-1] if self._times else 0))
        self._values.extend(told)

    def since(self, at: float) -> Columns:
        """With what held then."""
        first = max(sum(time <= at for time in self._times) - 1, 0)
        columns: dict[str, Sequence[float | None]] = {"at": list(self._times[first:])}
        for number, name in enumerate(self._names):
            told = self._values[first * len(self._names) + number :: len(self._names)]
            columns[name] = [None if isnan(one) else round(one, 3) for one in told]
        return columns

    def _thin(self) -> None:
        width, times, told = len(self._names), array("I"), array("f")
        merged = self._least_missed()
        at = 0
        while at < len(self._times):
            sample = self._values[at * width : (at + 1) * width]
            times.append(self._times[at])
            if at in merged:
                start, middle, end = self._times[at : at + 3]
                weight = (middle - start) / (end - start) if end > start else 0.5
                newer = self._values[(at + 1) * width : (at + 2) * width]
                sample = array("f", (_mean(a, b, weight) for a, b in zip(sample, newer, strict=True)))
                at += 1
            told.extend(sample)
            at += 1
        self._times, self._values = times, told

    def _least_missed(self) -> set[int]:
        """A fifth of the samples: those that are short for their age."""
        times = self._times
        short = sorted(
            range(len(times) - 2), key=lambda at: (times[at + 2] - times[at]) / (times[-1] - times[at] + 1)
        )
        chosen: set[int] = set()
        for at in short:
            if len(chosen) < self._most // 5 and not chosen & {at - 1, at, at + 1}:
                chosen.add(at)
        return chosen


def _mean(a: float, b: float, weight: float) -> float:
    if isnan(a) or isnan(b):
        return b if isnan(a) else a
    return a * weight + b * (1 - weight)


class History:
    """Of each card that tells something, and of all together."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._lock = threading.Lock()
        self._traces: dict[str, Trace] = {}
        self._last: dict[str, Values] = {}
        self._all = Trace(tuple(ALL))
        self._last_all: Values = (nan,) * len(ALL)

    def note(self, at: float, cards: Iterable[Card]) -> list[Card]:
        """Those that changed enough to be told. Cards that are gone are forgotten."""
        told: list[Card] = []
        last: dict[str, Values] = {}
        with self._lock:
            for card in cards:
                now, before = of_card(card), self._last.get(card.uuid, (nan,) * len(CARD))
                if changed(before, now, CARD.values(), self._threshold):
                    self._traces.setdefault(card.uuid, Trace(tuple(CARD))).add(at, now)
                    told.append(card)
                    before = now
                last[card.uuid] = before
            self._last = last
            self._traces = {uuid: trace for uuid, trace in self._traces.items() if uuid in last}
        return told

    def note_all(self, at: float, *told: float | None) -> None:
        now = values(*told)
        with self._lock:
            if changed(self._last_all, now, ALL.values(), self._threshold):
                self._last_all = now
                self._all.add(at, now)

    def of(self, uuids: Iterable[str], since: float) -> Mapping[str, Columns]:
        with self._lock:
            return {uuid: self._traces[uuid].since(since) for uuid in uuids if uuid in self._traces}

    def of_all(self, since: float) -> Columns:
        with self._lock:
            return self._all.since(since)
