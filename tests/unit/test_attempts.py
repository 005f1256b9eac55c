"""When a job that raised is tried again: a decision over steps."""

from __future__ import annotations

from worker.jobs.attempts import Attempts

NOTHING = -1


def test_the_first_error_is_tried_again_even_without_a_checkpoint() -> None:
    attempts = Attempts()
    assert attempts.again(NOTHING)
    assert not attempts.again(NOTHING)
    assert attempts.count == 2


def test_progress_is_a_later_step_and_no_mere_checkpoint() -> None:
    attempts = Attempts()
    assert [attempts.again(step) for step in (10, 20, 30, 30)] == [True, True, True, False]
    assert attempts.count == 4


def test_the_way_back_to_where_it_was_is_no_progress() -> None:
    attempts = Attempts()
    assert [attempts.again(step) for step in (30, 30)] == [True, False]
    assert not attempts.again(20)
