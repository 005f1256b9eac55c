"""Thresholds never see the clip that they are scored on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench.folds import Outcome, choose, held_out, merit, merits, settings
from tests.bench.ghosts import Case
from tests.marks import Box, Clip, Confidence, Event, Mark
from worker.ghosts.incident import Box as SightedBox
from worker.ghosts.incident import Evidence, Incident, Sighting

GRID = {"a": [1.0, 2.0, 3.0]}
INCIDENT: Any = object()


def outcome(ghost: bool, said: bool, *, right: bool = True) -> Outcome:
    return Outcome(ghost, [INCIDENT] * said, right and said, said, 0)


def test_a_grid_is_every_setting_once() -> None:
    assert settings({"a": [1, 2], "b": [5]}) == [{"a": 1, "b": 5}, {"a": 2, "b": 5}]


def test_a_hit_for_the_wrong_reason_counts_half() -> None:
    assert merit([outcome(True, True), outcome(False, False)]) == 1
    assert merit([outcome(True, True, right=False), outcome(False, False)]) == 2 / 3
    assert merit([outcome(True, False), outcome(False, False)]) == 0


def test_of_the_best_the_middle_one_is_taken() -> None:
    assert choose([0.8, 0.8, 0.8], GRID) == 1
    assert choose([0.1, 0.2, 0.8], GRID) == 2


def test_a_clip_has_no_say_in_its_own_thresholds() -> None:
    """Setting 0 suits the odd clip alone; all others want setting 2."""
    odd = [outcome(True, True), outcome(True, False), outcome(True, False)]
    usual = [outcome(True, False), outcome(True, False), outcome(True, True)]
    answers = {"odd": [odd], "one": [usual], "two": [usual], "three": [usual]}
    outcomes, often = held_out(answers, GRID)
    assert often == 2
    assert [bool(outcomes[clip][0].incidents) for clip in answers] == [False, True, True, True]


def test_merits_are_the_mean_over_the_views() -> None:
    yes, no = outcome(True, True), outcome(True, False)
    assert merits({"clip": [[yes, no], [yes, yes]]}) == [1.0, 0.5]


@pytest.mark.parametrize(
    ("start_s", "end_s", "left", "alarms"),
    [(0.5, 1.7, 700, 1), (0.2, 1.0, 700, 1), (0.5, 2.0, 100, 0), (1.4, 1.7, 700, 0)],
    ids=["goes on behind the calm", "ends in it", "the right one, marked late", "begins behind it"],
)
def test_an_alarm_is_what_begins_while_it_is_calm(
    start_s: float, end_s: float, left: float, alarms: int
) -> None:
    mark = Mark(Event.FIRST_SEEN, 1.8, Box(100, 300, 50, 100), "person", None, None, Confidence.HIGH, "")
    case = Case(Clip("a.avi", (mark,)), Path("a.avi"), (2.0,), overlap=0.3, earliest_s=0.25)
    track = tuple(Sighting(time, SightedBox(left, 300, 50, 100)) for time in (start_s, 1.8))
    evidence = Evidence(track, "left", None, None, 0.0, None, 0.5)
    assert case.outcome([Incident(start_s, end_s, "person", evidence)]).alarms == alarms
    assert case.exposed_s == pytest.approx(1.05)
