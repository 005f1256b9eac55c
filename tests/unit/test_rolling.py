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
from worker.passing import Passing
from worker.pool import Prepared
from worker.rolling import Rolling, asker


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


def rolling(endpoint: Endpoint, count: int, at_once: int = 2) -> Rolling:
    """With so many items begun."""
    found = Rolling(Passing(), asker(Told(endpoint)), at_once)
    for n in range(count):
        found.submit(Item(f"id{n}", f"{n:03d}"))
    assert found.poll(0.0) == []
    eventually(lambda: len(endpoint.asked) == min(count, at_once))
    return found


def answered(rolling: Rolling) -> list[str]:
    found: list[Prepared] = []
    eventually(lambda: found.extend(rolling.poll(0.1)) or found)
    return sorted(one.item.input for one in found)


def test_another_is_begun_as_one_ends_and_the_slowest_holds_nobody_up(endpoint: Endpoint) -> None:
    pool = rolling(endpoint, 4)
    assert endpoint.asked == ["000", "001"]
    endpoint.answers("001")
    assert answered(pool) == ["001"]
    eventually(lambda: endpoint.asked == ["000", "001", "002"])
    endpoint.answers("002", "003")
    eventually(lambda: "003" in endpoint.asked)
    eventually(lambda: [pool.poll(0.1), pool.under_way == 1][1])
    endpoint.answers("000")
    assert answered(pool) == ["000"]
    assert pool.under_way == 0


def test_an_error_of_one_fails_it_alone_and_says_where(endpoint: Endpoint) -> None:
    pool = rolling(endpoint, 1)
    endpoint.raises["000"] = ValueError("no such colour")
    endpoint.answers("000")
    found: list[Prepared] = []
    eventually(lambda: found.extend(pool.poll(0.1)) or found)
    assert isinstance(found[0].outcome, Failure)
    assert "ValueError: no such colour (test_loop.py:" in found[0].outcome.message


def test_trouble_is_raised_when_all_who_were_asked_have_answered(endpoint: Endpoint) -> None:
    pool = rolling(endpoint, 3)
    endpoint.raises["000"] = endpoint.raises["002"] = MachineError("it does not let us in")
    endpoint.answers("000", "002")
    eventually(lambda: "002" in endpoint.asked)
    assert pool.poll(0.1) == []
    endpoint.answers("001")
    assert answered(pool) == ["001"]
    with pytest.raises(MachineError, match="let us in"):
        pool.poll(0.0)
    assert sorted(item.input for item in pool.drop()) == ["000", "002"]


def test_what_is_begun_is_not_dropped_and_what_is_not_is_given_back(endpoint: Endpoint) -> None:
    pool = rolling(endpoint, 4)
    assert [item.input for item in pool.drop()] == ["002", "003"]
    endpoint.answers("000", "001")
    assert sorted(one.item.input for one in pool.finish()) == ["000", "001"]
    assert endpoint.asked == ["000", "001"]


def test_the_end_waits_for_what_is_begun_and_begins_nothing(endpoint: Endpoint) -> None:
    pool = rolling(endpoint, 4)
    threading.Timer(0.1, endpoint.answers, ["000", "001"]).start()
    assert sorted(one.item.input for one in pool.finish()) == ["000", "001"]
    assert endpoint.asked == ["000", "001"]


def rolled(endpoint: Endpoint, bench: Bench) -> Factory:
    """A loop whose task's answers are waited for."""
    factory = Factory(bench, Told(endpoint), batch=4)
    factory.loop._pool = Rolling(factory.pool, asker(factory.task), 2)
    return factory


def test_all_of_a_queue_is_answered(endpoint: Endpoint) -> None:
    bench = Bench(items=10, shard_size=4)
    endpoint.answers(*(f"{n:03d}" for n in range(10)))
    results = rolled(endpoint, bench).run()
    assert len(results) == 10
    assert set(kinds(results).values()) == {"ok"}
    assert sorted(endpoint.asked) == sorted(results), "nobody was asked twice"


@pytest.mark.parametrize("by", ["stop", "trouble"])
def test_what_was_paid_for_is_written_however_it_ends(endpoint: Endpoint, by: str) -> None:
    bench = Bench(items=4, shard_size=4)
    factory = rolled(endpoint, bench)
    endpoint.raises["001"] = UnfinishedError("the money is spent")
    loop = threading.Thread(target=run, args=(factory,))
    loop.start()
    eventually(lambda: len(endpoint.asked) == 2)
    if by == "stop":
        factory.loop.stop("SIGTERM")
    endpoint.answers("001")
    threading.Timer(0.2, endpoint.answers, ["000", "002", "003"]).start()
    loop.join(PATIENCE_S)
    assert not loop.is_alive()
    left = [item.input for item in bench.take(bench.worker("b")).left()]
    assert "000" not in left
    assert "001" in left, "it raised"


def run(factory: Factory) -> None:
    """As the process does."""
    try:
        factory.loop.run()
    except UnfinishedError:
        factory.loop.hand_back()
