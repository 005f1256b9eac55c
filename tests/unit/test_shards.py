"""A shard's file holds any text, and its name is its content's hash."""

from __future__ import annotations

import hashlib

import pytest

from worker.items import Item
from worker.queue.shards import cut, pack, unpack

HOSTILE = [
    "line\u2028separator\u2029paragraph",
    "next\x85line \x0b\x0c\x1c\x1d\x1e",
    "new\nline\r\n",
    "nul\0",
    "quote \" and \\ and '",
    "视频/片段 1.mp4",
    "😀 \U0010ffff \ufeff",
    "</script><script>",
    " lead and trail ",
    "100% {} %s",
]


def item(input: str, **more: object) -> Item:
    return Item(hashlib.sha256(input.encode()).hexdigest()[:24], input, **more)  # type: ignore[arg-type]


def test_what_is_packed_is_unpacked() -> None:
    items = (
        *(item(text, params={text: [text, None, 1.5]}) for text in HOSTILE),
        item("sized", size=7, mark="abc"),
        item("asked again", generation=3),
    )
    shard = pack(items)
    assert shard.items == items
    assert unpack(shard.data) == shard


def test_one_line_an_item_whatever_it_is_called() -> None:
    shard = pack([item(text) for text in HOSTILE])
    assert shard.data.count(b"\n") == len(HOSTILE)
    assert shard.data.endswith(b"\n")


def test_the_name_is_the_hash_of_the_content_and_the_count_of_the_items() -> None:
    shard = pack([item("a"), item("b")])
    assert shard.sha256 == hashlib.sha256(shard.data).hexdigest()
    assert shard.name == f"{shard.sha256[:20]}-2"
    assert pack([item("b"), item("a")]).name != shard.name


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_cut_keeps_order_and_every_item_once(size: int) -> None:
    items = [item(str(n)) for n in range(7)]
    shards = cut([*items, *items[::-1]], size)
    assert [one for shard in shards for one in shard.items] == items
    assert max(len(shard.items) for shard in shards) <= size


def test_nothing_is_cut_into_no_shards() -> None:
    assert cut([], 4) == []
