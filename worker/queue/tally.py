"""Which items a queue has, and what is answered so far: committed or not, each item counted once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Generic, TypeVar

from worker.errors import UsageError
from worker.items import Item, Result
from worker.queue import layout, parts
from worker.queue.answers import read_done, read_shard
from worker.queue.protocol import Candidate, first_answers
from worker.queue.store import Store, at_once
from worker.queue.superseded import Superseded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Count(Generic[T]):
    """One look at the items."""

    items: Mapping[str, Item]
    """by id, each as the shard of its answer has it"""
    answers: Mapping[str, T]
    """by id, of what is answered or failed for good"""
    failed: frozenset[str]
    """those of the answers that are failures"""
    open: frozenset[str]
    """ids that some shard still waits for: never answered, or asked for again"""
    shards: frozenset[str]
    done: frozenset[str]


class Tally(Generic[T]):
    """What can never change is read once, and of each result only `keep(result)` is kept."""

    def __init__(self, store: Store, keep: Callable[[Result], T]) -> None:
        self._store = store
        self._keep = keep
        self._items: dict[str, tuple[Item, ...]] = {}
        self._done: dict[str, dict[str, tuple[bool, T]]] = {}
        self._parts: dict[str, dict[str, tuple[bool, T]]] = {}
        self._superseded = Superseded(store)

    def look(self) -> Count[T]:
        shards = self._names(layout.ITEMS)
        done = self._names(layout.DONE) & shards
        at_once(self._read_done, sorted(done - self._done.keys()))
        at_once(self._read_items, sorted(shards - self._items.keys()))
        self._look_at_parts(shards - done)
        return self._count(shards, done)

    def _names(self, prefix: str) -> set[str]:
        return {layout.shard_of(entry.name) for entry in self._store.list(prefix)}

    def _read_done(self, name: str) -> None:
        done = read_done(self._store, name)
        self._items[name] = done.shard.items
        self._done[name] = self._keep_all(done.answers)

    def _read_items(self, name: str) -> None:
        self._items[name] = read_shard(self._store, name).items

    def _look_at_parts(self, shards: set[str]) -> None:
        """Parts of unfinished shards; a torn one counts for nothing."""
        names = [e.name for e in self._store.list(layout.PARTS)] if shards else []
        names = [name for name in names if name.split("/")[1] in shards and layout.part_of(name)]
        self._parts = {name: self._parts[name] for name in names if name in self._parts}
        at_once(self._read_part, [name for name in names if name not in self._parts])

    def _read_part(self, name: str) -> None:
        results = parts.unpack(self._store.get(name) or b"")
        if results is not None:
            self._parts[name] = self._keep_all(first_answers([results]))

    def _keep_all(self, answers: Mapping[str, Result]) -> dict[str, tuple[bool, T]]:
        return {item: (result.ok, self._keep(result)) for item, result in answers.items()}

    def _count(self, shards: set[str], done: set[str]) -> Count[T]:
        answers = {name: self._done[name] for name in done} | {name: {} for name in shards - done}
        for name in sorted(self._parts, key=lambda n: layout.part_of(n) or (0, 0)):
            shard = name.split("/")[1]
            answers[shard] = self._parts[name] | answers[shard]
        gone = self._superseded.look()
        items: dict[str, Item] = {}
        best: dict[str, tuple[Candidate, T]] = {}
        waiting: set[str] = set()
        for shard in sorted(shards):
            for item in self._items[shard]:
                if item.id in gone:
                    continue
                items.setdefault(item.id, item)
                if item.id not in answers[shard]:
                    waiting.add(item.id)
                    continue
                ok, kept = answers[shard][item.id]
                candidate = Candidate(item.generation, shard, ok)
                if item.id not in best or candidate.beats(best[item.id][0]):
                    best[item.id] = (candidate, kept)
                    items[item.id] = item
        # a failure that is asked for again is no last word yet; an answer is, whoever asks again
        final = {i: pair for i, pair in best.items() if pair[0].ok or i not in waiting}
        return Count(
            items=items,
            answers={item: kept for item, (_, kept) in final.items()},
            failed=frozenset(item for item, (candidate, _) in final.items() if not candidate.ok),
            open=frozenset(waiting),
            shards=frozenset(shards),
            done=frozenset(done),
        )


def pick(count: Count[T], names: Sequence[str]) -> list[Item]:
    """The items to ask for again: those named by id or input, or without names all that failed.

    What nobody has answered yet waits already, and is left out."""
    if not names:
        return [count.items[item] for item in sorted(count.failed)]
    by_input: dict[str, list[str]] = {}
    for item in count.items.values():
        by_input.setdefault(item.input, []).append(item.id)
    chosen: dict[str, Item] = {}
    for name in names:
        ids = [name] if name in count.items else by_input.get(name, [])
        if not ids:
            near = get_close_matches(name, by_input, n=1)
            hint = (
                f"did you mean {near[0]}?" if near else "give an item's id, or its input as the report has it"
            )
            raise UsageError(f"no item of this queue is called '{name}'; {hint}")
        chosen |= {item: count.items[item] for item in ids if item not in count.open}
    return list(chosen.values())
