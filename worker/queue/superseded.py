"""Items that count no longer: their file was replaced, and enqueued again with its new content (rule 9)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

from worker.items import Item, Json
from worker.queue import layout
from worker.queue.answers import Done, read_shard
from worker.queue.store import Store, at_once
from worker.queue.text import decode, dumps, encode

Gone = Mapping[str, Collection[str]]
"""item → the shards that it was enqueued in"""
LiesThere = Callable[[Item], bool | None]
"""does its file have its content still? None: not all places can be seen from here"""


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


def supersede(store: Store, brought: Collection[str], lies_there: LiesThere) -> int:
    """Where the queue holds several contents of a file that was brought, the one that lies there now counts.

    `brought`: keys. Whoever comes last has seen the items of all, so two at once do no harm."""
    while True:
        records = [layout.number_of(entry.name) for entry in store.list(layout.SUPERSEDED)]
        gone = Superseded(store).look()
        now_gone: dict[str, list[str]] = {}
        there: list[str] = []
        for contents in _several(store, brought):
            lies = [(item.id, shards, lies_there(item)) for item, shards in contents]
            now = [item for item, _, seen in lies if seen]
            old = {item: shards for item, shards, seen in lies if seen is False and item not in gone}
            if now and (old or any(item in gone for item in now)):
                now_gone |= old
                there += now
        if not there:
            return 0
        number = 1 + max(records, default=0)
        if store.create(layout.superseded(number), encode({"gone": now_gone, "there": there})):
            return len(now_gone)


def without(done: Done, gone: Gone) -> Done:
    kept = tuple(item for item in done.shard.items if item.id not in gone)
    return replace(done, shard=replace(done.shard, items=kept))


def _several(store: Store, brought: Collection[str]) -> Iterator[list[tuple[Item, list[str]]]]:
    """For each key that has several contents: the items, and the shards that hold them."""

    def look(name: str) -> list[tuple[str, Item]]:
        shard = read_shard(store, name)
        return [(name, item) for item in shard.items if key(item) in brought] if not shard.generation else []

    found: dict[str, dict[str, tuple[Item, list[str]]]] = defaultdict(dict)
    names = sorted(layout.shard_of(entry.name) for entry in store.list(layout.ITEMS))
    for pairs in at_once(look, names):
        for name, item in pairs:
            found[key(item)].setdefault(item.id, (item, []))[1].append(name)
    for contents in found.values():
        if len(contents) > 1:
            yield list(contents.values())
