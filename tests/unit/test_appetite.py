"""When the next shard is asked for: the device never waits for it, and others find what they could do."""

from __future__ import annotations

import pytest

from worker.appetite import Appetite


def seasoned(answer: float, prepare: float, *, claim: float = 0.2, children: int = 8) -> Appetite:
    """A worker that has answered some items."""
    appetite = Appetite(children, 1.0)
    for _ in range(10):
        appetite.prepared(prepare, needs_device=True)
        appetite.answered(answer)
        appetite.claimed(claim)
    return appetite


def enough(appetite: Appetite, *, batch: int = 1, on_device: int = 0, busy_s: float = 0.0) -> int:
    """So many items in hand that no other shard is wanted."""
    return next(n for n in range(10_000) if not appetite.wants(n, batch, on_device, busy_s))


def test_a_slow_device_asks_while_it_has_its_last_item_and_just_in_time() -> None:
    appetite = seasoned(answer=20.0, prepare=2.0)
    assert not appetite.wants(1, batch=1, on_device=1, busy_s=0.0)
    assert not appetite.wants(0, batch=1, on_device=1, busy_s=16.0)
    assert appetite.wants(0, batch=1, on_device=1, busy_s=17.0)
    assert appetite.wants(0, batch=1, on_device=0, busy_s=0.0)


def test_what_overruns_far_is_not_expected_to_end_soon() -> None:
    appetite = seasoned(answer=20.0, prepare=2.0)
    assert appetite.wants(0, batch=1, on_device=1, busy_s=22.0)
    assert not appetite.wants(0, batch=1, on_device=1, busy_s=100.0)


def test_where_a_claim_takes_no_time_nothing_is_held_back_from_others() -> None:
    appetite = seasoned(answer=20.0, prepare=0.1)
    assert not appetite.wants(0, batch=1, on_device=1, busy_s=19.0)
    assert appetite.wants(0, batch=1, on_device=0, busy_s=0.0)


def test_by_the_end_of_a_batch_the_next_one_is_in_hand() -> None:
    appetite = seasoned(answer=0.125, prepare=1.3, children=16)
    assert enough(appetite, batch=64, on_device=64, busy_s=8.0) > 64 + 8  # prepared meanwhile: 1.3 s of them
    assert enough(appetite, batch=64, on_device=64, busy_s=0.0) < 64 / 2


def test_a_store_that_is_far_away_is_asked_earlier() -> None:
    near, far = (seasoned(answer=0.1, prepare=0.0, claim=claim) for claim in (0.01, 3.0))
    assert (enough(near), enough(far)) == (2, 32)


def test_before_the_first_claim_it_is_taken_to_be_far_away() -> None:
    assert enough(Appetite(8, 0.1)) == 51


def test_children_who_take_long_are_all_fed() -> None:
    assert enough(seasoned(answer=0.1, prepare=20.0)) == 9


def test_items_that_are_settled_where_they_are_prepared_do_not_wait_for_the_device() -> None:
    appetite = seasoned(answer=20.0, prepare=8.0)
    for _ in range(64):
        appetite.prepared(8.0, needs_device=False)
    assert enough(appetite) == 10


@pytest.mark.parametrize(("estimate", "wanted"), [(0.1, True), (20.0, False)])
def test_before_the_first_answer_the_tasks_estimate_counts(estimate: float, wanted: bool) -> None:
    assert Appetite(8, estimate).wants(3, batch=1, on_device=0, busy_s=0.0) == wanted


@pytest.mark.parametrize(("answer", "batches"), [(1e-5, 64), (0.001, 2), (0.5, 1)])
def test_batches_that_take_no_time_go_to_the_device_together(answer: float, batches: int) -> None:
    assert seasoned(answer=answer, prepare=0.0).batches(10) == batches
