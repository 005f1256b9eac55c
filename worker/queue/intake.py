"""How work gets in: items become shards, once, whoever brings them and however often."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from worker.items import Item
from worker.queue import layout
from worker.queue.answers import read_shard
from worker.queue.cuts import agreed_size, size_now
from worker.queue.listing import Listing
from worker.queue.protocol import Sizes
from worker.queue.shards import Packed, Shard, cut
from worker.queue.store import Store, in_order
from worker.queue.text import decode, encode


@dataclass(frozen=True, slots=True)
class Added:
    new: int
    known: int
    """were in the queue before, or came twice"""
    shards: tuple[str, ...]
    """every shard that these items stand in by now, as far as they are new"""


def add(
    store: Store, sizes: Sizes, items: Iterable[Item], see: Callable[[Shard], object] = lambda _: None
) -> Added:
    """Cut items into shards and write those that are new (rule 9).

    The cut is made of all items first: whoever brings the same list at the same time, or comes after a
    crash half-way, finds the same shards under the same names. Only what is left then is compared item
    by item with what the queue holds already. `sizes` are those of run.json: what items took since then
    may say another (rule 8). `see` is told of each shard that is read.
    """
    listing = Listing(items)
    size = agreed_size(store, sizes, listing.ids)
    there = {layout.shard_of(e.name) for e in store.list(layout.ITEMS)}
    known: set[str] = set()
    if there:
        if all(shard.name in there for shard in listing.cut(size)):
            return Added(0, listing.given, ())
        for shard in _read(store, there):
            see(shard)
            known.update(item.id for item in shard.items if item.id in listing.ids)
    names: list[str] = []
    store.create_all(_noted(listing.cut(size, known), names))
    new = len(listing.ids) - len(known)
    return Added(new, listing.given - new, tuple(names))


def append(store: Store, sizes: Sizes, items: Sequence[Item]) -> list[str]:
    """Of one who knows that they are new; → their shards. Were they not, they would be answered twice, and
    count once."""
    shards = cut(items, sizes.of_list(len(items)))
    _write(store, shards)
    return [shard.name for shard in shards]


def _noted(shards: Iterable[Packed], names: list[str]) -> Iterator[tuple[str, bytes]]:
    for shard in shards:
        names.append(shard.name)
        yield layout.items(shard.name), shard.data


def retry(store: Store, sizes: Sizes, items: Sequence[Item]) -> int:
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
        shards = cut(again, size_now(store, sizes, len(again)))
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


def add_origin(store: Store, root: str, shards: Sequence[str]) -> None:
    """Record below which root their inputs were seen."""
    if shards:
        store.create(layout.origin(root, shards), encode({"root": root, "shards": shards}))


def origins(store: Store) -> dict[str, set[str]]:
    """By shard, the roots; of one from the inbox, or whose author died, none is known."""
    found: dict[str, set[str]] = {}
    for data in store.at_once(store.get, [entry.name for entry in store.list(layout.ORIGINS)]):
        record = decode(data or b'{"shards":[]}')
        for shard in record["shards"]:
            found.setdefault(shard, set()).add(record["root"])
    return found


def roots(store: Store) -> list[str]:
    records = (store.get(entry.name) for entry in store.list(layout.ROOTS))
    return [decode(record)["location"] for record in records if record]


def _read(store: Store, names: Iterable[str]) -> Iterator[Shard]:
    return in_order(lambda name: read_shard(store, name), sorted(names))


def _write(store: Store, shards: Sequence[Shard]) -> None:
    store.create_all((layout.items(shard.name), shard.data) for shard in shards)
