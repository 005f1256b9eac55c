"""`python -m tests.bench.tails`: how long the last workers are waited for, in virtual time.

Real claims and holdings on the simulator's store, no faults: 1,000 items of 20 s. The ideal is the total work
shared out evenly, or the longest item if that takes longer: no schedule is shorter, and none that does not
know the items reaches it. Prints one Markdown table; takes some minutes.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.simulator import Faults, SimulatedStore, Simulation, World
from worker.appetite import Appetite
from worker.items import Answer, Result
from worker.queue.claims import Claims
from worker.queue.holding import Holding
from worker.queue.protocol import Sizes
from worker.queue.store import Entry

ITEMS = 1_000
SECONDS = 20.0
WORKERS = (10, 32, 64)
ESTIMATES: Mapping[str, float] = {
    "right": SECONDS,
    "10 times too low": SECONDS / 10,
    "10 times too high": SECONDS * 10,
}
CHILDREN = 8
LOOK_S = 1.0
"""a worker goes round so often while its device is busy"""


def even(chance: random.Random) -> float:
    return SECONDS * chance.uniform(0.5, 1.5)


def long_tailed(chance: random.Random) -> float:
    """Lognormal with the same mean: half of the items take less than 12 s, one in a hundred over 125 s."""
    return SECONDS * chance.lognormvariate(-0.5, 1.0)


SPREADS: Mapping[str, Callable[[random.Random], float]] = {"0.5 to 1.5": even, "long-tailed": long_tailed}


class FoldedStore(SimulatedStore):
    """Lists a folder without going through all others: thousands of objects, thousands of lists."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._folders: dict[str, dict[str, None]] = {}

    def list(self, prefix: str = "") -> list[Entry]:
        folder = self._folders.get(prefix.partition("/")[0], {})
        return self._call(
            "list", lambda: [self._entry(n) for n in folder if n.startswith(prefix)], write=False
        )

    def _write(self, name: str, data: bytes) -> None:
        self._folders.setdefault(name.partition("/")[0], {})[name] = None
        super()._write(name, data)


@dataclass
class Tail(Simulation):
    """Workers that answer one item after the other, and take the next shard when the loop would."""

    spread: Callable[[random.Random], float] = even
    looks_ahead: bool = True
    """as the loop does; False: the next shard is taken when one is answered"""
    durations: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        chance = random.Random(self.seed)
        self.durations = {item.id: self.spread(chance) for shard in self.shards for item in shard.items}
        self._committed = 0

    @property
    def ideal(self) -> float:
        return max(math.fsum(self.durations.values()) / self.workers, max(self.durations.values()))

    def _make_store(self) -> SimulatedStore:
        return FoldedStore(self.world)

    @property
    def ratio(self) -> float:
        assert self.done_at is not None
        return self.done_at / self.ideal

    def _work(self, claims: Claims) -> None:
        hands: deque[Holding] = deque()
        appetite = Appetite(CHILDREN, self.seconds_per_item)
        while not self._all_done():
            if hands:
                appetite.answered(self._answer_one(hands, claims, appetite))
            elif not self._take(hands, claims, appetite):
                self.clock.sleep(claims.poll)

    def _take(self, hands: deque[Holding], claims: Claims, appetite: Appetite) -> bool:
        asked = self.clock.now()
        if holding := claims.take():
            hands.append(holding)
            appetite.claimed(self.clock.now() - asked)
        return bool(holding)

    def _answer_one(self, hands: deque[Holding], claims: Claims, appetite: Appetite) -> float:
        holding = hands[0]
        item = holding.left()[0]
        holding.begin([item])
        begun = self.clock.now()
        take_at = begun if self.looks_ahead else math.inf
        while (left := begun + self.durations[item.id] - self.clock.now()) > 0:
            waiting = sum(len(holding.left()) for holding in hands) - 1
            wants = appetite.wants(waiting, 1, 1, self.clock.now() - begun)
            if not wants or self.clock.now() < take_at or self._take(hands, claims, appetite):
                self.clock.sleep(min(left, LOOK_S))
            else:
                take_at = self.clock.now() + claims.poll
        holding.add([Result(item.id, item.input, Answer({}))])
        if holding.complete:
            holding.commit()
            self._committed += 1
            hands.popleft()
        else:
            holding.flush()
        return self.durations[item.id]

    def _all_done(self) -> bool:
        return self._committed == len(self.shards)

    def _check_step(self) -> None:
        """No fault, nothing to check before the end."""


def main() -> None:
    print("| workers | items | estimate | shard | ideal | one shard in hand | as the loop does |")  # noqa: T201
    print("| --- | --- | --- | --- | --- | --- | --- |")  # noqa: T201
    for workers in WORKERS:
        for estimate, seconds in ESTIMATES.items():
            for name, spread in SPREADS.items():
                print(row(workers, name, spread, estimate, seconds), flush=True)  # noqa: T201


def row(
    workers: int, name: str, spread: Callable[[random.Random], float], estimate: str, seconds: float
) -> str:
    tails = [measure(workers, seconds, spread, looks_ahead) for looks_ahead in (False, True)]
    times = " | ".join(f"{tail.done_at:,.0f} s: {tail.ratio:.2f} times" for tail in tails)
    return f"| {workers} | {name} | {estimate} | {tails[0].shard_size} | {tails[0].ideal:,.0f} s | {times} |"


def measure(
    workers: int, seconds: float, spread: Callable[[random.Random], float], looks_ahead: bool
) -> Tail:
    tail = Tail(
        1,
        Faults(),
        items=ITEMS,
        shard_size=Sizes.of(seconds).of_list(ITEMS),
        seconds_per_item=seconds,
        workers=workers,
        spread=spread,
        looks_ahead=looks_ahead,
    )
    tail.run(until=1e6)
    return tail


if __name__ == "__main__":
    main()
