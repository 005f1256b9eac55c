"""The protocol under every fault, seed after seed: nothing lost, nothing twice, no livelock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.simulator import HEAVY, Faults, SimulatedStore, Simulation
from worker.queue import claims, layout
from worker.queue.answers import DamagedQueueError
from worker.queue.claims import Claims
from worker.queue.holding import Holding

POISON = frozenset({"0003", "0040"})
LONG_ENOUGH = 6_000.0
"""virtual seconds; with all rules in place no seed takes 2,000"""
DEATHS_ONLY = Faults(death=0.01, until=3_000.0)


@pytest.mark.parametrize("seed", range(100))
def test_every_item_gets_exactly_one_answer_under_heavy_faults(seed: int) -> None:
    Simulation(seed, HEAVY, poison=POISON if seed % 2 else frozenset(), parent_survives=seed % 3 == 0).run()


@pytest.mark.parametrize("seed", range(20))
def test_only_poison_fails_when_machines_merely_die_of_it(seed: int) -> None:
    Simulation(seed, Faults(), poison=POISON, parent_survives=seed % 2 == 0).run()


@pytest.mark.parametrize("seed", range(5))
def test_without_faults_nothing_is_run_twice(seed: int) -> None:
    simulation = Simulation(seed, Faults()).run()
    assert set(simulation.ran.values()) == {1}


def test_a_single_worker_that_dies_again_and_again_finishes_alone() -> None:
    simulation = Simulation(7, replace(DEATHS_ONLY, death=0.05), workers=1).run()
    assert simulation.deaths > 3


@pytest.mark.parametrize("workers", [2, 16])
def test_traffic_is_bounded_by_the_work_and_the_minutes(workers: int) -> None:
    simulation = Simulation(1, Faults(), workers=workers, items=320).run()
    minutes = simulation.world.time / 60
    per_shard, per_worker_minute = 14, 40
    bound = per_shard * len(simulation.shards) + per_worker_minute * workers * (minutes + 1)
    assert simulation.world.calls.total() <= bound


def test_one_seed_is_one_history() -> None:
    first, second = (Simulation(11, HEAVY, poison=POISON).run() for _ in range(2))
    assert first.store.objects.keys() == second.store.objects.keys()
    assert first.world.time == second.world.time
    assert first.world.calls == second.world.calls


# The simulator itself must be able to fail: each of these takes one rule out.


def list_parts_before_they_are_acknowledged(patch: pytest.MonkeyPatch) -> None:
    flush = Holding.flush

    def careless(self: Holding) -> None:
        if self._buffer:
            self._parts[layout.part(self.shard.name, self.epoch, self._written + 1)] = 0
        flush(self)

    patch.setattr(Holding, "flush", careless)


def commit_by_overwriting(patch: pytest.MonkeyPatch) -> None:
    create = SimulatedStore.create

    def overwrite(self: SimulatedStore, name: str, data: bytes, *, durable: bool = True) -> bool:
        if name.startswith(layout.DONE):
            self.put(name, data)
            return True
        return create(self, name, data, durable=durable)

    patch.setattr(SimulatedStore, "create", overwrite)


def never_take_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Claims, "_see", lambda *_: 0.0)


def go_on_listing_a_claim_that_went_wrong(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Claims, "_forget", lambda *_: None)


def let_poison_kill_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(claims, "killers", lambda *_, **__: frozenset())


def count_good_ends_as_deaths(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        claims, "killers", lambda past, answered, **_: frozenset(i for e in past for i in e.hand) - answered
    )


@pytest.mark.parametrize(
    "take_out",
    [
        list_parts_before_they_are_acknowledged,
        commit_by_overwriting,
        never_take_over,
        go_on_listing_a_claim_that_went_wrong,
        let_poison_kill_for_ever,
        count_good_ends_as_deaths,
    ],
)
def test_the_simulator_notices_a_rule_that_is_taken_out(
    take_out: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out(monkeypatch)

    def run_some() -> None:
        for seed in range(200):
            Simulation(seed, HEAVY, poison=POISON if seed % 2 else frozenset()).run(until=LONG_ENOUGH)

    with pytest.raises((AssertionError, DamagedQueueError)):
        run_some()
