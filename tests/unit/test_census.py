"""The quick look at a queue, against a count that reads everything."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.fakes import Bench, answered, failed
from tests.queues import QueueUnderTest
from worker.items import Failure, Item, Result
from worker.queue import layout
from worker.queue.census import EXAMPLES, Census, Numbers
from worker.queue.gist import Gist
from worker.queue.shards import Shard
from worker.queue.superseded import Superseded
from worker.queue.tally import Tally, pick
from worker.queue.text import encode

KINDS = ("broken", "timeout", "parts")


class Life:
    """A queue to which something happens again and again."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.queue = QueueUnderTest()
        self.open: list[Shard] = []
        self.parts: Counter[str] = Counter()
        self.names = 0
        self.generation = 0
        self.held: dict[str, list[str]] = {}
        self.replaced = 0

    def happens(self) -> None:
        often, seldom = [self.enqueue, self.write] * 2, [self.commit, self.retry, self.supersede]
        self.random.choice(often + seldom)()

    def enqueue(self) -> None:
        count = self.random.randint(1, 6)
        shard = self.queue.shard(*(f"item {self.names + n}" for n in range(count)))
        self.open.append(shard)
        self.held |= {item.id: [shard.name] for item in shard.items}
        self.names += count

    def write(self) -> None:
        if self.open:
            shard = self.random.choice(self.open)
            self.parts[shard.name] += 1
            some = self.random.sample(shard.items, self.random.randint(1, len(shard.items)))
            name = layout.part(shard.name, self.random.randint(1, 3), self.parts[shard.name])
            if self.random.random() < 0.2:
                self.queue.store.create(name, b"torn")
            else:
                epoch, number = layout.part_of(name) or (0, 0)
                self.queue.part(shard, self.results(some), epoch, number)

    def commit(self) -> None:
        if self.open:
            shard = self.open.pop(self.random.randrange(len(self.open)))
            self.queue.commit(shard, inline=self.results(shard.items))

    def retry(self) -> None:
        """What failed, and some that did not, of what no shard waits for; as intake.retry asks for it."""
        count = Tally(self.queue.store, lambda _: None).look()
        waiting = {item.id for shard in self.open for item in shard.items}
        asked = [
            *pick(count, []),
            *self.random.sample(sorted(count.items.values(), key=str), min(2, len(count.items))),
        ]
        names = sorted({item.input for item in asked if item.id not in waiting})
        if names:
            self.generation += 1
            half = (len(names) + 1) // 2
            for some in filter(None, (names[:half], names[half:])):
                self.open.append(self.queue.shard(*some, generation=self.generation))

    def supersede(self) -> None:
        """Files were replaced; some of them get their old content back later."""
        self.replaced += 1
        some = self.random.sample(sorted(self.held), min(2, len(self.held)))
        gone = {item: self.held[item] for item in some}
        there = [item for item in sorted(Superseded(self.queue.store).look()) if self.random.random() < 0.3]
        record = {"gone": gone, "there": [item for item in there if item not in gone]}
        self.queue.store.create(layout.superseded(self.replaced), encode(record))

    def results(self, items: Sequence[Item]) -> list[Result]:
        return [self.queue.result(item.input, self.outcome(), seconds=self.random.random()) for item in items]

    def outcome(self) -> Failure | None:
        return Failure(self.random.choice(KINDS), "why") if self.random.random() < 0.4 else None


def counted(queue: QueueUnderTest) -> tuple[object, ...]:
    count = Tally(queue.store, lambda result: result.kind).look()
    kinds = Counter(count.answers[item] for item in count.failed)
    return count.shards, count.done, len(count.items), len(count.answers), kinds, len(count.open)


def said(numbers: Numbers) -> tuple[object, ...]:
    failures = Counter(numbers.failures)
    return numbers.shards, numbers.done, numbers.total, numbers.answered, failures, numbers.left


@pytest.mark.parametrize("seed", range(30))
def test_it_says_what_a_count_of_everything_says(seed: int) -> None:
    life = Life(seed)
    census = Census(life.queue.store)
    for _ in range(30):
        life.happens()
        looked, expected = census.look(), counted(life.queue)
        assert said(looked) == expected
        assert said(Census(life.queue.store).look()) == expected
        failed = sum(looked.failures.values())
        assert min(failed, EXAMPLES) == len(looked.examples)


def test_only_the_heads_of_commits_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = QueueUnderTest()
    for number in range(3):
        queue.commit(queue.shard(*(f"{number} {n}" for n in range(40))))
    monkeypatch.setattr(queue.store, "get", lambda name: pytest.fail(f"{name} was read"))
    assert Census(queue.store).look().answered == 120


def test_examples_are_sought_only_until_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = QueueUnderTest()
    for number in range(9):
        names = [f"{number} {n}" for n in range(3)]
        queue.commit(queue.shard(*names), dict.fromkeys(names, Failure("broken", "why")))
    read: list[str] = []
    get = queue.store.get
    monkeypatch.setattr(queue.store, "get", lambda name: (read.append(name), get(name))[1])
    numbers = Census(queue.store).look()
    assert (numbers.failures, len(numbers.examples)) == ({"broken": 27}, EXAMPLES)
    assert len([name for name in read if name.startswith(layout.ITEMS)]) == 2


def test_an_item_that_two_shards_hold_counts_for_each() -> None:
    """Two who enqueue different lists at the same moment can do that; `collect` counts it once."""
    queue = QueueUnderTest()
    queue.commit(queue.shard("a", "b"))
    queue.commit(queue.shard("b", "c"))
    assert Census(queue.store).look().total == 4


def test_a_commit_tells_what_became_of_inherited_items_too() -> None:
    bench = Bench(items=4, shard_size=4)
    holding = bench.take(bench.worker("a"))
    one, two, three, four = holding.shard.items
    holding.add([failed(one, "broken"), replace(answered(two), run={"seconds": 2.0})])
    holding.flush()
    holding.add([failed(three, "lost")])
    heir = bench.wait(bench.worker("b"), 10 * bench.ttl)
    assert heir is not None
    heir.add(
        [failed(two, "second answer"), failed(three, "timeout"), replace(answered(four), run={"seconds": 4})]
    )
    heir.commit()
    record = json.loads(bench.store.get(layout.done(heir.shard.name)))
    gist = Gist.of(record)
    assert (gist.answered, gist.failed) == (4, {"broken": 1, "timeout": 1})
    assert (gist.seconds.count, gist.seconds.mean, gist.seconds.deviation) == (2, 3.0, 1.0)
    listed = list(record)
    assert listed.index("seconds") < listed.index("parts") < listed.index("inline")
