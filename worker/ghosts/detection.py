"""What a detector saw in one frame: one box for each thing, a rider and what he rides being one thing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from worker.ghosts.incident import Box, ObjectKind

CYCLES = frozenset({"bicycle", "motorcycle"})
VEHICLES = frozenset({"car", "bus", "train", "truck"})
KNOWN = CYCLES | VEHICLES | {"person"}

_SAME = 0.5
"""overlap of two boxes of one thing"""
_ALIKE = 0.7
"""overlap of one thing with two names"""
_INSIDE = 0.75
"""a box lying so much within a better one is a part of the same thing, cut off by a crop"""
_RIDDEN = 0.25
"""a cycle's share that its rider's box covers"""


@dataclass(frozen=True, slots=True)
class Detection:
    box: Box
    score: float
    """0 to 1, as the model says"""
    label: str
    """one of KNOWN, or rider"""

    @property
    def kind(self) -> ObjectKind:
        if self.label in VEHICLES:
            return "vehicle"
        return "person" if self.label == "person" else "rider"

    @property
    def is_light(self) -> bool:
        """Not enclosed by a car's body."""
        return self.label not in VEHICLES


def merge(found: Iterable[Detection]) -> list[Detection]:
    """Those that show the same thing become one: the best one's word, and the mean of their boxes."""
    groups: list[list[Detection]] = []
    for one in sorted(found, key=lambda each: -each.score):
        same = next((group for group in groups if _same(one, group[0])), None)
        if same is None:
            groups.append([one])
        else:
            same.append(one)
    return _riders([_mean(group) for group in groups])


def _same(one: Detection, better: Detection) -> bool:
    shared = one.box.shared(better.box)
    if not shared:
        return False
    area, other = one.box.width * one.box.height, better.box.width * better.box.height
    overlap = shared / (area + other - shared)
    if one.is_light != better.is_light or (
        one.label != better.label and "person" in (one.label, better.label)
    ):
        return overlap > _ALIKE
    return overlap > _SAME or shared > _INSIDE * area


def _mean(group: Sequence[Detection]) -> Detection:
    best = group[0]
    near = [one for one in group if one is best or one.box.overlap(best.box) > _SAME]
    if len(near) == 1:
        return best
    total = sum(one.score for one in near)
    left = sum(one.score * one.box.left for one in near) / total
    top = sum(one.score * one.box.top for one in near) / total
    width = sum(one.score * one.box.width for one in near) / total
    height = sum(one.score * one.box.height for one in near) / total
    return replace(best, box=Box(left, top, width, height))


def covered(one: Box, by: Box) -> float:
    """The share of the one that the other covers."""
    area = one.width * one.height
    return one.shared(by) / area if area > 0 else 0.0


def _riders(found: Sequence[Detection]) -> list[Detection]:
    """Each cycle takes the person over it."""
    people = [one for one in found if one.label == "person"]
    rest = [one for one in found if one.label not in CYCLES and one.label != "person"]
    for cycle in (one for one in found if one.label in CYCLES):
        on_it = [one for one in people if _rides(one.box, cycle.box)]
        people = [one for one in people if one not in on_it]
        if on_it:
            box = reduce(around, (one.box for one in on_it), cycle.box)
            cycle = Detection(box, max(one.score for one in (cycle, *on_it)), "rider")
        rest.append(cycle)
    return [*rest, *people]


def _rides(person: Box, cycle: Box) -> bool:
    middle = person.left + person.width / 2
    above = cycle.top - person.height * 0.8 <= person.top <= cycle.top + cycle.height * 0.5
    size = person.height < 3 * cycle.height and person.width < 2 * cycle.width
    touching = covered(cycle, person) > _RIDDEN or covered(person, cycle) > _RIDDEN
    return cycle.left <= middle <= cycle.right and above and size and touching


def around(one: Box, other: Box) -> Box:
    left, top = min(one.left, other.left), min(one.top, other.top)
    right, bottom = max(one.right, other.right), max(one.bottom, other.bottom)
    return Box(left, top, right - left, bottom - top)
