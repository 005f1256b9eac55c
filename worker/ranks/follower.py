"""A worker on a node that is not the first of several: it claims nothing, and starts ranks when told to."""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from worker.clerk import patiently
from worker.counts import Counts
from worker.errors import UnfinishedError, UsageError, WorkerError
from worker.items import Item, Json
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Claim, Workspace
from worker.queue.answers import read_shard
from worker.queue.beat import ENDED, IDLE
from worker.queue.store import Store
from worker.ranks.channel import Channel, far, ready
from worker.ranks.coordinator import Ranks, beginning
from worker.ranks.endings import raised
from worker.ranks.group import Group
from worker.ranks.words import DIED, End, Found, Here, Leave, Loaded, Raised, Start, Stop, Together
from worker.tasks.task import JobTask

T = TypeVar("T")

log = logging.getLogger(__name__)


class LostError(Exception):
    """The first node is gone, or its worker is; another one may come to its place."""


class Follower:
    """Has the methods of a JobLoop."""

    share_of_time = 0.85

    def __init__(
        self,
        store: Store,
        ranks: Ranks,
        task: JobTask[Any],
        open_item: Callable[[Item], AbstractContextManager[Item]],
        tick: Callable[[dict[str, Json]], None],
        *,
        scratch: Path,
    ) -> None:
        self.handed_back = threading.Event()
        self._counts = Counts()
        self._store = store
        self._ranks = ranks
        self._task = task
        self._open_item = open_item
        self._tell_parent = tick
        self._scratch = scratch
        self._stop = StopFlag()
        self._item = ""
        self._ticked = 0.0

    def open(self, device: str) -> None:
        pass

    def close(self) -> None:
        pass

    def run(self) -> None:
        """Until the first node says that nothing is left."""
        while not self._stop:
            try:
                with self._met() as line:
                    self._follow(line)
                    break
            except LostError:
                log.warning("node 0 is gone: waiting for it to come back")
                self._stop.wait(1.0)
        self.hand_back()

    def stop(self, reason: str, time_left: float) -> None:
        self._stop.set(reason, time_left * self.share_of_time)

    finish = stop

    def give_up(self) -> None:
        self.hand_back()

    def hand_back(self) -> None:
        """Nothing here is ours."""
        self._tell(ENDED)
        self.handed_back.set()

    @contextmanager
    def _met(self) -> Iterator[Channel]:
        node = self._ranks.node
        line: Channel | None = None
        until = time.monotonic() + self._ranks.patience_s
        while line is None:
            try:
                line = far(socket.create_connection((node.host, node.port), 10.0))
            except OSError as error:
                if time.monotonic() > until:
                    raise UnfinishedError(
                        f"node 0 is not at {node.host}:{node.port} ({error.strerror or error}): is a worker "
                        "running there, and does its firewall let us through?"
                    ) from None
                self._tick()
                if self._stop.wait(1.0):
                    raise LostError from None
        line.send(Here(node.rank, self._ranks.fingerprint, self._ranks.here))
        log.info("node %d of %d, led by %s:%d", node.rank, node.count, node.host, node.port)
        try:
            yield line
        finally:
            line.close()

    def _follow(self, line: Channel) -> None:
        while not self._stop:
            self._tick()
            word = line.next()
            if isinstance(word, Leave):
                if word.reason:
                    raise (UnfinishedError if word.again else UsageError)(word.reason)
                return
            if isinstance(word, Start):
                self._join(line, word)
            elif line.ended:
                raise LostError
            elif word is None:
                ready([line], 1.0)

    def _join(self, line: Channel, start: Start) -> None:
        """One start of the ranks."""
        folder = Path(tempfile.mkdtemp(prefix="job-", dir=self._scratch))
        try:
            item = self._patiently(lambda: self._item_of(start))
            self._item = item.input
            opening = self._open_item(item)
            opened = self._patiently(opening.__enter__)
            try:
                self._work(line, start, opened, folder)
            finally:
                opening.__exit__(None, None, None)
        except LostError:
            raise
        except Exception as error:
            log.debug("no rank can be started", exc_info=True)
            told = raised(-1, error)
            line.send(replace(told, text=f"node {self._ranks.node.rank}: {told.text}"))
            if isinstance(error, WorkerError):
                raise
        finally:
            self._item = ""
            shutil.rmtree(folder, ignore_errors=True)
            line.send(End())

    def _item_of(self, start: Start) -> Item:
        """Whoever speaks for node 0 says which job of the queue, and not what it is."""
        for item in read_shard(self._store, start.shard).items:
            if item.id == start.item:
                return item
        raise UsageError(f"node 0 does {start.item} of {start.shard}, which this queue has not")

    def _work(self, line: Channel, start: Start, item: Item, folder: Path) -> None:
        found = self._fetched(start, folder) if start.checkpoint else None
        ranks = self._ranks
        begin = beginning(self._task, item, ranks, start.backend, start.halved, folder, found)
        told = ended = False
        with Group(begin, ranks.node, ranks.here, start.port, folder) as group:
            while not (self._stop and not self._stop.time_left):
                self._tick()
                for _, word in group.hear([line]):
                    if isinstance(word, Raised) and word.kind == DIED and not ended:
                        group.kill()
                        line.send(group.explained(word))
                        ended = True
                    elif isinstance(word, Loaded | Together | Raised) and not ended:
                        line.send(word)
                if isinstance(line.next(), End):
                    return
                if line.ended:
                    raise LostError
                if self._stop and not told:
                    told = line.send(Stop(self._stop.reason, self._stop.time_left))

    def _fetched(self, start: Start, folder: Path) -> Found:
        """From the queue, as the next holder of the job would."""
        assert start.checkpoint
        shard, epoch, number = start.checkpoint
        claim = Claim(shard, epoch, lambda: True, lambda: True)
        workspace = Workspace(self._store, claim, folder, 1, lambda _: self._tick(), self._tick)
        found = workspace.fetch((shard, (epoch, number)))
        if found is None:
            raise OSError(f"checkpoint {epoch}-{number} of {shard} cannot be fetched whole")
        return Found(found.step, found.score, str(found.folder))

    def _patiently(self, wanted: Callable[[], T]) -> T:
        fetcher = ThreadPoolExecutor(1, thread_name_prefix="input")
        try:
            return patiently(fetcher.submit(wanted), self._tick)
        finally:
            fetcher.shutdown(wait=False)

    def _tick(self) -> None:
        if time.monotonic() - self._ticked >= 1.0:
            self._tell("working" if self._item else IDLE)

    def _tell(self, state: str) -> None:
        self._ticked = time.monotonic()
        with suppress(OSError):
            self._tell_parent({**self._counts.info(state, self._item), "shards": 0, "shards_done": 0})
