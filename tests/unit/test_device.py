"""The thread that has the device: what it says of itself, and what it lets go."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from tests.fakes import Bench
from tests.unit.test_loop import Factory, Told, fine
from tests.workers import PATIENCE_S, eventually
from worker.device import Device
from worker.errors import StoreFullError
from worker.items import UNANSWERED, Answer, Failure, Item
from worker.pool import Prepared
from worker.queue import layout


def samples(*inputs: str) -> list[Prepared]:
    items = [Item(f"id{input}", input) for input in inputs]
    return [Prepared(item, item, 0.0) for item in items]


def answered(device: Device, *inputs: str) -> Sequence[Answer | Failure]:
    rung = threading.Event()
    device.begin(samples(*inputs), rung.set)
    assert rung.wait(PATIENCE_S)
    (batch,) = device.collect()
    return batch.outcomes


class Slow(Told):
    """Knows what it spent once it is open."""

    opens = threading.Event()

    def open(self, device: str) -> None:
        assert self.opens.wait(PATIENCE_S)
        self.about_device = device

    def spent(self) -> dict[str, Any]:
        return {"on": self.about_device}


def test_who_is_stopped_while_the_model_loads_has_spent_nothing_and_ends_in_good_order() -> None:
    factory = Factory(Bench(items=1), task := Slow(fine))
    opening = threading.Thread(target=factory.device.open, args=["cuda"])
    opening.start()
    factory.loop.stop("SIGTERM")
    factory.loop.hand_back()
    assert factory.loop.handed_back.is_set()
    assert "spent" not in factory.told[-1]
    task.opens.set()
    opening.join(PATIENCE_S)
    assert factory.device.spent() == {"on": "cuda"}


class Load:
    """What a batch holds on a card."""


def test_what_a_failed_batch_held_is_gone_before_its_items_are_tried_alone() -> None:
    alive: list[bool] = []
    held: list[weakref.ref[Load]] = []

    class Heavy(Told):
        def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
            load = Load()
            if len(samples) > 1:
                held.append(weakref.ref(load))
                raise RuntimeError("together they are too much")
            alive.append(held[0]() is not None)
            return super().answer(samples)

    assert all(isinstance(one, Answer) for one in answered(Device(Heavy(fine), 3), "a", "b", "c"))
    assert alive == [False] * 3


def test_that_a_batch_begins_is_a_sign_of_life_and_its_silence_is_noticed() -> None:
    gate = threading.Event()

    def tell(item: Item) -> Answer:
        gate.wait(PATIENCE_S)
        return fine(item)

    device = Device(Told(tell))
    device.begin(samples("a"), lambda: None)
    begun = device.value
    assert begun > 0.0
    assert not device.is_silent(begun - 1.0)
    assert device.is_silent(begun)
    gate.set()
    eventually(device.collect)
    assert not device.is_silent(begun)


def test_a_stop_is_told_to_the_task_that_answers() -> None:
    class Stoppable(Told):
        stopped = threading.Event()

        def stop(self) -> None:
            self.stopped.set()

        def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
            assert self.stopped.wait(PATIENCE_S)
            return [UNANSWERED] * len(samples)

    device = Device(Stoppable(fine))
    rung = threading.Event()
    device.begin(samples("a"), rung.set)
    device.stop()
    assert rung.wait(PATIENCE_S)
    assert device.collect()[0].outcomes == [UNANSWERED]


def held_back(bench: Bench) -> tuple[Factory, threading.Event, threading.Thread, list[BaseException]]:
    """A loop whose thread stands where it is about to write what it was answered."""
    factory = Factory(bench, Told(fine), batch=4)
    judge, goes_on, stands = factory.loop._faults.judge, threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def slowly(results: Any, *, stopping: bool) -> Any:
        if results:
            stands.set()
            assert goes_on.wait(PATIENCE_S)
        return judge(results, stopping=stopping)

    def run() -> None:
        try:
            factory.loop.run()
        except BaseException as error:
            raised.append(error)

    factory.loop._faults.judge = slowly  # type: ignore[method-assign]
    thread = threading.Thread(target=run)
    thread.start()
    assert stands.wait(PATIENCE_S)
    return factory, goes_on, thread, raised


def test_who_is_handed_back_while_it_writes_ends_without_an_error() -> None:
    factory, goes_on, thread, raised = held_back(bench := Bench(items=4, shard_size=4))
    factory.loop.stop("SIGTERM")
    factory.loop.hand_back()
    goes_on.set()
    thread.join(PATIENCE_S)
    assert not raised
    assert not factory.results()
    assert len(bench.take(bench.worker("b")).left()) == 4


def test_a_store_that_is_full_when_work_is_handed_back_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(items=2, shard_size=2)
    create = bench.store._store.create

    def full(name: str, data: bytes, *, durable: bool = True) -> bool:
        if name.endswith(".released"):
            raise StoreFullError("no room")
        return create(name, data, durable=durable)

    monkeypatch.setattr(bench.store._store, "create", full)
    factory = Factory(bench, Told(fine))
    factory.loop._supply.taken(factory.loop._looking.take())
    factory.loop.stop("SIGTERM")
    with pytest.raises(StoreFullError):
        factory.loop.run()
    factory.loop.give_up()
    assert bench.store.list(layout.CLAIMS)


class Patient(Told):
    """Answers when it may, unless it is stopped before."""

    def __init__(self) -> None:
        super().__init__(fine)
        self.begun, self.may, self.stopped = threading.Event(), threading.Event(), threading.Event()

    def stop(self) -> None:
        self.stopped.set()
        self.may.set()

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        self.begun.set()
        assert self.may.wait(PATIENCE_S)
        return [UNANSWERED] * len(samples) if self.stopped.is_set() else super().answer(samples)


@pytest.mark.parametrize("in_time", [True, False])
def test_what_is_on_the_device_when_the_money_ends_is_answered_if_there_is_time(in_time: bool) -> None:
    factory = Factory(bench := Bench(items=4, shard_size=4), task := Patient(), batch=2)
    loop = threading.Thread(target=factory.loop.run)
    loop.start()
    assert task.begun.wait(PATIENCE_S)
    factory.loop.finish("the money is spent", PATIENCE_S if in_time else 0.0)
    if in_time:
        assert not task.stopped.is_set()
        task.may.set()
    loop.join(PATIENCE_S)
    assert not loop.is_alive()
    left = [item.input for item in bench.take(bench.worker("b")).left()]
    assert left == (["002", "003"] if in_time else ["000", "001", "002", "003"])
    assert factory.loop.counts.failed == 0
