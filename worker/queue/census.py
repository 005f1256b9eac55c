"""How many items are answered and how many failed, found without reading them.

Names of shards say how many items they have, done records what became of them. Results are read only of open
shards, for a few examples of failures, and where a retry may have changed what became of an item.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.items import Failure, Result
from worker.queue import layout, parts
from worker.queue.answers import DamagedQueueError, missing_part, read_done, read_shard
from worker.queue.gist import Gist, Seconds
from worker.queue.protocol import Candidate, first_answers
from worker.queue.store import Store, at_once
from worker.queue.superseded import Gone, Superseded
from worker.queue.text import decode

EXAMPLES = 5
HEAD = 2048
"""bytes of a done record that hold its counts and its parts, unless these are very many"""


@dataclass(frozen=True, slots=True)
class FailedItem:
    input: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Numbers:
    """One look at the items."""

    shards: frozenset[str]
    done: frozenset[str]
    total: int
    answered: int
    """failures included"""
    failures: Mapping[str, int]
    """kind → count"""
    left: int
    """answers that some shard waits for; one more than items are open where an answer was asked for again"""
    seconds: Seconds
    examples: Sequence[FailedItem]
    superseded: int
    """items that count no longer, for their file has another content by now"""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept of a result between two looks."""

    failure: FailedItem | None
    seconds: float | None


_Answers = dict[str, _Kept]
"""by item"""


class Census:
    """What can never change is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gists: dict[str, Gist] = {}
        """of done shards"""
        self._listed: dict[str, int] = {}
        """parts of done shards that nobody has looked for yet, and their bytes"""
        self._failed: dict[str, _Answers] = {}
        """the failures of done shards, of those that had to be read"""
        self._parts: dict[str, _Answers] = {}
        self._retries: dict[str, int] = {}
        """shards of retries, and of which"""
        self._known: set[str] = set()
        """records of retries that were read"""
        self._wanted: dict[str, frozenset[str]] = {}
        """items of the shards of retries"""
        self._again: dict[str, _Answers] = {}
        """answers of done shards of retries, and of those with superseded items"""
        self._superseded = Superseded(store)
        self._gone: Gone = {}

    def look(self) -> Numbers:
        shards = self._names(layout.ITEMS)
        done = self._names(layout.DONE) & shards
        self._look_at_retries()
        self._gone = self._superseded.look()
        first = shards - self._retries.keys()
        total = sum(map(self._count, first)) - sum(map(len, self._gone.values()))
        new = sorted(done - self._gists.keys())
        self._gists |= zip(new, at_once(self._read_gist, new), strict=True)
        there = self._store.list(layout.PARTS) if shards - done or self._listed else []
        self._look_for_listed({entry.name: entry.size for entry in there})
        opened = self._look_at_parts(shards - done, [entry.name for entry in there])
        gist = Gist()
        for name in done & first:
            gist.merge(self._gists[name])
        for name in opened.keys() & first:
            _add(gist, opened[name])
        self._take_back(gist, done)
        failing = sorted(name for name in done & first if self._gists[name].failed)
        again = shards & self._retries.keys()
        if again:
            gist, left, examples = self._count_retries(gist, total, failing, again, done, opened)
        else:
            left = total - gist.answered
            examples = self._examples(failing, opened)
        return Numbers(
            shards=frozenset(shards),
            done=frozenset(done),
            total=total,
            answered=gist.answered,
            failures={kind: n for kind, n in sorted(gist.failed.items()) if n},
            left=left,
            seconds=gist.seconds,
            superseded=len(self._gone),
            examples=sorted(examples, key=lambda one: (one.input, one.kind))[:EXAMPLES],
        )

    def _names(self, prefix: str) -> set[str]:
        return {layout.shard_of(entry.name) for entry in self._store.list(prefix)}

    def _count(self, name: str) -> int:
        count = layout.count_of(name)
        return len(read_shard(self._store, name).items) if count is None else count  # an error, in one line

    def _read_gist(self, name: str) -> Gist:
        """The counts stand in front of the results, so the first bytes will do."""
        try:
            head = self._store.read(layout.done(name), 0, HEAD)
            # in a text the quotes would be escaped, and names of parts have no brackets
            front, found, _ = head.partition(b'],"worker":')
            record = json.loads(front + b"]}" if found else self._store.get(layout.done(name)) or b"")
            self._listed |= zip(record["parts"], record.get("bytes", ()), strict=False)
            return Gist.of(record)
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            raise DamagedQueueError(
                f"{self._store.url}/{layout.done(name)} is not as a worker wrote it: restore it"
            ) from None

    def _look_for_listed(self, there: Mapping[str, int]) -> None:
        """A commit is worth as much as the parts that it lists. Their hashes are seen to by collect."""
        for name in [name for name, size in self._listed.items() if there.get(name) != size]:
            entry = self._store.head(name)  # a list may be late
            if entry is None or entry.size != self._listed[name]:
                raise DamagedQueueError(missing_part(self._store, name))
        self._listed.clear()

    # open shards

    def _look_at_parts(self, shards: set[str], names: Sequence[str]) -> dict[str, _Answers]:
        """What open shards have answered so far, in the order of their parts; a torn one is nothing."""
        names = [name for name in names if name.split("/")[1] in shards and layout.part_of(name)]
        self._parts = {name: self._parts[name] for name in names if name in self._parts}
        at_once(self._read_part, [name for name in names if name not in self._parts])
        answers: dict[str, _Answers] = {}
        for name in sorted(self._parts, key=lambda n: layout.part_of(n) or (0, 0)):
            shard = name.split("/")[1]
            answers[shard] = self._counted(self._parts[name]) | answers.get(shard, {})
        return answers

    def _read_part(self, name: str) -> None:
        results = parts.unpack(self._store.get(name) or b"")
        if results is not None:
            self._parts[name] = _keep(first_answers([results]))

    # superseded items

    def _counted(self, answers: _Answers) -> _Answers:
        return {item: kept for item, kept in answers.items() if item not in self._gone}

    def _take_back(self, gist: Gist, done: set[str]) -> None:
        """Of done shards; in open ones they were not counted."""
        shards = {name for held_by in self._gone.values() for name in held_by} & done
        at_once(self._read_again, sorted(shards - self._again.keys()))
        for item, held_by in self._gone.items():
            for name in shards & set(held_by):
                kept = self._again[name][item]
                gist.take_back(kept.failure.kind if kept.failure else None, kept.seconds)

    # failures

    def _read_failed(self, name: str) -> None:
        answers = _keep(read_done(self._store, name).answers)
        self._failed[name] = {item: kept for item, kept in answers.items() if kept.failure}

    def _examples(self, failing: Sequence[str], opened: Mapping[str, _Answers]) -> list[FailedItem]:
        """The first ones in the order of shards: of the others not even the names are read."""
        found: list[FailedItem] = []
        for name in failing:
            if len(found) >= EXAMPLES:
                return found
            if name not in self._failed:
                self._read_failed(name)
            found += _failures(self._counted(self._failed[name]))
        for name in sorted(opened):
            found += _failures(opened[name])
        return found

    # retries

    def _look_at_retries(self) -> None:
        new = [e.name for e in self._store.list(layout.RETRIES) if e.name not in self._known]
        for record in at_once(self._store.get, new):
            if record:
                retry = decode(record)
                self._retries |= dict.fromkeys(retry["shards"], retry["generation"])
        self._known.update(new)

    def _count_retries(
        self,
        gist: Gist,
        total: int,
        failing: Sequence[str],
        again: set[str],
        done: set[str],
        opened: Mapping[str, _Answers],
    ) -> tuple[Gist, int, list[FailedItem]]:
        """Rule 10, for each item that failed at first and was asked for again."""
        at_once(self._read_failed, [name for name in failing if name not in self._failed])
        at_once(self._read_wanted, sorted(again - self._wanted.keys()))
        at_once(self._read_again, sorted(again & done - self._again.keys()))
        answers = {name: self._again.get(name) or opened.get(name, {}) for name in again}
        best = {
            item: (Candidate(0, "", False), kept)
            for name in failing
            for item, kept in self._counted(self._failed[name]).items()
        }
        waiting: set[str] = set()
        left = total - gist.answered
        for name in sorted(again):
            _add_seconds(gist.seconds, answers[name])
            for item in self._wanted[name] - self._gone.keys():
                kept = answers[name].get(item)
                if kept is None:
                    waiting.add(item)
                elif item in best:
                    candidate = Candidate(self._retries[name], name, kept.failure is None)
                    if candidate.beats(best[item][0]):
                        best[item] = (candidate, kept)
        # a failure that is asked for again is no last word yet
        open_again = {i for i in waiting if i in best and best[i][1].failure}
        last = [kept.failure for item, (_, kept) in best.items() if kept.failure and item not in open_again]
        in_hand = [f for name in opened.keys() - again for f in _failures(opened[name])]
        examples = [*last, *in_hand]
        failed = Counter(one.kind for one in examples)
        return Gist(gist.answered - len(open_again), failed, gist.seconds), left + len(waiting), examples

    def _read_wanted(self, name: str) -> None:
        self._wanted[name] = frozenset(item.id for item in read_shard(self._store, name).items)

    def _read_again(self, name: str) -> None:
        self._again[name] = _keep(read_done(self._store, name).answers)


def _keep(answers: Mapping[str, Result]) -> _Answers:
    return {item: _kept(result) for item, result in answers.items()}


def _kept(result: Result) -> _Kept:
    outcome = result.outcome
    failed = FailedItem(result.input, outcome.kind, outcome.message) if isinstance(outcome, Failure) else None
    return _Kept(failed, result.seconds)


def _failures(answers: _Answers) -> list[FailedItem]:
    return [kept.failure for kept in answers.values() if kept.failure]


def _add(gist: Gist, answers: _Answers) -> None:
    for kept in answers.values():
        gist.add(kept.failure.kind if kept.failure else None, kept.seconds)


def _add_seconds(sums: Seconds, answers: _Answers) -> None:
    for kept in answers.values():
        if kept.seconds is not None:
            sums.add(kept.seconds)
