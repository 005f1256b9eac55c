"""Yes and no against the truth: counts, rates, and how far chance alone may have moved them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_Z = 1.959963984540054
_RESAMPLES = 2000
_SEED = 20170

Interval = tuple[float, float]
Judged = tuple[bool, bool]
"""what is true, what was said"""


@dataclass(frozen=True, slots=True)
class Confusion:
    true_yes: int
    false_yes: int
    false_no: int
    true_no: int

    @property
    def total(self) -> int:
        return self.true_yes + self.false_yes + self.false_no + self.true_no

    @property
    def precision(self) -> float | None:
        return share(self.true_yes, self.true_yes + self.false_yes)

    @property
    def recall(self) -> float | None:
        return share(self.true_yes, self.true_yes + self.false_no)

    @property
    def specificity(self) -> float | None:
        return share(self.true_no, self.true_no + self.false_yes)

    @property
    def f1(self) -> float | None:
        return share(2 * self.true_yes, 2 * self.true_yes + self.false_yes + self.false_no)

    @property
    def accuracy(self) -> float | None:
        return share(self.true_yes + self.true_no, self.total)

    @property
    def balanced_accuracy(self) -> float | None:
        recall, specificity = self.recall, self.specificity
        return None if recall is None or specificity is None else (recall + specificity) / 2


def confusion(judged: Iterable[Judged]) -> Confusion:
    counts = {(True, True): 0, (False, True): 0, (True, False): 0, (False, False): 0}
    for one in judged:
        counts[one] += 1
    return Confusion(counts[True, True], counts[False, True], counts[True, False], counts[False, False])


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def wilson(part: int, whole: int) -> Interval | None:
    """95 % interval of a share."""
    if not whole:
        return None
    rate, z2 = part / whole, _Z * _Z
    middle = (rate + z2 / (2 * whole)) / (1 + z2 / whole)
    reach = _Z * math.sqrt(rate * (1 - rate) / whole + z2 / (4 * whole * whole)) / (1 + z2 / whole)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def bootstrap(judged: Sequence[Judged], figure: Callable[[Confusion], float | None]) -> Interval | None:
    """95 % interval of any figure: it is worked out again on clips drawn anew, always the same ones."""
    draw = random.Random(_SEED)
    figures = sorted(
        value
        for _ in range(_RESAMPLES if judged else 0)
        if (value := figure(confusion(draw.choices(judged, k=len(judged))))) is not None
    )
    if not figures:
        return None
    return figures[int(0.025 * len(figures))], figures[min(len(figures) - 1, int(0.975 * len(figures)))]
