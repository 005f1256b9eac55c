"""A short round of `make chaos` on each store, with a seed that stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.chaos import one_round, undisturbed
from tests.chaos.work import values
from tests.workers import end_all

pytestmark = pytest.mark.timeout(300)
SEED = 7
KILLS = 6
WORK = values(SEED, KILLS)


@pytest.fixture(autouse=True)
def nothing_outlives_its_test() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return undisturbed(tmp_path_factory.mktemp("one"), WORK)


@pytest.mark.parametrize("store", ["directory", "azurite", "s3"])
def test_killed_frozen_and_cheated_workers_give_what_one_gives(store: str, right: dict[str, bytes]) -> None:
    verdict = one_round(store, SEED, KILLS, WORK, right)
    assert verdict.is_good, "\n".join([str(verdict), *verdict.troubles])
    assert verdict.kills == KILLS
    assert verdict.zombies >= 1
