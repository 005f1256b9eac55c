"""Two programs on one ledger: named cards, gangs, lines and dead processes in any order."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("hypothesis", reason="the developers' tools are not installed")

from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests import fuzz  # noqa: F401
from tests.fakes import HandClock
from tests.gpu_clusters import cluster, with_card
from worker.gpus.allocation import Allocation, Request
from worker.gpus.ledger import Ledger
from worker.gpus.refusals import Refusal

NODES = cluster(a="3xT4", b="2xA100-80GB")
CARDS = [card.uuid for node in NODES for card in node.cards]
programs = some.integers(0, 1)


class Shared(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-"))
        self.clock = HandClock()
        self.dead: set[str] = set()
        self.both = [
            Ledger(self.folder / "l", self.clock, "1", lambda name: name in self.dead)  # type: ignore[arg-type]
            for _ in range(2)
        ]
        for one in self.both:
            with one.turn():
                one.belong("here")
                one.supply(NODES)

    @rule(
        by=programs,
        count=some.integers(1, 3),
        members=some.integers(1, 2),
        owner=some.sampled_from("xy"),
        process=some.sampled_from(["", "p", "q"]),
        patience=some.sampled_from([0, 20]),
        key=some.sampled_from(["", "k"]),
    )
    def ask(
        self, by: int, count: int, members: int, owner: str, process: str, patience: int, key: str
    ) -> None:
        request = Request(count, members, owner=owner, process=process, lease_s=30)
        with suppress(Refusal), self.both[by].turn():
            made = self.both[by].allocate(request, key, patience)
            assert not isinstance(made, Allocation) or len(made.cards) == made.request.total

    @rule(by=programs, cards=some.sets(some.sampled_from(CARDS), min_size=1, max_size=2))
    def name(self, by: int, cards: set[str]) -> None:
        request = Request(len(cards), cards=tuple(sorted(cards)), process="p", lease_s=30)
        with suppress(Refusal), self.both[by].turn():
            made = self.both[by].allocate(request)
            assert {card.uuid for card in made.cards} == cards  # type: ignore[union-attr]

    @rule(by=programs, which=some.integers(0, 5), renew=some.booleans())
    def go_on(self, by: int, which: int, renew: bool) -> None:
        ledger = self.both[by]
        with ledger.turn():
            held = list(ledger.allocations)
            if held:
                (ledger.renew if renew else ledger.release)(held[which % len(held)])

    @rule(by=programs)
    def withdraw(self, by: int) -> None:
        with self.both[by].turn():
            self.both[by].withdraw("k")

    @rule(by=programs, dead=some.sets(some.sampled_from("pq")))
    def die(self, by: int, dead: set[str]) -> None:
        self.dead |= dead
        with self.both[by].turn():
            self.both[by].sweep()
            left = [*self.both[by].allocations.values(), *self.both[by].waiting.values()]
            assert not self.dead & {one.request.process for one in left}
        self.dead.clear()  # their names are given to others

    @rule(by=programs, seconds=some.sampled_from([1, 4, 31]))
    def pass_time(self, by: int, seconds: int) -> None:
        self.clock.time += seconds
        with self.both[by].turn():
            self.both[by].sweep()

    @rule(by=programs, ill=some.sampled_from(["", *CARDS]), pid=some.sampled_from([(), (1,)]))
    def look(self, by: int, ill: str, pid: tuple[int, ...]) -> None:
        with self.both[by].turn():
            self.both[by].supply(with_card(NODES, ill, trouble="" if pid else "ill", processes=pid))

    @rule(by=programs)
    def fail(self, by: int) -> None:
        """A turn that does all it can, and is not written."""
        ledger = self.both[by]
        with suppress(ZeroDivisionError), ledger.turn():
            for name in list(ledger.allocations):
                ledger.release(name)
            with suppress(Refusal):
                ledger.allocate(Request(1))
            raise ZeroDivisionError

    @invariant()
    def both_know_the_same_and_nothing_is_held_twice(self) -> None:
        known = []
        for ledger in getattr(self, "both", ()):
            with ledger.turn():
                held = Counter(card.uuid for one in ledger.allocations.values() for card in one.cards)
                assert not held or held.most_common(1)[0][1] == 1
                free = {card.uuid for node in ledger.nodes for card in ledger.free(node)}
                shelved = [
                    uuid
                    for shelf in ledger.shelves.values()
                    for cards in shelf.nodes.values()
                    for uuid in cards
                ]
                assert sorted(shelved) == sorted(free)
                assert not free & held.keys()
                known.append((ledger.allocations.copy(), ledger.waiting.copy()))
        assert not known or known[0] == known[1]

    def teardown(self) -> None:
        if not hasattr(self, "both"):
            return
        self.clock.time += 61
        with self.both[0].turn():
            self.both[0].sweep()
        with self.both[1].turn():
            self.both[1].sweep()
            # who was in line is served at the end of the others' leases, or his patience ended
            assert all(one.made == self.clock.time for one in self.both[1].allocations.values())
        for one in self.both:
            one.close()
        shutil.rmtree(self.folder)


TestShared = Shared.TestCase
TestShared.settings = settings(max_examples=15, stateful_step_count=25)
