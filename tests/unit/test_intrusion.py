"""Trails of what moves by itself, and which of them are incidents."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from weakref import ref

import pytest

from worker.ghosts.incident import Box
from worker.ghosts.intrusion import RULES as SHIPPED
from worker.ghosts.intrusion import Rules, intrusions
from worker.ghosts.scene import Scene
from worker.ghosts.trails import LOST_STEPS, TOLD_S, Patch, Trail, Trails

SCENE = Scene(480, 200, 0.0)
RULES = Rules(strength=100, steps=3, inside=0.05, growth=1.5, speed=0.02)


def patches(start: float = 1.0, left: float = 100, count: int = 8, by: float = 4, each: float = 30) -> Trail:
    trail = Trail(speed=0.05, hidden_by=None)
    for n in range(count):
        trail.add(start + n / 10, Patch(Box(left, 80, 20 + by * n, 20 + by * n), each))
    return trail


def test_a_trail_that_meets_the_rules_is_an_incident_from_its_first_sight_to_its_last() -> None:
    (one,) = intrusions([patches()], SCENE, RULES)
    assert (one.start_s, one.end_s) == (1.0, 1.7)
    assert one.evidence.side == "left"
    assert len(one.evidence.track) == 8


@pytest.mark.parametrize(
    "trail",
    [
        patches(each=3),
        patches(count=2, each=200),
        patches(left=10),
        patches(left=465),
        patches(by=0),
        replace(patches(), speed=0.01),
    ],
    ids=["weak", "brief", "from the left border", "from the right border", "does not grow", "the car stands"],
)
def test_each_rule_can_refuse_a_trail(trail: Trail) -> None:
    assert intrusions([trail], SCENE, RULES) == []


def test_what_was_seen_twice_and_strongly_is_proposed_by_high_recall_too() -> None:
    twice = patches(count=2, by=20, each=100)
    assert [len(intrusions([twice], SCENE, rules)) for rules in SHIPPED.values()] == [1, 1]


def test_a_long_trail_is_judged_by_its_beginning_and_told_for_two_seconds() -> None:
    (one,) = intrusions([patches(count=60, by=1)], SCENE, RULES)
    assert one.end_s == pytest.approx(3.0)
    assert intrusions([patches(count=60, by=1, each=8)], SCENE, RULES) == []


def test_of_several_at_one_time_the_strongest_speaks() -> None:
    found = intrusions([patches(left=60), patches(start=1.5, left=200, each=60)], SCENE, RULES)
    assert [one.start_s for one in found] == [1.5]
    apart = intrusions([patches(), patches(start=5)], SCENE, RULES)
    assert [one.start_s for one in apart] == [1.0, 5.0]


def test_it_is_never_sure() -> None:
    weak, strong = (intrusions([patches(each=each)], SCENE, RULES)[0] for each in (30, 3000))
    assert weak.evidence.confidence < strong.evidence.confidence <= 0.5


def follow(*boxes: Sequence[Box]) -> list[Trail]:
    trails = Trails()
    for step, found in enumerate(boxes):
        for new in trails.update(step / 10, [Patch(box, 10) for box in found]):
            trails.begin(step / 10, new, Trail(1, None))
    return list(trails.told(math.inf))


A, FAR = Box(100, 80, 30, 30), Box(300, 80, 30, 30)


def test_a_patch_is_followed_while_it_moves_and_grows() -> None:
    (one,) = follow([A], [Box(108, 80, 34, 30)], [Box(110, 70, 80, 80)])
    assert one.times == [0, 0.1, 0.2]


def test_a_patch_far_away_is_another_one() -> None:
    one, other = follow([A], [A, FAR])
    assert (len(one.times), len(other.times)) == (2, 1)


@pytest.mark.parametrize(("missed", "trails"), [(LOST_STEPS, 1), (LOST_STEPS + 1, 2)])
def test_it_may_be_missed_for_some_steps(missed: int, trails: int) -> None:
    assert len(follow([A], *([[]] * missed), [A])) == trails


def test_nothing_goes_on_behind_a_cut() -> None:
    trails = Trails()
    (patch,) = trails.update(0.0, [Patch(A, 10)])
    trails.begin(0.0, patch, Trail(1, None))
    trails.cut()
    assert trails.update(0.1, [Patch(A, 10)]) == [Patch(A, 10)]


def crossing(count: int) -> Iterator[Trail]:
    """Somebody for four seconds, somebody for one step, and so on; and one who is there all the time."""
    trails = Trails()
    always = Box(10, 80, 30, 30)
    for step in range(count):
        yield from trails.told(step / 10)
        boxes = [always] + [A] * (step % 50 < 40) + [FAR] * (step % 10 == 0)
        for new in trails.update(step / 10, [Patch(box, 10) for box in boxes]):
            trails.begin(step / 10, new, Trail(1, None))
    yield from trails.told(math.inf)


def test_trails_are_told_once_in_the_order_they_begin() -> None:
    starts = [one.times[0] for one in crossing(500)]
    assert starts == sorted(starts)
    assert len(starts) == 1 + 10 + 50


def test_however_long_a_film_is_the_last_seconds_of_it_are_held() -> None:
    """Every trail that was told is let go, and none holds more than its beginning."""
    most, told = 0, []
    for trail in crossing(20_000):
        told.append(ref(trail))
        told = [one for one in told if one() is not None]
        most = max(most, len(told))
        assert len(trail.patches) <= 10 * TOLD_S + 1
    assert most <= 3
