"""When the next shard is taken: the device never waits for it, and other workers find what they could do."""

from __future__ import annotations

import pytest

from worker.appetite import Appetite


def seasoned(answer: float, prepare: float, *, batch: int = 1, ahead: int = 16) -> Appetite:
    """A worker that has answered some items."""
    appetite = Appetite(batch, ahead, 1.0)
    for _ in range(10):
        appetite.prepared(prepare)
        appetite.answered(answer)
    return appetite


def test_a_slow_device_with_samples_ready_leaves_shards_to_others() -> None:
    appetite = seasoned(answer=20.0, prepare=0.5)
    assert not appetite.wants(shards=1, unsent=0, waiting=3)


def test_the_next_shard_is_asked_for_while_there_is_a_batch_for_the_device_yet() -> None:
    assert seasoned(answer=20.0, prepare=2.0).wants(shards=1, unsent=0, waiting=2)
    assert seasoned(answer=5.0, prepare=2.0, batch=8, ahead=16).wants(shards=1, unsent=0, waiting=16)


def test_samples_that_take_no_time_are_not_had_in_hand_by_the_batch() -> None:
    appetite = seasoned(answer=20.0, prepare=0.1)
    assert not appetite.wants(shards=1, unsent=0, waiting=2)
    assert appetite.wants(shards=1, unsent=0, waiting=1)


def test_a_fast_device_has_two_shards_in_hand_and_never_three() -> None:
    appetite = seasoned(answer=0.001, prepare=0.002)
    assert appetite.wants(shards=1, unsent=10, waiting=26)
    assert not appetite.wants(shards=2, unsent=10, waiting=26)


def test_children_who_take_long_are_all_fed_by_small_shards() -> None:
    appetite = seasoned(answer=0.1, prepare=20.0, ahead=16)
    assert all(appetite.wants(shards=waiting, unsent=0, waiting=waiting) for waiting in range(8))


def test_nothing_is_taken_before_children_have_had_what_is_in_hand() -> None:
    assert not seasoned(answer=0.001, prepare=0.001).wants(shards=1, unsent=16, waiting=32)


@pytest.mark.parametrize(("estimate", "wanted"), [(0.1, True), (20.0, False)])
def test_before_the_first_answer_the_tasks_estimate_counts(estimate: float, wanted: bool) -> None:
    assert Appetite(1, 16, estimate).wants(shards=1, unsent=0, waiting=3) == wanted
