"""A shard: some items under a name made of their hash and their count. Written twice, it is there once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from worker.items import Item, Json
from worker.queue import layout
from worker.queue.text import decode_lines, encode


@dataclass(frozen=True, slots=True)
class Shard:
    name: str
    items: tuple[Item, ...]
    sha256: str
    data: bytes

    @property
    def generation(self) -> int:
        return self.items[0].generation if self.items else 0


class Packed(NamedTuple):
    """A shard that is only to be written."""

    name: str
    data: bytes


def packed(lines: Sequence[bytes]) -> Packed:
    data = b"".join(lines)
    return Packed(layout.shard(hashlib.sha256(data).hexdigest(), len(lines)), data)


def pack(items: Sequence[Item]) -> Shard:
    return _shard(b"".join(map(line, items)), tuple(items))


def unpack(data: bytes) -> Shard:
    return _shard(data, tuple(map(_item, decode_lines(data.splitlines()))))


def _shard(data: bytes, items: tuple[Item, ...]) -> Shard:
    digest = hashlib.sha256(data).hexdigest()
    return Shard(layout.shard(digest, len(items)), items, digest, data)


def cut(items: Iterable[Item], size: int) -> list[Shard]:
    """In the order given; equal items that come twice are kept once."""
    unique = list({item.id: item for item in items}.values())
    return [pack(unique[i : i + size]) for i in range(0, len(unique), size)]


def line(item: Item) -> bytes:
    record: dict[str, Json] = {"id": item.id, "input": item.input}
    if item.mark:
        record |= {"size": item.size, "mark": item.mark}
    if item.params:
        record["params"] = dict(item.params)
    if item.generation:
        record["generation"] = item.generation
    if item.after:
        record["after"] = item.after
    return encode(record) + b"\n"


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
