"""What a queue has spent: this worker, others, and the machine by the hour."""

from __future__ import annotations

import threading

import pytest

from tests.fakes import HandClock, TalkativeStore
from tests.workers import eventually
from worker.errors import UnfinishedError, UsageError
from worker.purse import END_S, Purse, refuse_unpriced
from worker.queue import layout
from worker.queue.beat import Beat


@pytest.fixture
def store() -> TalkativeStore:
    return TalkativeStore()


def beat(store: TalkativeStore, worker: str, **info: float) -> None:
    store.put(layout.worker(worker), Beat(worker, 1, 60.0, info=info).encode())


def purse(store: TalkativeStore, budget: float | None = 5.0, per_hour: float | None = None) -> Purse:
    clock = HandClock()
    found = Purse(store, "me", budget=budget, per_hour=per_hour, clock=clock.now)  # type: ignore[arg-type]
    found.clock = clock  # type: ignore[attr-defined]
    return found


def test_all_workers_of_the_queue_pay_from_it_and_earlier_ones_too(store: TalkativeStore) -> None:
    beat(store, "me", paid_usd=99.0)
    beat(store, "gone", paid_usd=1.5)
    beat(store, "idle")
    store.put(layout.worker("odd"), b"no beat")
    mine = purse(store)
    mine.look()
    mine.of_calls = 2.0
    assert mine.has(1.5)
    assert not mine.has(1.51)
    beat(store, "other", paid_usd=1.5)
    mine.look()
    assert mine.has(0.0)
    assert not mine.has(0.01)


def test_only_beats_that_moved_are_read_again(store: TalkativeStore) -> None:
    beat(store, "a", paid_usd=1.0)
    beat(store, "b", paid_usd=1.0)
    mine = purse(store)
    mine.look()
    beat(store, "b", paid_usd=2.0)
    store.calls.clear()
    mine.look()
    assert [name for operation, name in store.calls if operation == "get"] == [layout.worker("b")]
    assert not mine.has(2.01)


def test_a_machine_costs_by_the_hour_and_needs_time_to_end(store: TalkativeStore) -> None:
    mine = purse(store, budget=2.0, per_hour=3.6)
    clock: HandClock = mine.clock  # type: ignore[attr-defined]
    clock.time += 1000
    assert mine.of_time == pytest.approx(1.0)
    assert mine.told({"spent": {"cost_usd": 0.25}, "item": "a"}) == {
        "spent": {"cost_usd": 1.25},
        "paid_usd": 1.0,
        "item": "a",
    }
    assert mine.has(0.9)
    clock.time += 1000 - END_S + 1
    assert not mine.has(0.0)


def test_without_a_budget_there_is_no_end(store: TalkativeStore) -> None:
    mine = purse(store, budget=None)
    mine.of_calls = 1e9
    assert mine.has(1e9)
    assert mine.told({"item": "a"}) == {"item": "a", "paid_usd": 1e9}


def test_whether_to_run_again_depends_on_whether_anything_was_done(store: TalkativeStore) -> None:
    mine = purse(store)
    mine.of_calls = 4.99
    assert isinstance(mine.over(), UnfinishedError)
    assert isinstance(mine.never_enough(), UsageError)
    assert str(mine.over(0.02)) == (
        "--budget 5 USD: 4.99 are spent, and the next question may cost 0.02; raise it to go on"
    )


def test_what_others_spend_is_looked_at_now_and_then_though_the_store_was_away(
    store: TalkativeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.purse.LOOK_S", 0.01)
    mine = purse(store)
    closed = threading.Event()
    with store.outage():
        mine.watch(closed)
        eventually(lambda: ("list", layout.WORKERS) in store.calls)
    assert mine.has(0.0)
    beat(store, "other", paid_usd=5.5)
    eventually(lambda: not mine.has(0.0))
    closed.set()


@pytest.mark.parametrize(("budget", "price"), [(None, None), (5.0, 0.9), (5.0, "2")])
def test_a_budget_with_a_price_is_taken(budget: float | None, price: object) -> None:
    refuse_unpriced(budget, price)


@pytest.mark.parametrize("price", [None, "", False])
def test_a_budget_without_any_is_refused(price: object) -> None:
    with pytest.raises(UsageError, match="--budget needs prices"):
        refuse_unpriced(5.0, price)
