"""The loop: claim → prepare → answer → parts → done, on a memory store, with tasks that misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.fakes import Bench, answered
from tests.workers import PATIENCE_S, eventually
from worker import signs
from worker.clock import Clock
from worker.device import Device
from worker.errors import ItemError, MachineError, StoreFullError, UnfinishedError
from worker.items import UNANSWERED, Answer, Failure, Item, Result
from worker.looking import Looking
from worker.loop import Loop
from worker.passing import Passing
from worker.pool import Prepared
from worker.queue import layout
from worker.queue.answers import read_done
from worker.queue.inbox import Inbox
from worker.queue.shards import cut
from worker.tasks.task import MapTask, Params


class Told(MapTask[Params, Item]):
    """Answers by a function that the test gives."""

    name = "told"
    about = "for tests"
    takes = "values"

    def __init__(self, tell: Callable[[Item], Answer | Failure]) -> None:
        super().__init__(Params())
        self.tell = tell
        self.batches: list[list[str]] = []

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        self.batches.append([item.input for item in samples])
        return [self.tell(item) for item in samples]


def fine(item: Item) -> Answer:
    return Answer({"said": item.input})


class Factory:
    """A loop over a bench's queue."""

    def __init__(
        self,
        bench: Bench,
        task: Told,
        *,
        batch: int | None = 1,
        pool: Passing | None = None,
        device: Callable[[Told, int | None], Device] = Device,
        **settings: Any,
    ) -> None:
        self.bench, self.task = bench, task
        self.pool = pool or Passing()
        self.device = device(task, batch)
        claims = bench.worker("a")
        inbox = Inbox(bench.store, 4, bench.ttl, Clock(), lambda _: ([], []))  # type: ignore[arg-type]
        self.told: list[dict[str, Any]] = []
        looks = {name: settings.pop(name) for name in ("follow", "idle_exit_s") if name in settings}
        settings = {"ahead": 4, "flush_s": 5.0} | settings
        looking = Looking(claims, inbox, **looks)
        self.loop = Loop(self.device, looking, self.pool, self.told.append, worker="a", **settings)

    def run(self) -> dict[str, Result]:
        self.loop.run()
        return self.results()

    def results(self) -> dict[str, Result]:
        store: Any = self.bench.store
        names = [layout.shard_of(entry.name) for entry in store.list(layout.DONE)]
        return {r.input: r for name in names for r in read_done(store, name).answers.values()}


def kinds(results: dict[str, Result]) -> dict[str, str]:
    return {r.input: getattr(r.outcome, "kind", "ok") for r in results.values()}


def test_every_item_of_every_shard_is_answered_in_the_order_given() -> None:
    task = Told(fine)
    results = Factory(Bench(items=10, shard_size=4), task, batch=3).run()
    assert len(results) == 10
    assert all(result.outcome.keys["said"] == result.input for result in results.values())  # type: ignore[union-attr]
    assert max(map(len, task.batches)) == 3


def test_when_a_batch_fails_as_a_whole_only_the_guilty_item_fails() -> None:
    def tell(item: Item) -> Answer:
        if item.input == "002":
            raise ValueError("no such colour")
        return fine(item)

    results = Factory(Bench(items=4, shard_size=4), Told(tell), batch=4).run()
    assert kinds(results) == {"000": "ok", "001": "ok", "002": "error", "003": "ok"}
    failure = results["002"].outcome
    assert isinstance(failure, Failure)
    assert "ValueError: no such colour (test_loop.py:" in failure.message


def test_a_task_may_say_by_kind_why_an_item_fails() -> None:
    def tell(item: Item) -> Answer:
        raise ItemError("blurred", f"{item.input} is out of focus")

    assert kinds(Factory(Bench(items=1), Told(tell)).run()) == {"000": "blurred"}


def test_too_few_answers_are_an_error_and_not_a_shift() -> None:
    task = Told(fine)
    task.answer = lambda _: []  # type: ignore[method-assign, assignment]
    assert set(kinds(Factory(Bench(items=2, shard_size=2), task, batch=2).run()).values()) == {"error"}


def test_an_answer_that_is_no_json_fails_its_item_alone() -> None:
    def tell(item: Item) -> Answer:
        return Answer({"odd": float("nan")}) if item.input == "001" else fine(item)

    assert kinds(Factory(Bench(items=3, shard_size=3), Told(tell), batch=3).run())["001"] == "error"


def test_a_fault_of_the_machine_is_tried_again_and_is_no_answer() -> None:
    faults = iter([True, False])

    def tell(item: Item) -> Answer:
        if item.input == "001" and next(faults):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return fine(item)

    assert set(kinds(Factory(Bench(items=3, shard_size=3), Told(tell)).run()).values()) == {"ok"}


def test_faults_of_the_machine_in_several_items_in_a_row_stop_the_worker_and_fail_no_item() -> None:
    def tell(_: Item) -> Answer:
        raise RuntimeError("CUDA error: device-side assert triggered")

    bench = Bench(items=8, shard_size=8)
    factory = Factory(bench, Told(tell))
    with pytest.raises(MachineError, match="this machine is ill"):
        factory.loop.run()
    factory.loop.hand_back()
    assert not factory.results()
    assert bench.store.head(layout.released(bench.shards[0].name, 1))
    assert len(bench.take(bench.worker("b")).left()) == 8


def test_an_item_that_alone_makes_the_machine_fail_is_failed_in_the_end() -> None:
    def tell(item: Item) -> Answer:
        if item.input == "001":
            raise OSError(5, "Input/output error")
        return fine(item)

    assert kinds(Factory(Bench(items=3, shard_size=3), Told(tell)).run())["001"] == "system"


def test_an_item_that_stands_in_two_shards_in_hand_is_answered_once_for_both() -> None:
    bench = Bench(items=0)
    twice = Item("x", "x")
    for shard in (*cut([twice, Item("y", "y")], 2), *cut([twice, Item("z", "z")], 2)):
        bench.store.create(layout.items(shard.name), shard.data)
    task = Told(fine)
    factory = Factory(bench, task)
    for _ in range(2):
        factory.loop._supply.taken(factory.loop._looking._claims.take_many(1))
    assert set(factory.run()) == {"x", "y", "z"}
    assert sorted(input for batch in task.batches for input in batch) == ["x", "y", "z"]


def test_short_shards_are_taken_and_committed_together() -> None:
    bench = Bench(items=120, shard_size=2)
    results = Factory(bench, Told(fine), batch=4).run()
    assert len(results) == 120
    beats = sum(name == layout.worker("a") for name in bench.store.written())
    assert beats < len(bench.shards) / 2
    assert not bench.lives["a"].heart.claims


def test_when_all_is_done_nobody_waits_for_another_look() -> None:
    factory = Factory(Bench(items=2, shard_size=2), Told(fine))
    poll, waits = factory.pool.poll, list[float]()

    def watched(timeout: float) -> list[Prepared]:
        busy = factory.device.busy or factory.pool.under_way or factory.loop._supply.taking
        if not factory.loop._looking.goes_on(busy=bool(busy)):
            waits.append(timeout)
        return poll(timeout)

    factory.pool.poll = watched  # type: ignore[method-assign]
    factory.run()
    assert not any(waits)


def test_what_is_answered_when_a_stop_comes_is_committed() -> None:
    bench = Bench(items=60, shard_size=2)
    factory = Factory(bench, Told(fine), batch=2)
    begun: set[str] = set()

    def tell(item: Item) -> Answer:
        begun.add(item.input)
        if len(begun) == 41:
            factory.loop.stop("SIGTERM")
        return fine(item)

    factory.task.tell = tell
    assert set(factory.run()) == begun
    assert not bench.lives["a"].heart.claims
    claimed = [e.name for e in bench.store.list(layout.CLAIMS)]
    held = {name.split("/")[1] for name in claimed}
    freed = {name.split("/")[1] for name in claimed if name.endswith(".released")}
    assert held - freed == {layout.shard_of(e.name) for e in bench.store.list(layout.DONE)}


def test_stop_writes_what_is_finished_and_hands_the_rest_back() -> None:
    bench = Bench(items=6, shard_size=6)
    factory = Factory(bench, Told(fine))

    def tell(item: Item) -> Answer:
        if item.input == "002":
            factory.loop.stop("SIGTERM")
        return fine(item)

    factory.task.tell = tell
    factory.loop.run()
    shard = bench.shards[0].name
    assert b'"SIGTERM"' in bench.store.get(layout.released(shard, 1))
    heir = bench.take(bench.worker("b"))
    assert [item.input for item in heir.left()] == ["003", "004", "005"]


def test_a_stop_while_idle_is_noticed_at_once() -> None:
    bench = Bench(items=0)
    factory = Factory(bench, Told(fine), follow=True)
    factory.loop._nap = lambda: 60.0  # type: ignore[method-assign]
    threading.Timer(0.2, factory.loop.stop, ["SIGTERM"]).start()
    began = time.monotonic()
    factory.loop.run()
    assert time.monotonic() - began < 60.0


def test_results_are_written_behind_while_the_shard_goes_on() -> None:
    bench = Bench(items=6, shard_size=6)
    factory = Factory(bench, Told(fine), flush_s=0.0)
    factory.run()
    assert len(bench.store.list(layout.PARTS)) >= 2


def test_nothing_is_begun_on_a_shard_that_was_taken_over_while_we_were_not_heard() -> None:
    bench = Bench(items=6, shard_size=6)
    begun: list[list[str]] = []

    def poll(timeout: float) -> list[Prepared]:
        if len(task.batches) == 2 and not begun:
            eventually(lambda: not factory.device.is_silent(float("inf")))
            begun.extend(task.batches)
            bench.clock.sleep(2 * bench.ttl)  # the machine slept
            heir = bench.wait(bench.worker("b"), 10 * bench.ttl)
            assert heir is not None
            heir.add([answered(one, "b") for one in heir.left()])
            heir.commit()
        return quiet_poll(timeout)

    factory = Factory(bench, task := Told(fine), ahead=1)
    quiet_poll = factory.pool.poll
    factory.pool.poll = poll  # type: ignore[method-assign]
    factory.run()
    assert task.batches == begun != [], "work went on after the shard was lost"
    assert bench.store.head(layout.claim(bench.shards[0].name, 2))


def test_a_commit_that_fails_ends_the_worker_though_nothing_else_is_in_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(items=4, shard_size=4)
    create = bench.store._store.create

    def full(name: str, data: bytes, *, durable: bool = True) -> bool:
        if name.startswith(layout.DONE):
            raise StoreFullError("no room")
        return create(name, data, durable=durable)

    monkeypatch.setattr(bench.store._store, "create", full)
    with pytest.raises(StoreFullError):
        Factory(bench, Told(fine)).loop.run()


def test_a_careful_shard_takes_no_result_of_another_shard_for_its_own() -> None:
    bench = Bench(items=3, shard_size=3)
    factory = Factory(bench, Told(fine), batch=3)
    factory.loop._supply.taken([bench.take_carefully(factory.loop._looking._claims)])
    factory.pool.submit(Item("foreign", "of a shard that was dropped"))
    assert set(factory.run()) == {"000", "001", "002"}
    assert factory.task.batches == [["000"], ["001"], ["002"]]


def test_a_shard_is_not_committed_before_every_item_has_an_answer() -> None:
    bench = Bench(items=2, shard_size=2)
    holding = bench.take(bench.worker("a"))
    holding.add([answered(holding.shard.items[0]), answered(Item("foreign", "x"))])
    with pytest.raises(ValueError, match="not committed"):
        holding.commit()
    assert not bench.store.list(layout.DONE)


def test_what_was_taken_is_handed_back_though_an_earlier_write_failed() -> None:
    bench = Bench(items=2, shard_size=1)
    factory = Factory(bench, Told(fine))
    (whole,), (fresh,) = (factory.loop._looking.take() for _ in range(2))
    whole.add([answered(item) for item in whole.shard.items])
    gate = threading.Event()

    def fail() -> None:
        gate.wait(PATIENCE_S)
        raise MachineError("the disk is ill")

    factory.loop._clerk.later(fail)
    gate.set()
    factory.loop._clerk.start(lambda: None).result()  # behind it
    with pytest.raises(MachineError):
        factory.loop._supply.taken([whole, fresh])
    factory.loop.hand_back()
    assert bench.store.head(layout.released(fresh.shard.name, 1))


def test_idle_exit_ends_a_worker_that_follows_though_it_keeps_looking() -> None:
    factory = Factory(Bench(items=1), Told(fine), follow=True, idle_exit_s=0.5)
    assert len(factory.run()) == 1


def test_each_item_that_is_tried_alone_is_a_sign_of_life() -> None:
    def tell(item: Item) -> Answer:
        if len(factory.task.batches[-1]) > 1:
            raise ValueError("together they are too much")
        given.append(factory.device.value)
        return fine(item)

    given: list[float] = []
    factory = Factory(Bench(items=4, shard_size=4), Told(tell), batch=4)
    assert set(kinds(factory.run()).values()) == {"ok"}
    assert given == sorted(set(given)), "two items went by in silence"


@pytest.mark.parametrize("gets_on", [True, False])
def test_a_long_answer_is_told_of_while_it_gets_on(gets_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hangs is silent, and loses its shard (test_parent.py)."""
    rounds, heard = 0, list[bool]()

    def poll(timeout: float) -> list[Prepared]:
        nonlocal rounds
        rounds += 1
        return quiet_poll(timeout)

    def go_round() -> None:
        until = rounds + 2
        eventually(lambda: factory.pool.wake() or rounds >= until)

    def tell(item: Item) -> Answer:
        go_round()  # that it was begun is a sign
        for _ in range(3):
            before = len(factory.told)
            if gets_on:
                signs.give()
            go_round()
            heard.append(len(factory.told) > before)
        return fine(item)

    factory = Factory(Bench(items=1), Told(tell))
    quiet_poll = factory.pool.poll
    monkeypatch.setattr(factory.pool, "poll", poll)
    monkeypatch.setattr(signs, "_watched", factory.device)
    monkeypatch.setattr("worker.loop.TICK_S", 0.0)
    factory.run()
    assert heard == [gets_on] * 3


class Settled(Passing):
    """Every third item needs the device; the others are answered, or have failed, where they are prepared."""

    def poll(self, timeout: float) -> list[Prepared]:
        return [self.settle(one) for one in super().poll(timeout)]

    def settle(self, one: Prepared) -> Prepared:
        number = int(one.item.input)
        outcomes: dict[int, Any] = {0: one.item, 1: fine(one.item), 2: Failure("absent", "it is gone")}
        return Prepared(one.item, outcomes[number % 3], 0.0)


def test_what_is_settled_before_the_device_takes_no_place_in_a_batch() -> None:
    factory = Factory(Bench(items=12, shard_size=12), task := Told(fine), batch=4, ahead=12, pool=Settled())
    results = factory.run()
    assert task.batches == [["000", "003", "006", "009"]]
    assert set(kinds(results).values()) == {"ok", "absent"}
    assert len(results) == 12


def test_a_batch_is_as_large_as_the_open_task_likes() -> None:
    factory = Factory(Bench(items=12, shard_size=12), task := Told(fine), batch=None)
    task.batch = 6  # open() found out
    factory.run()
    assert [len(batch) for batch in task.batches] == [6, 6]


def test_a_device_that_nothing_needs_does_not_wait() -> None:
    factory = Factory(Bench(items=3, shard_size=3), Told(fine), batch=4)
    factory.run()
    assert factory.told[-1]["waited_share"] is not None
    settled = Settled()
    settled.settle = lambda one: Prepared(one.item, fine(one.item), 0.0)  # type: ignore[method-assign]
    factory = Factory(Bench(items=3, shard_size=3), Told(fine), batch=4, pool=settled)
    factory.run()
    assert factory.told[-1]["waited_share"] is None


@pytest.mark.parametrize(("on_device", "claim", "waits"), [(0.0, 0.05, True), (0.05, 0.0, False)])
def test_a_device_waits_while_a_shard_is_taken_and_not_while_it_answers(
    on_device: float, claim: float, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(item: Item) -> Answer:
        time.sleep(on_device)
        return fine(item)

    factory = Factory(Bench(items=6, shard_size=1), Told(tell))
    looking = factory.loop._looking
    take = looking.take

    def slowly(_: int = 1) -> list[Any]:
        time.sleep(claim)
        return take(1)

    monkeypatch.setattr(looking, "take", slowly)
    factory.run()
    assert (factory.told[-1]["waited_share"] > 0.5) == waits


def test_who_finds_nothing_to_take_has_no_waiting_device(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = Factory(Bench(items=1), Told(fine), follow=True, idle_exit_s=1.0)
    looking = factory.loop._looking
    take = looking.take

    def slowly(most: int = 1) -> list[Any]:
        time.sleep(0.3 if factory.loop.counts.answered else 0.0)
        return take(most)

    monkeypatch.setattr(looking, "take", slowly)
    monkeypatch.setattr("worker.queue.claims.Claims.poll", 0.01)
    factory.run()
    assert factory.told[-1]["waited_share"] < 0.5


def test_a_batch_is_as_large_as_the_task_likes_at_the_moment() -> None:
    def tell(item: Item) -> Answer:
        task.batch = {"002": 1, "004": 3}.get(
            item.input, task.batch
        )  # memory ran out; and there is more again
        return fine(item)

    factory = Factory(Bench(items=8, shard_size=8), task := Told(tell), batch=None, ahead=8)
    task.batch = 3
    factory.run()
    assert [len(batch) for batch in task.batches] == [3, 1, 1, 3]


def test_what_a_stopped_engine_did_not_get_to_is_handed_back_and_no_failure() -> None:
    def tell(item: Item) -> Answer | Failure:
        if item.input == "002":
            factory.loop.stop("SIGTERM")
        return fine(item) if item.input < "003" else UNANSWERED

    bench = Bench(items=8, shard_size=8)
    factory = Factory(bench, Told(tell), batch=8, ahead=8)
    factory.run()
    assert factory.loop.counts.failed == 0
    assert b'"SIGTERM"' in bench.store.get(layout.released(bench.shards[0].name, 1))
    heir = bench.take(bench.worker("b"))
    assert [item.input for item in heir.left()] == ["003", "004", "005", "006", "007"]


def test_a_batch_of_which_nothing_is_answered_at_a_stop_is_handed_back_whatever_is_raised() -> None:
    def tell(_: Item) -> Answer:
        factory.loop.stop("SIGTERM")
        raise UnfinishedError("stopped before this was asked")

    bench = Bench(items=4, shard_size=4)
    factory = Factory(bench, Told(tell), batch=4)
    factory.run()
    assert len(bench.take(bench.worker("b")).left()) == 4


def test_after_a_stop_what_was_not_tried_alone_yet_is_not_tried() -> None:
    def tell(item: Item) -> Answer:
        if len(factory.task.batches) == 1:
            raise ValueError("together they are too much")
        factory.loop.stop("SIGTERM")
        return fine(item)

    bench = Bench(items=4, shard_size=4)
    factory = Factory(bench, Told(tell), batch=4)
    factory.run()
    assert len(factory.task.batches) == 2
    assert len(bench.take(bench.worker("b")).left()) == 3


def test_while_a_batch_is_on_the_device_the_next_shards_are_taken_and_prepared() -> None:
    def tell(item: Item) -> Answer:
        if len(factory.task.batches) == 1:
            eventually(lambda: factory.pool.wake() or len(factory.loop._supply._ready) >= 2)
        return fine(item)

    factory = Factory(Bench(items=8, shard_size=2), Told(tell), batch=2, ahead=4)
    assert set(kinds(factory.run()).values()) == {"ok"}


def test_what_is_settled_is_written_while_a_batch_is_on_the_device() -> None:
    def tell(item: Item) -> Answer:
        eventually(lambda: factory.loop.counts.answered == 2)
        return fine(item)

    factory = Factory(Bench(items=3, shard_size=3), Told(tell), ahead=3, pool=Settled())
    assert kinds(factory.run())["000"] == "ok"


def test_an_error_does_not_wait_long_for_a_batch_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(item: Item) -> Answer:
        gate.wait(PATIENCE_S)
        return fine(item)

    monkeypatch.setattr("worker.device.CLOSE_S", 0.05)
    gate = threading.Event()
    device = Device(Told(tell))
    device.begin([Prepared(Item("x", "x"), Item("x", "x"), 0.0)], lambda: None)
    begun = time.monotonic()
    device.close()
    assert time.monotonic() - begun < PATIENCE_S / 2
    gate.set()


def test_what_was_answered_before_the_machine_fell_ill_is_kept() -> None:
    def tell(item: Item) -> Answer:
        if item.input == "006":
            raise MachineError("the endpoint denies us")
        return fine(item)

    bench = Bench(items=8, shard_size=8)
    factory = Factory(bench, Told(tell), ahead=8)
    with pytest.raises(MachineError):
        factory.loop.run()
    factory.loop.hand_back()
    assert [item.input for item in bench.take(bench.worker("b")).left()] == ["006", "007"]
