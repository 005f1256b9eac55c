"""Frame rates from frame times."""

from __future__ import annotations

import pytest

from worker.media.pace import Pace


def pace(times: list[float]) -> Pace:
    seen = Pace()
    for time in times:
        seen.see(time)
    return seen


def test_times_rounded_to_milliseconds_are_a_constant_rate() -> None:
    seen = pace([round(n / 29.97, 3) for n in range(200)])
    assert not seen.variable
    assert seen.rate(29.97) == 29.97


def test_every_second_frame_late_is_a_variable_rate() -> None:
    seen = pace([n * 0.04 + (n % 2) * 0.015 for n in range(50)])
    assert seen.variable
    assert seen.rate(90000) == pytest.approx(25, abs=0.5)


def test_one_hiccup_is_not_a_variable_rate() -> None:
    assert not pace([n * 0.04 + (0.03 if n > 25 else 0) for n in range(200)]).variable


def test_a_long_gap_is_a_hole_with_its_place() -> None:
    seen = pace([n * 0.04 for n in range(50)] + [5 + n * 0.04 for n in range(50)])
    assert seen.has_hole
    assert seen.hole == pytest.approx((1.96, 3.04))
    assert not seen.variable


def test_a_slide_every_two_seconds_is_slow_not_full_of_holes() -> None:
    assert not pace([2.0 * n for n in range(10)]).has_hole


def test_a_nominal_rate_that_the_frames_deny_is_not_believed() -> None:
    assert pace([n * 0.04 for n in range(100)]).rate(1000) == pytest.approx(25)
