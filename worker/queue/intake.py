"""How work gets in: items become shards, once, whoever brings them and however often."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from worker.items import Item
from worker.queue import layout
from worker.queue.answers import read_shard
from worker.queue.cuts import agreed_size, size_now
from worker.queue.shards import Shard, cut
from worker.queue.store import Store, at_once
from worker.queue.text import decode, encode


@dataclass(frozen=True, slots=True)
class Added:
    new: int
    known: int
    """were in the queue before, or came twice"""
    shards: tuple[str, ...]
    """every shard that these items stand in by now, as far as they are new"""


def add(store: Store, shard_size: int, items: Sequence[Item]) -> Added:
    """Cut items into shards and write those that are new (rule 9).

    The cut is made of all items first: whoever brings the same list at the same time, or comes after a
    crash half-way, finds the same shards under the same names. Only what is left then is compared item
    by item with what the queue holds already. `shard_size` is that of run.json: what items took since then
    may say another (rule 8).
    """
    shard_size = agreed_size(store, shard_size, items)
    planned = cut(items, shard_size)
    there = {layout.shard_of(e.name) for e in store.list(layout.ITEMS)}
    fresh = [shard for shard in planned if shard.name not in there]
    if fresh and there:
        known = {item.id for shard in _read(store, there) for item in shard.items}
        if any(item.id in known for shard in fresh for item in shard.items):
            fresh = cut((i for shard in fresh for i in shard.items if i.id not in known), shard_size)
    _write(store, fresh)
    new = sum(len(shard.items) for shard in fresh)
    return Added(new, len(items) - new, tuple(shard.name for shard in fresh))


def retry(store: Store, shard_size: int, items: Sequence[Item]) -> int:
    """Ask for items again, as a new generation (rule 10). What waits already is not asked for twice.

    Whoever takes a generation has seen all that earlier ones ask for: it is counted first, and when
    somebody else takes it meanwhile all is looked at again."""
    while True:
        generation = 1 + max((int(layout.shard_of(e.name)) for e in store.list(layout.RETRIES)), default=0)
        finish_retries(store)
        waiting = _waiting(store)
        again = [replace(i, generation=generation, file=None) for i in items if i.id not in waiting]
        if not again:
            return 0
        shards = cut(again, size_now(store, shard_size))
        record = {"generation": generation, "shards": {s.name: s.data.decode() for s in shards}}
        if store.create(layout.retry(generation), encode(record)):
            _write(store, shards)
            return len(again)


def _waiting(store: Store) -> set[str]:
    """Items that some shard is yet to answer."""
    done = {layout.shard_of(e.name) for e in store.list(layout.DONE)}
    names = {layout.shard_of(e.name) for e in store.list(layout.ITEMS)}
    return {item.id for shard in _read(store, names - done) for item in shard.items}


def finish_retries(store: Store) -> None:
    """Write the shards of a retry whose author died after the record and before the last shard."""
    retries = store.list(layout.RETRIES)
    names = {layout.shard_of(e.name) for e in store.list(layout.ITEMS)} if retries else set()
    for entry in retries:
        record = decode(store.get(entry.name) or b'{"shards":{}}')
        for name, text in record["shards"].items():
            if name not in names:
                store.create(layout.items(name), text.encode())


def add_root(store: Store, location: str) -> None:
    """Record where the inputs were seen; a machine that sees them elsewhere says so with --root."""
    store.create(layout.root(location), encode({"location": location}))


def roots(store: Store) -> list[str]:
    records = (store.get(entry.name) for entry in store.list(layout.ROOTS))
    return [decode(record)["location"] for record in records if record]


def _read(store: Store, names: Iterable[str]) -> list[Shard]:
    return at_once(lambda name: read_shard(store, name), sorted(names))


def _write(store: Store, shards: Sequence[Shard]) -> None:
    store.create_all((layout.items(shard.name), shard.data) for shard in shards)
