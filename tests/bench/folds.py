"""Thresholds are chosen on all clips but one, and that one is answered with them; so with each in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from worker.evaluation.counts import confusion
from worker.ghosts.incident import Incident


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one setting makes of one clip."""

    ghost: bool
    """what is true"""
    incidents: Sequence[Incident]
    right: bool
    """one of them is about the road user that was marked"""
    hit: bool
    """one of them is near a labelled second"""
    alarms: int
    """of them begin in the calm stretch, and are about nobody that was marked"""

    @property
    def judged(self) -> tuple[bool, bool]:
        return self.ghost, bool(self.incidents)


def settings(grid: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def merit(outcomes: Sequence[Outcome]) -> float:
    """F1 where a hit for the wrong reason counts half."""
    found = confusion(one.judged for one in outcomes)
    wrong = sum(one.ghost and bool(one.incidents) and not one.right for one in outcomes)
    return (
        2 * (found.true_yes - wrong / 2) / (2 * found.true_yes - wrong / 2 + found.false_yes + found.false_no)
    )


def choose(merits: Sequence[float], grid: Mapping[str, Sequence[float]]) -> int:
    """Of the best settings the one in their middle: it has the most room to all sides."""
    steps = [
        [values.index(setting[name]) for name, values in grid.items()] for setting in settings(_listed(grid))
    ]
    best = [n for n, one in enumerate(merits) if one >= max(merits) - 1e-9]
    middle = [sum(steps[n][axis] for n in best) / len(best) for axis in range(len(grid))]
    return min(best, key=lambda n: sum((a - b) ** 2 for a, b in zip(steps[n], middle, strict=True)))


Answers = Mapping[str, Sequence[Sequence[Outcome]]]
"""of each clip: for each view of it what each setting makes of that"""


def held_out(answers: Answers, grid: Mapping[str, Sequence[float]]) -> tuple[dict[str, list[Outcome]], int]:
    """For each clip the outcomes of its views under thresholds that saw none of them; and the setting that
    was chosen most often."""
    outcomes: dict[str, list[Outcome]] = {}
    chosen: Counter[int] = Counter()
    for clip, views in answers.items():
        pick = choose(merits({name: other for name, other in answers.items() if name != clip}), grid)
        chosen[pick] += 1
        outcomes[clip] = [settings[pick] for settings in views]
    return outcomes, chosen.most_common(1)[0][0]


def merits(answers: Answers) -> list[float]:
    """Of each setting, the mean over the views."""
    views = list(zip(*answers.values(), strict=True))
    return [
        sum(merit([clip[n] for clip in view]) for view in views) / len(views) for n in range(len(views[0][0]))
    ]


def _listed(grid: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    return {name: list(values) for name, values in grid.items()}
