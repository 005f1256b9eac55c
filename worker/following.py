"""Folders that somebody goes on writing into: a file becomes an item once its bytes stand still."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import thread_time

from worker.clock import Clock
from worker.enqueue import bring
from worker.inputs import Root
from worker.items import Item
from worker.queue import intake
from worker.queue.inbox import keep
from worker.queue.lines import Refused, Wish
from worker.queue.protocol import Watch
from worker.queue.recipe import Run
from worker.queue.store import Store
from worker.sources import Resolver, common_folder
from worker.tasks import registry

log = logging.getLogger(__name__)

STILL_S = 3.0
LOOK_S = 1.0
"""between two looks; shorter where files need not stand still for so long"""
SHARE = 10
"""of a core, at most one part in so many goes into looking"""
ROUND = 1000
"""of the files that were taken, about so many are looked at again in one look"""
TURNS = 20
"""but each of them once in so many looks"""


class Following:
    """One process's eye on some folders. What changes after it was taken is taken again."""

    def __init__(
        self, store: Store, run: Run, folders: Sequence[str], root: str | None, still_s: float, clock: Clock
    ) -> None:
        self._store = store
        self._run = run
        self._task = registry.find(run.recipe.task)
        self._folders = [Root(folder) for folder in folders]
        self._base = Root(root or common_folder(folders)).location
        intake.add_root(store, self._base)
        self._resolve = Resolver(self._task, run.fingerprint, [self._base])
        self._still_s = still_s
        self._clock = clock
        self._watches: dict[str, Watch] = {}
        self._settled: dict[str, str] = {}
        """what was taken and lies there, and its state then"""
        self._gone: set[int] = set()
        """the names, hashed, of what was taken and lies there no more: one of that name may come again"""
        self._unreadable: set[str] = set()
        self._compared = False
        self._looks = 0
        self.poll = min(LOOK_S, still_s / 2)
        """seconds until the next look"""

    def look(self) -> int:
        """Take what stands still; → new items."""
        began = thread_time()
        paths = list(self._paths())
        still = {path: state for path in self._due(paths) if (state := self._still(path))}
        self._forget_all_but(set(paths))
        self.poll = max(min(LOOK_S, self._still_s / 2), (SHARE - 1) * (thread_time() - began))
        items = []
        for path in still:
            found = self._resolve(Wish(0, path, {}))
            if isinstance(found, Refused):
                log.warning("a file that came in %s", found.why)
                keep(self._store, path.encode(errors="replace").decode(), found.why.encode(), [found])
            else:
                items.append(found)
        new = self._add(items, changed=any(map(self._was_taken, still))) if items else 0
        # only now: if the store was away, the next look takes them again
        self._settled |= still
        for path in still:
            del self._watches[path]
        return new

    def _add(self, items: Sequence[Item], *, changed: bool) -> int:
        """What lies there from an earlier run, or was taken before, is compared with the whole queue; else
        it is new."""
        if changed or not self._compared:
            brought = bring(self._store, self._run, items, self._base, self._base)
            self._compared = True
            return brought.added.new
        shards = intake.append(self._store, self._run.sizes, items)
        intake.add_origin(self._store, self._base, shards)
        return len(items)

    def _paths(self) -> Iterator[str]:
        for folder in self._folders:
            for name in folder.below(self._unread):
                path = f"{folder.location}/{name}"
                if path in self._settled or self._takes(name):
                    yield path

    def _unread(self, error: OSError) -> None:
        """A folder within that cannot be listed costs what is in it alone."""
        place = str(error.filename)
        if any(place == folder.location for folder in self._folders):
            raise error
        if place not in self._unreadable:
            self._unreadable.add(place)
            log.warning("%s cannot be read (%s); the others are followed", place, error.strerror)

    def _takes(self, name: str) -> bool:
        return not self._task.suffixes or Path(name).suffix.lower() in self._task.suffixes

    def _due(self, paths: Sequence[str]) -> Iterator[str]:
        """What is new or moves, and some of those that were taken: each has its turn after so many looks."""
        self._looks += 1
        turns = min(TURNS, 1 + len(self._settled) // ROUND)
        for path in paths:
            if path not in self._settled or path in self._watches or (hash(path) + self._looks) % turns == 0:
                yield path

    def _forget_all_but(self, paths: set[str]) -> None:
        for path in self._watches.keys() - paths:
            del self._watches[path]
        for path in self._settled.keys() - paths:
            del self._settled[path]
            self._gone.add(hash(path))

    def _was_taken(self, path: str) -> bool:
        return path in self._settled or hash(path) in self._gone

    def _still(self, path: str) -> str | None:
        """The state in which it stands still. None: it does not, or was taken so."""
        try:
            seen = Path(path).stat()
        except OSError:  # it went as it came
            return None
        state = f"{seen.st_size} {seen.st_mtime_ns}"
        if self._settled.get(path) == state:
            self._watches.pop(path, None)
            return None
        watch = self._watches.setdefault(path, Watch())
        return state if watch.see(state, self._clock.now(), self.poll) >= self._still_s else None


@contextmanager
def followed(following: Following) -> Iterator[None]:
    """In a thread of its own, until the end of the with."""
    over = threading.Event()

    def watch() -> None:
        told = ""
        while not over.is_set():
            try:
                if new := following.look():
                    log.info("%d new in the folders that are followed", new)
                told = ""
            except Exception as error:  # a disk or a store that is away; the next look tries again
                if told != str(error):
                    told = str(error)
                    log.warning("the folders cannot be followed now: %s", told)
            over.wait(following.poll)

    thread = threading.Thread(target=watch, name="following", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)
