"""Several answers are waited for at a time; nothing paid for is lost, nothing is asked twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.fakes import Bench
from tests.unit.test_loop import Factory, Told, fine, kinds
from tests.workers import PATIENCE_S, eventually
from worker.errors import MachineError, UnfinishedError
from worker.items import Answer, Failure, Item
from worker.pool import Prepared
from worker.rolling import Rolling


class Endpoint:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.events: dict[str, threading.Event] = {}
        self.raises: dict[str, Exception] = {}

    def answers(self, *inputs: str) -> None:
        for input in inputs:
            self._event(input).set()

    def __call__(self, item: Item) -> Answer | Failure:
        self.asked.append(item.input)
        assert self._event(item.input).wait(PATIENCE_S)
        if error := self.raises.get(item.input):
            raise error
        return fine(item)

    def _event(self, input: str) -> threading.Event:
        return self.events.setdefault(input, threading.Event())


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    for event in endpoint.events.values():
        event.set()


class AtOnce(Told):
    at_once = 2


def test_there_is_room_as_soon_as_one_is_answered(endpoint: Endpoint) -> None:
    device = Rolling(AtOnce(endpoint))
    rung = threading.Event()
    for n in range(2):
        assert not device.is_full
        item = Item(f"id{n}", f"{n:03d}")
        device.begin([Prepared(item, item, 0.0)], rung.set)
    assert device.is_full
    assert [one.item.input for one in device.hand] == ["000", "001"]
    assert device.collect() == []
    endpoint.answers("001")
    assert rung.wait(PATIENCE_S)
    (batch,) = device.collect()
    assert batch.outcomes == [Answer({"said": "001"})]
    assert device.busy
    assert not device.is_full
    assert [one.item.input for one in device.hand] == ["000"]
    endpoint.answers("000")
    eventually(device.collect)
    assert not device.busy
    device.close()


def rolled(endpoint: Endpoint, bench: Bench) -> Factory:
    return Factory(bench, AtOnce(endpoint), batch=None, device=Rolling)


def begun(factory: Factory) -> threading.Thread:
    def run() -> None:
        """As the process does."""
        try:
            factory.loop.run()
        except (MachineError, UnfinishedError) as error:
            factory.told.append({"raised": str(error)})
            factory.loop.hand_back()

    loop = threading.Thread(target=run)
    loop.start()
    return loop


def ended(loop: threading.Thread) -> bool:
    loop.join(PATIENCE_S)
    return not loop.is_alive()


def test_the_slowest_holds_nobody_up_and_nobody_is_asked_twice(endpoint: Endpoint) -> None:
    bench = Bench(items=10, shard_size=4)
    factory = rolled(endpoint, bench)
    endpoint.answers(*(f"{n:03d}" for n in range(1, 10)))
    loop = begun(factory)
    eventually(lambda: len(endpoint.asked) == 10)
    endpoint.answers("000")
    assert ended(loop)
    results = factory.results()
    assert sorted(endpoint.asked) == sorted(results)
    assert set(kinds(results).values()) == {"ok"}


def test_an_error_of_one_fails_it_alone(endpoint: Endpoint) -> None:
    endpoint.raises["001"] = ValueError("no such colour")
    endpoint.answers(*(f"{n:03d}" for n in range(4)))
    results = rolled(endpoint, Bench(items=4, shard_size=4)).run()
    assert kinds(results) == {"000": "ok", "001": "error", "002": "ok", "003": "ok"}


@pytest.mark.parametrize("by", ["stop", "trouble"])
def test_what_was_begun_is_written_however_it_ends_and_nothing_more_is_begun(
    endpoint: Endpoint, by: str
) -> None:
    bench = Bench(items=6, shard_size=6)
    factory = rolled(endpoint, bench)
    loop = begun(factory)
    eventually(lambda: len(endpoint.asked) == 2)
    if by == "stop":
        factory.loop.stop("SIGTERM")
    else:
        endpoint.raises["001"] = UnfinishedError("the money is spent")
    endpoint.answers("001")
    eventually(lambda: len(factory.device.hand) == 1)
    endpoint.answers("000", "002", "003", "004", "005")
    assert ended(loop)
    assert sorted(endpoint.asked) == ["000", "001"]
    left = {item.input for item in bench.take(bench.worker("b")).left()}
    assert left == {"002", "003", "004", "005"} | ({"001"} if by == "trouble" else set())
    assert ({"raised": "the money is spent"} in factory.told) == (by == "trouble")


@pytest.mark.parametrize("stopped", [False, True])
def test_who_waits_for_the_last_answers_does_not_go_round_meanwhile(
    endpoint: Endpoint, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = rolled(endpoint, Bench(items=4, shard_size=4))
    polled, waits = factory.pool.poll, list[float]()

    def poll(timeout: float) -> list[Prepared]:
        if len(factory.device.hand) == 1 and (stopped or len(endpoint.asked) == 4):
            waits.append(timeout)
            endpoint.answers(*(["000"] if len(waits) == 2 else []))
        return polled(min(timeout, 0.05))

    monkeypatch.setattr(factory.pool, "poll", poll)
    loop = begun(factory)
    eventually(lambda: len(endpoint.asked) == 2)
    if stopped:
        factory.loop.stop("SIGTERM")
    endpoint.answers("001", "002", "003")
    assert ended(loop)
    assert len(endpoint.asked) == (2 if stopped else 4)
    assert len(waits) >= 2
    assert min(waits) > 0.0


def test_all_that_is_asked_is_named_in_the_beat(endpoint: Endpoint) -> None:
    bench = Bench(items=3, shard_size=3)
    loop = begun(rolled(endpoint, bench))
    eventually(lambda: set(bench.lives["a"].heart.hand) == {"id0", "id1"})
    endpoint.answers("001")
    eventually(lambda: set(bench.lives["a"].heart.hand) == {"id0", "id2"})
    endpoint.answers("000", "002")
    assert ended(loop)
