"""What is begun and what is not: shards that are lost, careful ones, and the look after a commit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes import Bench
from tests.workers import eventually
from worker.appetite import Appetite
from worker.clerk import Clerk
from worker.clock import Clock
from worker.looking import Looking
from worker.passing import Passing
from worker.queue import layout
from worker.queue.claims import Claims
from worker.queue.holding import Holding
from worker.queue.inbox import Inbox
from worker.supply import Supply


class Shelf:
    """A supply over a bench's queue. Nothing is on the device, and each batch takes a minute there."""

    def __init__(self, items: int, ahead: int) -> None:
        self.bench = Bench(items, shard_size=3)
        self.claims = self.bench.worker("a")
        inbox = Inbox(self.bench.store, 3, self.bench.ttl, Clock(), lambda _: ([], []))  # type: ignore[arg-type]
        self.clerk = Clerk(lambda: None)
        self.supply = Supply(
            Looking(self.claims, inbox), Passing(), self.clerk, Appetite(1, seconds_per_item=60.0), ahead
        )

    def take(self) -> Holding:
        holding = self.bench.take(self.claims)
        self.supply.taken([holding])
        return holding

    def lose(self, holding: Holding) -> None:
        """The machine slept, and somebody else has it."""
        self.bench.clock.sleep(2 * self.bench.ttl)
        self.bench.store.create(layout.claim(holding.shard.name, 2), b"{}")

    def go_on(self) -> None:
        self.supply.go_on(batch=1, on_device=0, busy_s=0.0)

    def begun(self) -> list[str]:
        """All that is given to the device from now on."""
        given: list[str] = []
        while True:
            self.go_on()
            self.supply.hear(0.0)
            if not (samples := self.supply.samples(1, due=False)):
                return given
            given += [one.item.input for one in samples]


@pytest.fixture
def shelf(request: pytest.FixtureRequest) -> Iterator[Shelf]:
    shelf = Shelf(*request.param)
    yield shelf
    shelf.clerk.close()


@pytest.mark.parametrize("shelf", [(6, 4)], indirect=True)
def test_of_a_shard_that_is_lost_nothing_is_begun_and_of_the_others_all_is(shelf: Shelf) -> None:
    first, second = shelf.take(), shelf.take()
    shelf.go_on()
    shelf.supply.hear(0.0)
    assert len(shelf.supply.samples(1, due=False)) == 1
    shelf.go_on()  # two samples of the first and one of the second are ready, one is under way
    shelf.lose(first)
    assert sorted(shelf.begun()) == [item.input for item in second.shard.items]
    assert shelf.supply.holdings == [second]


@pytest.mark.parametrize("shelf", [(3, 2)], indirect=True)
def test_nothing_is_taken_beside_a_careful_shard(shelf: Shelf) -> None:
    shelf.supply.taken([shelf.bench.take_carefully(shelf.claims)])
    shelf.go_on()
    assert not shelf.supply.taking
    shelf.supply.careful = None
    shelf.go_on()
    assert shelf.supply.taking


@pytest.mark.parametrize("shelf", [(3, 2)], indirect=True)
def test_a_batch_that_is_due_does_not_wait_until_it_is_full(shelf: Shelf) -> None:
    shelf.take()
    shelf.go_on()
    shelf.supply.hear(0.0)
    shelf.supply.samples(1, due=False)
    shelf.go_on()  # one is ready, one under way
    assert shelf.supply.samples(3, due=False) == []
    assert len(shelf.supply.samples(3, due=True)) == 1


@pytest.mark.parametrize("shelf", [(0, 2)], indirect=True)
@pytest.mark.parametrize("committed", ["before the look came back", "after it", ""])
def test_after_a_commit_it_looks_again_at_once(
    shelf: Shelf, committed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Claims, "poll", 600.0)
    shelf.go_on()
    if committed == "before the look came back":
        shelf.supply.look_again()
    taking = shelf.supply._taking
    assert taking
    eventually(taking.done)
    shelf.go_on()
    if committed == "after it":
        assert not shelf.supply.taking
        shelf.supply.look_again()
        shelf.go_on()
    assert shelf.supply.taking == bool(committed)
