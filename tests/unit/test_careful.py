"""The careful way: named first, one at a time, written at once; and who is told to stop hands back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fakes import Bench, answered
from worker.careful import go_carefully
from worker.clerk import Clerk
from worker.items import Item, Result
from worker.queue import layout
from worker.queue.answers import read_done
from worker.queue.beat import Beat
from worker.queue.holding import Holding


class Factory:
    """A careful shard of three items in the hands of worker a."""

    def __init__(self) -> None:
        self.bench = Bench(items=3, shard_size=3)
        self.holding: Holding = self.bench.take_carefully(self.bench.worker("a"))
        self.shard = self.holding.shard.name
        self.stop = ""
        self.begun: list[str] = []

    def go(self, answer: Callable[[Item], Result | None] = answered) -> None:
        def begin(item: Item) -> Result | None:
            self.begun.append(item.input)
            return answer(item)

        go_carefully(self.holding, Clerk(lambda: None), begin, lambda: self.stop)

    def has(self, name: str) -> bool:
        return self.bench.store.head(name) is not None


def test_each_item_is_named_in_a_beat_before_it_is_begun_and_written_before_the_next() -> None:
    factory = Factory()

    def answer(item: Item) -> Result:
        beat = Beat.decode(factory.bench.store.get(layout.worker("a")))
        assert beat is not None
        assert beat.hand == (item.id,)
        assert len(factory.bench.store.list(layout.parts(factory.shard))) == len(factory.begun) - 1
        return answered(item)

    factory.go(answer)
    assert factory.begun == ["000", "001", "002"]
    assert len(read_done(factory.bench.store, factory.shard).answers) == 3  # type: ignore[arg-type]


def test_a_stop_between_two_items_hands_the_rest_back() -> None:
    factory = Factory()

    def answer(item: Item) -> Result:
        factory.stop = "SIGTERM"
        return answered(item)

    factory.go(answer)
    assert factory.begun == ["000"]
    assert factory.has(layout.released(factory.shard, factory.holding.epoch))


def test_a_stop_in_an_item_hands_it_back_too() -> None:
    factory = Factory()
    factory.go(lambda _: None)
    assert factory.has(layout.released(factory.shard, factory.holding.epoch))
    assert not factory.has(layout.done(factory.shard))


def test_an_item_that_no_beat_has_named_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = Factory()
    monkeypatch.setattr(factory.bench.lives["a"], "beat_now", lambda: False)
    factory.go()
    assert factory.begun == []
    assert not factory.has(layout.released(factory.shard, factory.holding.epoch))


def test_a_stop_while_waiting_for_the_beat_hands_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = Factory()

    def beat_now() -> bool:
        factory.stop = "SIGTERM"
        return False

    monkeypatch.setattr(factory.bench.lives["a"], "beat_now", beat_now)
    factory.go()
    assert factory.begun == []
    assert factory.has(layout.released(factory.shard, factory.holding.epoch))
