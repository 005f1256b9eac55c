"""Queues in any state, made of the worker's own objects: shards, claims, parts, commits, beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from worker.items import Answer, Failure, Item, Result
from worker.queue import layout, parts
from worker.queue.beat import Beat, Claim
from worker.queue.gist import Gist
from worker.queue.holding import release
from worker.queue.protocol import Sizes, first_answers, item_id
from worker.queue.recipe import Recipe, freeze
from worker.queue.shards import Shard, pack
from worker.queue.store import Store, open_store
from worker.queue.text import decode, encode

TASKS = Path(__file__).with_name("tasks")
"""the folder of the task `shout`, for WORKER_TASKS"""


class QueueUnderTest:
    def __init__(self, url: str = "", *, shard_size: int = 4) -> None:
        self.store: Store = open_store(url or f"memory://{uuid4().hex}", make=True)
        self.run = freeze(self.store, Recipe(task="shout"), Sizes(shard_size))

    def item(self, input: str, generation: int = 0) -> Item:
        return Item(item_id(self.run.fingerprint, input, 0, "", {}), input, generation=generation)

    def shard(self, *inputs: str, generation: int = 0) -> Shard:
        """Of a retry: also its record, in which the author of a real one names all of its shards at once."""
        shard = pack([self.item(input, generation) for input in inputs])
        if generation:
            name = layout.retry(generation)
            record = decode(self.store.get(name) or b'{"shards":{}}')
            shards = record["shards"] | {shard.name: shard.data.decode()}
            self.store.put(name, encode({"generation": generation, "shards": shards}))
        self.store.create(layout.items(shard.name), shard.data)
        return shard

    def claim(self, shard: Shard, epoch: int = 1, worker: str = "w1") -> Claim:
        body = {"worker": worker, "nonce": uuid4().hex, "reason": "first", "careful": False}
        self.store.create(layout.claim(shard.name, epoch), encode(body))
        return shard.name, epoch

    def release(self, claim: Claim) -> None:
        release(self.store, *claim, "stopped")

    def part(self, shard: Shard, results: Sequence[Result], epoch: int = 1, number: int = 1) -> str:
        name = layout.part(shard.name, epoch, number)
        self.store.create(name, parts.pack(results))
        return name

    def commit(
        self,
        shard: Shard,
        failing: Mapping[str, Failure] | None = None,
        *,
        inline: Sequence[Result] | None = None,
        listed: Sequence[str] = (),
        epoch: int = 1,
        worker: str = "w1",
    ) -> None:
        """Done, with every item answered in the record itself unless `listed` names parts."""
        if inline is None and not listed:
            inline = [self.result(item.input, (failing or {}).get(item.input)) for item in shard.items]
        listed_bytes = [self.store.get(name) or b"" for name in listed]
        contents = [parts.unpack(data) or [] for data in listed_bytes]
        gist = Gist()
        for result in first_answers([*contents, inline or []]).values():
            gist.add(result.kind, result.seconds)
        record = {
            "shard": shard.name,
            "sha256": shard.sha256,
            **gist.as_json(),
            "bytes": list(map(len, listed_bytes)),
            "parts": list(listed),
            "worker": worker,
            "epoch": epoch,
            "inline": parts.pack(inline).decode() if inline else None,
        }
        self.store.create(layout.done(shard.name), encode(record))

    def result(
        self,
        input: str,
        outcome: Answer | Failure | None = None,
        *,
        files: Mapping[str, bytes] | None = None,
        seconds: float = 1.0,
        worker: str = "w1",
    ) -> Result:
        names = {name: layout.file(content) for name, content in (files or {}).items()}
        for content in (files or {}).values():
            self.store.create(layout.file(content), content)
        run = {"seconds": seconds, "worker": worker}
        answer = outcome or Answer({"shout": input.upper()})
        return Result(self.item(input).id, input, answer, files=names, run=run)

    def beat(
        self,
        worker: str = "w1",
        *,
        claims: Sequence[Claim] = (),
        hand: Sequence[str] = (),
        at: float = 0.0,
        counter: int = 1,
        **info: Any,
    ) -> None:
        hands = tuple(self.item(input).id for input in hand)
        beat = Beat(worker, counter, 60.0, frozenset(claims), hands, info, at)
        self.store.put(layout.worker(worker), beat.encode())

    def take_inbox(self, name: str, content: bytes, refused: Sequence[Mapping[str, Any]] = ()) -> None:
        """The record that a file of the inbox was cut."""
        record = {"file": name, "sha256": "", "shards": [], "refused": list(refused)}
        self.store.create(layout.taken(name, content), encode(record))
