"""Yes and no against the truth: counts, rates, and how far chance alone may have moved them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_Z = 1.959963984540054
_DRAWS = 4000
_SEED = 20170
_UNSEEN = 0.5
"""what each count begins with (Jeffreys): three clips that are all right prove no rate of 1"""

Interval = tuple[float, float]
Judged = tuple[bool, bool]
"""what is true, what was said"""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts; or weights, where chance is played through."""

    true_yes: float
    false_yes: float
    false_no: float
    true_no: float

    @property
    def total(self) -> float:
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


def wilson(part: float, whole: float) -> Interval | None:
    """95 % interval of a share."""
    if not whole:
        return None
    rate, z2 = part / whole, _Z * _Z
    middle = (rate + z2 / (2 * whole)) / (1 + z2 / whole)
    reach = _Z * math.sqrt(rate * (1 - rate) / whole + z2 / (4 * whole * whole)) / (1 + z2 / whole)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def jeffreys(found: Confusion, figure: Callable[[Confusion], float | None]) -> Interval | None:
    """95 % interval of any figure: where it lies under shares that these counts let expect, always the same
    draws of them."""
    value = figure(found)
    if value is None:
        return None
    draw = random.Random(_SEED)
    counts = found.true_yes, found.false_yes, found.false_no, found.true_no
    drawn = (Confusion(*(draw.gammavariate(one + _UNSEEN, 1) for one in counts)) for _ in range(_DRAWS))
    figures = sorted(one for each in drawn if (one := figure(each)) is not None)
    return min(value, figures[int(0.025 * _DRAWS)]), max(value, figures[int(0.975 * _DRAWS)])
