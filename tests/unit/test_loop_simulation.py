"""The whole loop under every fault in virtual time: what it takes, writes, commits and hands back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.bench.feeding import LARGE
from tests.simulated_loop import LoopSimulation
from tests.simulator import Faults
from worker import careful
from worker.queue import holding
from worker.queue.holding import Holding

POISON = frozenset({"0003", "0040"})
SOME = Faults(
    lost_ack=0.003, late=0.003, refused=0.003, death=0.003, pause=0.003, stale=0.1, outage_every=600
)
"""fewer than for claims alone: a worker ends when its store is away for longer than its patience"""

LONG_ENOUGH = 4_000.0
"""virtual seconds; with all in place no seed takes 2,000"""


@pytest.mark.parametrize("seed", range(60))
def test_every_item_gets_exactly_one_answer(seed: int) -> None:
    poison = POISON if seed % 2 else frozenset()
    LoopSimulation(seed, SOME, poison=poison, parent_survives=seed % 3 == 0, stop_every=100.0).run()


@pytest.mark.parametrize("seed", range(20))
def test_a_stop_loses_no_finished_work(seed: int) -> None:
    simulation = LoopSimulation(seed, Faults(), stop_every=60.0).run()
    assert simulation.stops > 3
    assert set(simulation.ran.values()) == {1}


@pytest.mark.parametrize("seed", range(10))
def test_only_poison_fails_when_machines_merely_die_of_it(seed: int) -> None:
    simulation = LoopSimulation(seed, Faults(), poison=POISON, parent_survives=seed % 2 == 0).run()
    assert simulation.deaths >= 3


def test_one_seed_is_one_history() -> None:
    first, second = (LoopSimulation(11, SOME, poison=POISON, stop_every=100.0).run() for _ in range(2))
    assert first.store.objects.keys() == second.store.objects.keys()
    assert first.world.time == second.world.time
    assert first.world.calls == second.world.calls


def test_a_device_with_large_batches_of_small_shards_does_not_wait() -> None:
    """Clips cut into shards of 15 by an estimate of 4 s each, of which the device answers 64 in 8 s."""
    assert LARGE.run().idle_share < 0.05


# The simulation itself must be able to fail: each of these takes a decision out.


def end_without_handing_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Holding, "release", lambda self, _: self.drop())


def hand_back_without_writing_what_is_finished(patch: pytest.MonkeyPatch) -> None:
    def release(self: Holding, reason: str) -> None:
        holding.release(self._store, self.shard.name, self.epoch, reason)
        self.drop()

    patch.setattr(Holding, "release", release)


def name_nobody_in_a_beat(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Holding, "begin", lambda *_: True)


def take_no_care(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(careful.go_carefully, "__code__", (lambda holding, *_: holding.drop()).__code__)


@pytest.mark.parametrize(
    "take_out",
    [
        end_without_handing_back,
        hand_back_without_writing_what_is_finished,
        name_nobody_in_a_beat,
        take_no_care,
    ],
)
def test_it_notices_a_decision_that_is_taken_out(
    take_out: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out(monkeypatch)

    def run_some() -> None:
        for seed in range(30):
            poison = POISON if seed % 2 else frozenset()
            LoopSimulation(seed, SOME, poison=poison, stop_every=100.0).run(until=LONG_ENOUGH)
            test_a_stop_loses_no_finished_work(seed)

    with pytest.raises(AssertionError):
        run_some()
