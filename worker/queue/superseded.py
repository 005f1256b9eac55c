"""Items that count no longer: their file was replaced, and enqueued again with its new content (rule 9)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from worker.items import Item, Json
from worker.queue import layout
from worker.queue.answers import Done, read_shard
from worker.queue.shards import Shard
from worker.queue.store import Store, at_once, in_order
from worker.queue.text import decode, dumps, encode

Gone = Mapping[str, Collection[str]]
"""item → the shards that it was enqueued in"""
LiesThere = Callable[[Item, Collection[str]], bool | None]
"""does an item's file (of these shards) have its content still? None: it may be elsewhere, or moved away"""


class Superseded:
    """What can never change is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records: dict[str, Json] = {}

    def look(self) -> Gone:
        """The records in their order: a file may get its old content back."""
        names = sorted((e.name for e in self._store.list(layout.SUPERSEDED)), key=layout.number_of)
        new = [name for name in names if name not in self._records]
        self._records |= zip(
            new, (decode(data or b"{}") for data in at_once(self._store.get, new)), strict=True
        )
        gone: dict[str, Collection[str]] = {}
        for name in names:
            gone |= self._records[name].get("gone", {})
            for item in self._records[name].get("there", ()):
                gone.pop(item, None)
        return gone


def key(item: Item) -> str:
    """Items with one key differ in nothing but the content of their file."""
    return dumps([item.input, dict(item.params)])


class Contents:
    """What a queue holds of the files that were brought. Each shard is read once, here or by who tells of it.

    `brought`: keys."""

    def __init__(self, store: Store, brought: Collection[str]) -> None:
        self._store = store
        self._brought = brought
        self._seen: set[str] = set()
        self._found: dict[str, dict[str, tuple[Item, list[str]]]] = defaultdict(dict)

    def see(self, shard: Shard) -> None:
        self._seen.add(shard.name)
        for item in shard.items if not shard.generation else ():
            if (name := key(item)) in self._brought:
                self._found[name].setdefault(item.id, (item, []))[1].append(shard.name)

    def several(self) -> Iterator[Collection[tuple[Item, list[str]]]]:
        """For each file that has several contents: the items, and the shards that hold them."""
        names = {layout.shard_of(entry.name) for entry in self._store.list(layout.ITEMS)}
        for shard in in_order(partial(read_shard, self._store), sorted(names - self._seen)):
            self.see(shard)
        return (contents.values() for contents in self._found.values() if len(contents) > 1)


class Replaced(NamedTuple):
    gone: int
    """items that count no longer"""
    back: frozenset[str]
    """items that count again: their file got its old content back"""


def supersede(store: Store, contents: Contents, lies_there: LiesThere) -> Replaced:
    """Where the queue holds several contents of a file that was brought, the one that lies there now counts.

    Whoever comes last has seen the items of all, so two at once do no harm."""
    while True:
        records = [layout.number_of(entry.name) for entry in store.list(layout.SUPERSEDED)]
        gone = Superseded(store).look()
        now_gone: dict[str, list[str]] = {}
        there: list[str] = []
        for items in contents.several():
            lies = [(item.id, shards, lies_there(item, shards)) for item, shards in items]
            now = [item for item, _, seen in lies if seen]
            old = {item: shards for item, shards, seen in lies if seen is False and item not in gone}
            if now and (old or any(item in gone for item in now)):
                now_gone |= old
                there += now
        if not there:
            return Replaced(0, frozenset())
        number = 1 + max(records, default=0)
        if store.create(layout.superseded(number), encode({"gone": now_gone, "there": there})):
            return Replaced(len(now_gone), frozenset(gone.keys() & there))


def without(done: Done, gone: Gone) -> Done:
    kept = tuple(item for item in done.shard.items if item.id not in gone)
    return replace(done, shard=replace(done.shard, items=kept))
