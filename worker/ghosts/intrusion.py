"""From trails of what moves by itself to incidents: stated rules, few, and each of them a share or a time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from worker.ghosts.events import surest
from worker.ghosts.incident import Evidence, Incident
from worker.ghosts.scene import Scene
from worker.ghosts.trails import Trail

SURE_MOST = 0.5
"""of the confidence: motion proposes, it does not know who moves"""
EARLY_S = 1.0
"""a trail is judged by its first second"""
APART_S = 1.0
"""incidents nearer to one another are one: the strongest speaks for it"""


@dataclass(frozen=True, slots=True)
class Rules:
    strength: float
    """of the drift of all of its cells, summed over its first second"""
    steps: int
    """so often was it seen in that second"""
    inside: float
    """share of the picture's width from its border to where it was first seen: others are seen coming"""
    growth: float
    """times by which its box became larger in that second"""
    speed: float
    """picture widths a second, of the background: who walks past a car that stands comes into nobody's way"""


RULES = {
    "balanced": Rules(strength=120, steps=2, inside=0.05, growth=2.5, speed=0.01),
    "high": Rules(strength=10, steps=2, inside=0.05, growth=0.0, speed=0.0),
}


def intrusions(trails: Iterable[Trail], scene: Scene, rules: Rules) -> list[Incident]:
    """In the order they begin, as the trails do."""
    found = ((strength(one), _incident(one, scene)) for one in trails if _meets(one, scene, rules))
    return list(surest(found, _near, APART_S))


def _near(one: Incident, other: Incident) -> bool:
    return one.start_s <= other.end_s + APART_S and other.start_s <= one.end_s + APART_S


def strength(trail: Trail) -> float:
    return sum(one.strength for one in trail.within(EARLY_S))


def _meets(trail: Trail, scene: Scene, rules: Rules) -> bool:
    inside = min(trail.first.left, scene.width - trail.first.right) / scene.width
    return (
        strength(trail) >= rules.strength
        and len(trail.within(EARLY_S)) >= rules.steps
        and inside >= rules.inside
        and _growth(trail) >= rules.growth
        and trail.speed >= rules.speed
    )


def _incident(trail: Trail, scene: Scene) -> Incident:
    start = trail.times[0]
    evidence = Evidence(
        track=trail.sightings(),
        side=scene.side(trail.first),
        hidden_by=trail.hidden_by,
        hidden_by_kind=None,
        expansion=round(_expansion(trail), 3),
        time_to_collision_s=None,  # a patch grows as more of it moves, not only as it comes nearer
        confidence=round(SURE_MOST * (1 - math.exp(-strength(trail) / 200)), 3),
    )
    return Incident(start, evidence.track[-1].time, "unknown", evidence)


def _growth(trail: Trail) -> float:
    """Of its box, in its first second, up to where it was largest: behind the middle it leaves again."""
    largest = max(one.box.width * one.box.height for one in trail.within(EARLY_S))
    return largest / (trail.first.width * trail.first.height)


def _expansion(trail: Trail) -> float:
    """Of its height a second, in its first one, as a share of it."""
    early = trail.within(EARLY_S)
    seconds = trail.times[len(early) - 1] - trail.times[0]
    return math.log(early[-1].box.height / early[0].box.height) / seconds if seconds > 0 else 0.0
