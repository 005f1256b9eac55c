"""What a retry of a job goes on from: decided by how the try before ended."""

from __future__ import annotations

from uuid import uuid4

import pytest

from worker.items import Item
from worker.jobs.again import go_on
from worker.queue import layout
from worker.queue.shards import Shard, pack, unpack
from worker.queue.store import Store, open_store

FIRST = Item("id", "job")


@pytest.fixture
def store() -> Store:
    return open_store(f"memory://{uuid4().hex}")


def failed(store: Store, item: Item, *, checkpoint: bool) -> Shard:
    shard = pack([item])
    if checkpoint:
        store.create(layout.manifest(shard.name, 1, 1), b"{}")
    return shard


@pytest.mark.parametrize("kind", ["error", "memory", "crashed-worker", "timeout", "system"])
def test_what_was_cut_off_goes_on(kind: str, store: Store) -> None:
    shard = failed(store, FIRST, checkpoint=True)
    (again,) = go_on(store, [FIRST], {"id": kind})
    assert again.after == shard.name


@pytest.mark.parametrize("kind", ["bad-data", "diverged", None])
def test_after_the_tasks_own_word_or_an_answer_a_job_begins_anew(kind: str | None, store: Store) -> None:
    failed(store, FIRST, checkpoint=True)
    (again,) = go_on(store, [FIRST], {"id": kind})
    assert again.after == ""


def test_who_asks_for_a_fresh_start_has_it_in_the_third_try_too(store: Store) -> None:
    first = failed(store, FIRST, checkpoint=True)
    second = Item("id", "job", generation=1, after=first.name)
    failed(store, second, checkpoint=True)
    (again,) = go_on(store, [second], {"id": "error"}, fresh=True)
    assert again.after == ""


def test_a_try_without_checkpoints_hands_on_what_it_began_from(store: Store) -> None:
    assert go_on(store, [FIRST], {"id": "error"})[0].after == ""
    first = failed(store, FIRST, checkpoint=True)
    second = Item("id", "job", generation=1, after=first.name)
    failed(store, second, checkpoint=False)
    assert go_on(store, [second], {"id": "error"})[0].after == first.name


def test_what_a_job_goes_on_from_is_part_of_its_shard() -> None:
    second = Item("id", "job", generation=1, after="feed-1")
    assert unpack(pack([second]).data).items == (second,)
    assert "after" not in pack([FIRST]).data.decode()
