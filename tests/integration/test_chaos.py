"""A short round of `make chaos` on each store, with a seed that stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.chaos import one_round, undisturbed
from tests.chaos.work import WORKS

SEED = 7


@pytest.mark.parametrize(
    ("store", "work", "kills"), [("directory", "items", 6), ("s3", "items", 4), ("azurite", "jobs", 4)]
)
def test_killed_frozen_and_cheated_workers_give_what_one_gives(
    store: str, work: str, kills: int, tmp_path: Path
) -> None:
    todo = WORKS[work](SEED, kills)
    verdict = one_round(store, SEED, kills, todo, undisturbed(tmp_path, todo))
    assert verdict.is_good, "\n".join([str(verdict), *verdict.troubles])
    assert verdict.kills == kills
    assert verdict.zombies >= 1
