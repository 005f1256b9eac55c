"""`python -m tests.bench.feeding`: how long a device waits while there is work, in virtual time.

The real loop on the simulator's store, no faults, one worker. What waits is told from its first batch to its
last. Prints one Markdown table; takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulated_loop import LoopSimulation
from tests.simulator import Faults

ITEMS = 1_920


@dataclass(frozen=True)
class Shape:
    batch: int
    answer_s: float
    """an item's share of a batch"""
    children: int
    prepare_s: float
    shard: int

    def run(self) -> LoopSimulation:
        return LoopSimulation(
            1,
            Faults(),
            items=ITEMS,
            shard_size=self.shard,
            workers=1,
            seconds_per_item=self.answer_s,
            batch=self.batch,
            children=self.children,
            ahead=2 * self.children,
            prepare_s=(0.9 * self.prepare_s, 1.1 * self.prepare_s),
        ).run()


LARGE = Shape(batch=64, answer_s=0.125, children=16, prepare_s=1.3, shard=15)
SHAPES = (
    LARGE,
    Shape(batch=64, answer_s=0.125, children=12, prepare_s=1.3, shard=15),
    Shape(batch=8, answer_s=0.5, children=8, prepare_s=2.0, shard=15),
    Shape(batch=1, answer_s=4.0, children=4, prepare_s=2.0, shard=3),
    Shape(batch=32, answer_s=0.02, children=16, prepare_s=0.2, shard=64),
)


def main() -> None:
    print("| batch | an item on the device | children | an item there | shard | the device waits |")  # noqa: T201
    print("| --- | --- | --- | --- | --- | --- |")  # noqa: T201
    for one in SHAPES:
        waits = one.run().idle_share
        print(  # noqa: T201
            f"| {one.batch} | {one.answer_s:g} s | {one.children} | {one.prepare_s:g} s | {one.shard} "
            f"| {waits:.1%} of the time |",
            flush=True,
        )


if __name__ == "__main__":
    main()
