"""Telling what moves by itself from a world that is driven past. Flows are made up, in pixels."""

from __future__ import annotations

import numpy as np
import pytest

from worker.ghosts.drift import COLUMNS, Cells, Drift, drift
from worker.ghosts.fixtures import Step, with_fixtures

ROWS = 25
ALL = np.ones((ROWS, COLUMNS), bool)
X = np.tile((np.arange(COLUMNS) + 0.5 - COLUMNS / 2) / 12.5, (ROWS, 1))
Y = np.repeat((np.arange(ROWS) + 0.5 - ROWS / 2)[:, None] / 12.5, COLUMNS, axis=1)
BLOCK = (slice(8, 16), slice(10, 18))
"""to the left of the middle"""


def driving(pace: float = 2.0) -> tuple[Cells, Cells]:
    return pace * X, pace * Y


def seen(across: Cells, down: Cells, visible: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = ALL) -> Drift:
    found = drift(across, down, visible)
    assert found is not None
    return found


@pytest.mark.parametrize("pan", [0.0, 5.0, -5.0])
def test_a_still_world_does_not_drift(pan: float) -> None:
    across, down = driving()
    found = seen(across + pan, down + pan / 3)
    assert found.inward.max() == 0
    assert found.outward.max() == 0
    assert found.explained == 1


def test_what_comes_inwards_drifts_and_what_leaves_faster_is_nearer() -> None:
    across, down = driving()
    across[BLOCK] = 4
    found = seen(across, down)
    assert found.inward[BLOCK].min() > 1
    assert np.count_nonzero(found.inward) == found.inward[BLOCK].size
    across[BLOCK] = -12
    found = seen(across, down)
    assert found.inward.max() == 0
    assert found.outward[BLOCK].min() > 1


def test_many_nearer_things_are_not_taken_for_the_background() -> None:
    across, down = driving(1.0)
    nearer = np.abs(X) > 1.0
    across[nearer], down[nearer] = 6 * across[nearer], 6 * down[nearer]
    assert nearer.mean() > 0.5
    found = seen(across, down)
    middle = ~nearer
    assert found.inward[middle].max() < 0.5


def test_speed_is_that_of_the_background() -> None:
    assert seen(*driving(0)).speed == pytest.approx(0, abs=1e-6)
    across, down = driving()
    assert seen(across, down).speed == pytest.approx(float(np.median(np.hypot(across, down))), rel=0.01)


def test_who_fills_much_of_the_picture_is_not_the_world_while_the_car_stands() -> None:
    across, down = driving(0)
    somebody = (slice(2, 24), slice(32, 58))
    across[somebody] = np.linspace(-6, -12, 26)
    found = seen(across, down)
    assert found.speed == 0
    assert found.inward[somebody].min() > 0
    assert np.count_nonzero(found.inward) == found.inward[somebody].size


def test_too_little_to_see_tells_nothing() -> None:
    visible = np.zeros_like(ALL)
    visible[0, :20] = True
    assert drift(*driving(), visible) is None


def steps(count: int, bonnet: bool, pace: float) -> list[Step]:
    across, down = driving(pace)
    if bonnet:
        across[20:], down[20:] = 0, 0
    return [Step(n / 10, across, down, np.ones_like(across)) for n in range(count)]


def test_what_never_moves_while_the_car_drives_is_fixed_to_the_camera() -> None:
    told = list(with_fixtures(steps(40, bonnet=True, pace=2)))
    assert [step.time for step, _ in told] == [n / 10 for n in range(40)]
    for _, fixed in told:
        assert fixed[19:].all()
        assert not fixed[:19, :20].any()


def test_while_the_car_stands_nothing_is_taken_for_fixed() -> None:
    assert not any(fixed.any() for _, fixed in with_fixtures(steps(40, bonnet=True, pace=0)))
