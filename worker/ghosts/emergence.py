"""From tracks of road users to emergences: stated rules, each a length, a time or a share with a meaning.

How far beside the car's way somebody is, is told in his own sizes: whoever stands at the roadside keeps that
number while the car comes nearer; whoever comes into the way loses it. That needs to know no camera."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from worker.ghosts.detection import VEHICLES, Detection, covered
from worker.ghosts.events import surest
from worker.ghosts.incident import Box, Evidence, Incident, ObjectKind
from worker.ghosts.scene import Scene
from worker.ghosts.tracking import Track, size

CLEAR = 0.45
"""from this score on a sighting is clear"""
SIGHTINGS = 3
"""so many clear ones it takes"""
FAST_S = 0.55
"""its growth is measured over so long"""
AFTER_S = 1.0
"""so long an incident goes on at most when it is in the way"""


@dataclass(frozen=True, slots=True)
class Rules:
    in_view_s: float = 1.25
    """longer in view than this before it is in the way: the driver could see it coming"""
    near: float = 0.14
    """its size as a share of the picture's height, when it is near"""
    beside: float = 4.0
    """its own sizes beside the middle of the picture, when it is in the way"""
    growth: float = 1.0
    """a second, when it is near: 1 is a collision in a second"""
    sure: float = 0.5
    """mean score of its three best sightings until then"""
    inside: float = 0.5
    """its own sizes from the picture's border, at first: what is driven past comes in from there"""
    from_start_s: float = 0.25
    """what is there when the clip begins did not emerge"""
    driving: float = 0.015
    """picture widths a second: who walks past a car that stands comes into nobody's way"""


RULES = {  # of the grid in tests/bench/ghosts.py, the middle of the best on all clips and views
    "balanced": Rules(),
    "high": Rules(in_view_s=2.5, near=0.12, beside=4.0, growth=0.3, sure=0.45, inside=0.0),
}


@dataclass(frozen=True, slots=True)
class Path:
    """A track, and how things stood when it began."""

    track: Track
    hidden_by: Detection | None
    speed: float
    """of the picture in the second before: its own widths a second"""


def emergences(paths: Iterable[Path], scene: Scene, rules: Rules) -> list[Incident]:
    """In the order they begin, as the paths do; of several for one event the surest."""
    found = (one for path in paths if (one := emergence(path, scene, rules)) is not None)
    return list(surest(((one.evidence.confidence, one) for one in found), _one_event))


def emergence(path: Path, scene: Scene, rules: Rules) -> Incident | None:
    track, first = path.track, path.track.seen[0].box
    if track.since_s - scene.start_s < rules.from_start_s or path.speed < rules.driving:
        return None
    if min(first.left, scene.width - first.right) < rules.inside * size(first):
        return None
    early = takewhile(lambda k: track.times[k] - track.since_s <= rules.in_view_s, range(len(track.times)))
    at = next((k for k in early if _in_the_way(track, k, scene, rules)), None)
    if at is None:
        return None
    growth = _growth(track, at) or 0.0
    end_s = min(track.last_s, track.times[at] + AFTER_S)
    evidence = Evidence(
        track=tuple(one for one in track.sightings() if one.time <= end_s),
        side=scene.side(first),
        hidden_by=path.hidden_by.box if path.hidden_by else None,
        hidden_by_kind=path.hidden_by.label if path.hidden_by else None,
        expansion=growth,
        time_to_collision_s=1 / growth if growth > 0.1 else None,
        confidence=_sureness(track, at),
    )
    return Incident(track.born_s, end_s, _kind(track), evidence)


def _in_the_way(track: Track, at: int, scene: Scene, rules: Rules) -> bool:
    box = track.seen[at].box
    beside = _beside(box, scene)
    growth = _growth(track, at)
    return (
        size(box) >= rules.near * scene.height
        and box.bottom > scene.height / 2
        and beside <= rules.beside
        and beside <= _beside(track.seen[0].box, scene)
        and growth is not None
        and growth >= rules.growth
        and sum(one.score >= CLEAR for one in track.seen[: at + 1]) >= SIGHTINGS
        and _sureness(track, at) >= rules.sure
    )


def _beside(box: Box, scene: Scene) -> float:
    return abs(box.left + box.width / 2 - scene.width / 2) / size(box)


def _growth(track: Track, at: int) -> float | None:
    """Slope of the logarithm of its size; None: it was seen too seldom."""
    points = [
        (time, math.log(size(one.box)))
        for time, one in zip(track.times[: at + 1], track.seen, strict=False)
        if track.times[at] - time <= FAST_S
    ]
    if len(points) < 3:
        return None
    middle = sum(time for time, _ in points) / len(points)
    spread = sum((time - middle) ** 2 for time, _ in points)
    return sum((time - middle) * value for time, value in points) / spread


def _sureness(track: Track, at: int) -> float:
    best = sorted((one.score for one in track.seen[: at + 1]), reverse=True)[:3]
    return sum(best) / 3


def _kind(track: Track) -> ObjectKind:
    """Who is on a cycle is often taken for a person alone."""
    riding = sum(one.kind == "rider" for one in track.seen)
    return "rider" if riding >= 0.2 * len(track.seen) else "person"


def _one_event(one: Incident, other: Incident) -> bool:
    together = one.start_s <= other.end_s and other.start_s <= one.end_s
    return together and any(
        max(covered(a.box, b.box), covered(b.box, a.box)) > 0.5
        for a in one.evidence.track
        for b in other.evidence.track
        if abs(a.time - b.time) < 0.3
    )


def hider(first: Box, around: Sequence[Detection]) -> Detection | None:
    """What stood where it came from: the vehicle that it overlaps or touches, if larger, the nearest."""
    reach = size(first)
    near = [
        (gap, one)
        for one in around
        if one.label in VEHICLES
        and one.score >= CLEAR
        and size(one.box) > size(first)
        and first.overlap(one.box) < 0.5
        and (gap := _gap(first, one.box)) < reach / 2
    ]
    return min(near, key=lambda each: each[0])[1] if near else None


def _gap(one: Box, other: Box) -> float:
    across = max(one.left, other.left) - min(one.right, other.right)
    down = max(one.top, other.top) - min(one.bottom, other.bottom)
    return max(0.0, across) + max(0.0, down)
