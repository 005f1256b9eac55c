"""All that is wrong: counted without end, and named one by one up to a limit."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields, replace

from worker.detection.dataset import Fault, writable

KEPT = 100_000
_NAMED = 3


class Faults:
    def __init__(self, first: Iterable[Fault] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self._named: defaultdict[str, list[Fault]] = defaultdict(list)
        self._kept: list[Fault] = []
        self.add(first)

    def add(self, some: Iterable[Fault]) -> None:
        for one in map(_writable, some):
            self.counts[one.check] += 1
            if len(self._named[one.check]) < _NAMED:
                self._named[one.check].append(one)
            if len(self._kept) < KEPT:
                self._kept.append(one)

    @property
    def named(self) -> Mapping[str, Sequence[Fault]]:
        """The first of each check."""
        return self._named

    @property
    def untold(self) -> int:
        return self.counts.total() - len(self._kept)

    def written(self) -> bytes:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([one.name for one in fields(Fault)])
        table.writerows(astuple(one) for one in self._kept)
        return text.getvalue().encode()


def _writable(one: Fault) -> Fault:
    return one if one.why.isascii() else replace(one, why=writable(one.why))
