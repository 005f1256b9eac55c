"""Reading what is committed: the parts that a done record lists."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from worker.errors import WorkerError
from worker.items import Result
from worker.queue import layout, parts
from worker.queue.protocol import first_answers
from worker.queue.shards import Shard, unpack
from worker.queue.store import Store
from worker.queue.text import decode


class DamagedQueueError(WorkerError):
    """What is committed cannot be read back as it was written."""


@dataclass(frozen=True, slots=True)
class Done:
    """A committed shard."""

    shard: Shard
    answers: dict[str, Result]
    parts: int
    epoch: int


def read_shard(store: Store, name: str) -> Shard:
    data = store.get(layout.items(name))
    if data is None:
        raise DamagedQueueError(f"{store.url}/{layout.items(name)} is missing: restore it")
    try:
        shard = unpack(data)
    except (ValueError, KeyError, TypeError):
        shard = None
    if shard is None or shard.name != name:
        raise DamagedQueueError(
            f"{store.url}/{layout.items(name)} is not as a worker wrote it: "
            "restore it, or remove it and drop new work into inbox/"
        )
    return shard


def missing_part(store: Store, part: str) -> str:
    return f"{store.url}/{part} is missing or torn though it is listed: restore it"


def read_done(store: Store, name: str) -> Done:
    """Everything is checked: the items' hash, each part's last line, and that every item is answered."""
    shard = read_shard(store, name)
    try:
        record = decode(store.get(layout.done(name)) or b"{}")
    except ValueError:
        record = {}
    if record.get("sha256") != shard.sha256 or hashlib.sha256(shard.data).hexdigest() != shard.sha256:
        raise DamagedQueueError(f"{store.url}/{layout.done(name)} does not belong to its items file")
    contents = []
    for part in record["parts"]:
        results = parts.unpack(store.get(part) or b"")
        if results is None:
            raise DamagedQueueError(missing_part(store, part))
        contents.append(results)
    if record["inline"] is not None:
        inline = parts.unpack(record["inline"].encode())
        if inline is None:
            raise DamagedQueueError(f"{store.url}/{layout.done(name)} is torn: restore it")
        contents.append(inline)
    answers = first_answers(contents)
    absent = [item.input for item in shard.items if item.id not in answers]
    if absent:
        raise DamagedQueueError(f"{store.url}/{layout.done(name)} has no answer for {absent[0]}")
    return Done(shard, answers, len(contents), record["epoch"])
