"""Which frames of a film are looked at."""

from __future__ import annotations

import numpy as np
import pytest

from worker.media.choice import Grid, midpoints, steps


def test_each_of_n_comes_from_the_middle_of_its_part() -> None:
    assert midpoints(450, 4) == [56, 168, 280, 393]


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 449, 450, 100_000])
def test_n_frames_are_n_in_order_and_all_of_the_film(count: int) -> None:
    chosen = midpoints(count, 32)
    assert len(chosen) == 32
    assert chosen == sorted(chosen)
    assert chosen[0] >= 0
    assert chosen[-1] < count


def test_a_film_with_fewer_frames_gives_some_of_them_again() -> None:
    assert midpoints(3, 6) == [0, 0, 1, 1, 1, 2]


def test_a_step_takes_the_frame_that_is_shown_then() -> None:
    times = np.array([0.0, 0.3, 0.35, 0.9, 1.6])
    assert steps(times, end_s=2.0, fps=2) == [0, 2, 3]


def test_no_frame_is_taken_twice_where_they_are_few() -> None:
    assert steps(np.array([0.0, 5.0, 9.0]), end_s=9.1, fps=10) == [0, 1, 2]


def test_a_jump_of_centuries_costs_nothing() -> None:
    assert steps(np.array([0.0, 0.1, 1e10]), end_s=1e10 + 1, fps=10) == [0, 1, 2]


def test_times_in_whole_milliseconds_are_no_later_than_their_points() -> None:
    times = np.array([0.0, 0.033, 0.067, 0.1, 0.133, 0.167])
    assert steps(times, end_s=0.2, fps=15) == [0, 2, 4]


def test_steps_begin_with_the_first_frame() -> None:
    assert steps(np.arange(30) / 30 + 7, end_s=8.0, fps=3) == [0, 10, 20]


def test_a_stretch_without_a_point_is_not_hit() -> None:
    grid = Grid(1.0, 2)
    assert [grid.hit(0.2, 0.9), grid.hit(0.9, 1.1), grid.hit(1.1, 1.4), grid.hit(1.4, 3)] == [
        False,
        True,
        False,
        True,
    ]
