"""A shard: some items under a name made of their hash and their count. Written twice, it is there once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from worker.items import Item, Json
from worker.queue import layout
from worker.queue.text import decode, dumps


@dataclass(frozen=True, slots=True)
class Shard:
    name: str
    items: tuple[Item, ...]
    sha256: str
    data: bytes

    @property
    def generation(self) -> int:
        return self.items[0].generation if self.items else 0


def pack(items: Sequence[Item]) -> Shard:
    return _shard("".join(_line(item) + "\n" for item in items).encode(), tuple(items))


def unpack(data: bytes) -> Shard:
    return _shard(data, tuple(_item(decode(line)) for line in data.splitlines()))


def _shard(data: bytes, items: tuple[Item, ...]) -> Shard:
    digest = hashlib.sha256(data).hexdigest()
    return Shard(layout.shard(digest, len(items)), items, digest, data)


def cut(items: Iterable[Item], size: int) -> list[Shard]:
    """In the order given; equal items that come twice are kept once."""
    unique = list({item.id: item for item in items}.values())
    return [pack(unique[i : i + size]) for i in range(0, len(unique), size)]


def _line(item: Item) -> str:
    record: dict[str, Json] = {"id": item.id, "input": item.input}
    if item.mark:
        record |= {"size": item.size, "mark": item.mark}
    if item.params:
        record["params"] = dict(item.params)
    if item.generation:
        record["generation"] = item.generation
    if item.after:
        record["after"] = item.after
    return dumps(record)


def _item(record: Json) -> Item:
    return Item(
        id=record["id"],
        input=record["input"],
        size=record.get("size", 0),
        mark=record.get("mark", ""),
        params=record.get("params", {}),
        generation=record.get("generation", 0),
        after=record.get("after", ""),
    )
