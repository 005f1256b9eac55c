"""The inbox: anybody drops .jsonl files there, even slowly; each is cut into shards once it stands still."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.clock import Clock
from worker.items import Item, Json
from worker.queue import layout
from worker.queue.intake import Added, add
from worker.queue.lines import Refused, Wish
from worker.queue.protocol import Sizes, Watch
from worker.queue.store import Store
from worker.queue.text import encode
from worker.redact import redact

Read = tuple[Sequence[Item], Sequence[Refused]]
"""the items of a file, and the lines that cannot be one"""
Reader = Callable[[bytes], Read]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    added: Added
    refused: Sequence[Refused]


def take(store: Store, sizes: Sizes, name: str, content: bytes, read: Reader) -> Taken:
    """Cut one file; the record that keeps what was refused is written last, so a crash means once more."""
    items, refused = read(content)
    added = add(store, sizes, items)
    keep(store, name, content, refused, {"items": len(items), "shards": added.shards})
    for one in refused:
        log.warning("%s line %d %s", name, one.line, one.why)
    return Taken(added, refused)


def keep(
    store: Store,
    name: str,
    content: bytes,
    refused: Sequence[Refused],
    more: Mapping[str, Json] | None = None,
) -> None:
    """Record what was refused; of several records under one name the last turn counts."""
    name = redact(name)
    earlier = [e for e in store.list(layout.TAKEN) if e.name.startswith(layout.takings(name))]
    record = {
        "file": name,
        "turn": len(earlier),
        "sha256": hashlib.sha256(content).hexdigest(),
        **(more or {}),
        "refused": [{"line": one.line, "why": redact(one.why)} for one in refused],
    }
    # False: somebody took the same bytes at the same time, with the same refusals
    store.create(layout.taken(name, content), encode(record))


class Inbox:
    """One worker's eye on the inbox."""

    def __init__(self, store: Store, sizes: Sizes, ttl: float, clock: Clock, read: Reader) -> None:
        self.waiting = 0
        """files that do not stand still for long enough yet"""
        self._store = store
        self._sizes = sizes
        self._ttl = ttl
        self._clock = clock
        self._read = read
        self._watches: dict[str, Watch] = {}
        self._settled: dict[str, str] = {}
        """files and their versions that are cut, or that are not ours to cut"""

    def look(self, poll: float) -> int:
        """Cut what stands still; → new items. `poll`: seconds between two looks, as for claims (rule 3)."""
        new = self.waiting = 0
        for entry in self._store.list(layout.INBOX):
            if self._settled.get(entry.name) == entry.version:
                continue
            if not entry.name.endswith(".jsonl"):
                log.warning("%s is left alone: an inbox file ends in .jsonl", entry.name)
                self._settled[entry.name] = entry.version
                continue
            watch = self._watches.setdefault(entry.name, Watch())
            first = watch.state != entry.version
            still = watch.see(entry.version, self._clock.now(), poll)
            if still >= self._ttl and not self._was_taken(entry.name):
                new += self._take(entry.name, entry.version)
            elif (first or still >= self._ttl) and self._was_taken(entry.name):
                self._settled[entry.name] = entry.version
            else:
                self.waiting += 1
        return new

    def _take(self, name: str, version: str) -> int:
        content = self._store.get(name)
        entry = self._store.head(name)
        if content is None or entry is None or entry.version != version:
            self.waiting += 1
            return 0
        taken = take(self._store, self._sizes, name, content, self._read)
        log.info("%s: %d items, %d of them new", name, taken.added.new + taken.added.known, taken.added.new)
        self._settled[name] = version
        return taken.added.new

    def _was_taken(self, name: str) -> bool:
        content = self._store.get(name)
        return content is not None and self._store.head(layout.taken(name, content)) is not None


def read_lines(
    parsed: Iterable[Wish | Refused], resolve: Callable[[Wish], Item | Refused]
) -> tuple[list[Item], list[Refused]]:
    """Lines → items; what is refused on the way keeps its line number."""
    found = [one if isinstance(one, Refused) else resolve(one) for one in parsed]
    return [i for i in found if isinstance(i, Item)], [r for r in found if isinstance(r, Refused)]
