"""How large shards become: by what items took so far, and one size a list, whoever brings it."""

from __future__ import annotations

import math
from collections.abc import Collection

from worker.queue import layout
from worker.queue.answers import DamagedQueueError, read_done
from worker.queue.protocol import MEASURED_LEAST, Sizes, measured_size
from worker.queue.store import Store
from worker.queue.text import decode, encode

ANSWERS_ENOUGH = 100
SHARDS_MOST = 16


def agreed_size(store: Store, sizes: Sizes, ids: Collection[str]) -> int:
    """The size that whoever brought this list first has measured: two who measure differently cut alike."""
    if not ids:
        return sizes.usual
    name = layout.cut(ids)
    agreed = store.get(name)
    if agreed is None:
        size = size_now(store, sizes, len(ids))
        store.create(name, encode({"shard_size": size}))  # False: another was faster
        agreed = store.get(name)
    return int(decode(agreed)["shard_size"]) if agreed else sizes.usual


def size_now(store: Store, sizes: Sizes, items: int) -> int:
    """For a list of so many. Names of shards are hashes, so the first of them are a fair sample."""
    answers, seconds = 0, 0.0
    for name in sorted(layout.shard_of(entry.name) for entry in store.list(layout.DONE))[:SHARDS_MOST]:
        if answers >= ANSWERS_ENOUGH:
            break
        taken = _seconds(store, name)
        answers, seconds = answers + len(taken), seconds + math.fsum(taken)
    if answers < MEASURED_LEAST:
        return sizes.of_list(items)
    return measured_size(sizes.usual, seconds / answers)


def _seconds(store: Store, shard: str) -> list[float]:
    """What its answers took; failures end early or at a limit, and say nothing of the work."""
    try:
        results = read_done(store, shard).answers.values()
    except DamagedQueueError:
        return []  # collect tells
    return [float(r.run["seconds"]) for r in results if r.ok and "seconds" in r.run]
