"""The protocol under every fault, seed after seed: nothing lost, nothing twice, no livelock."""

from __future__ import annotations

import pytest

from tests.simulator import HEAVY, Faults, Simulation


@pytest.mark.parametrize("seed", range(60))
def test_every_item_gets_exactly_one_answer_under_heavy_faults(seed: int) -> None:
    Simulation(seed, HEAVY).run()
