"""The way of a job: claim → run, with checkpoints → done. One at a time; the sister of worker/loop.py."""

from __future__ import annotations

import gc
import inspect
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from worker.blame import ILL_AFTER, failure_of
from worker.clerk import Clerk, patiently
from worker.counts import Counts
from worker.errors import ItemError, MachineError, UnfitError, WorkerError
from worker.items import Answer, Failure, Item, Json, Result
from worker.jobs import checkpoints
from worker.jobs.attempts import Attempts
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Claim, TakenOverError, Workspace
from worker.looking import Looking
from worker.queue.beat import ENDED, IDLE
from worker.queue.holding import Holding
from worker.queue.store import Store
from worker.queue.text import unwritable
from worker.tasks.task import JobTask, Stopped

log = logging.getLogger(__name__)


class DeviceError(MachineError):
    """The device failed in the middle of a job."""


class SpentProcessError(Exception):
    """CUDA does not recover within a process. The parent starts another one, as after any death; where the
    device does not even come as far as a checkpoint, it is ill."""


class JobLoop:
    share_of_time = 0.85
    """of what is left after a stop: for the last checkpoint; the rest is for handing back"""
    pause_s = 5.0
    """before a job that raised is tried again: a network or a disk may need a moment"""

    def __init__(
        self,
        task: JobTask[Any],
        store: Store,
        looking: Looking,
        open_item: Callable[[Item], AbstractContextManager[Item]],
        tick: Callable[[dict[str, Json]], None],
        *,
        worker: str,
        scratch: Path,
        run: Callable[[Item, Workspace, StopFlag], Answer | Failure] | None = None,
    ) -> None:
        """`run`: who does the task's work in its place."""
        self.counts = Counts()
        self.handed_back = threading.Event()
        self._task = task
        self._run = run or task.run
        self._store = store
        self._looking = looking
        self._open_item = open_item
        self._tell_parent = tick
        self._worker = worker
        self._scratch = scratch
        self._clerk = Clerk(self._tick)
        self._stop = StopFlag()
        self._holding: Holding | None = None
        self._item = ""
        self._told: Mapping[str, Json] = {}
        self._checkpoints = 0
        self._faults = 0
        """of this machine, with no job done and no checkpoint made between them"""
        self._ticked = 0.0
        self._handing_back = threading.Lock()

    def run(self) -> None:
        while self._goes_on():
            taken = self._clerk.now(self._looking.take)
            for holding in taken:
                self._holding = holding
                self._work(holding)
                self._holding = None
                self._looking.worked()
            if not taken:
                self._nap(self._looking.poll)
        self.hand_back()

    def _goes_on(self) -> bool:
        return not self._stop and self._looking.goes_on(busy=False)

    def stop(self, reason: str, time_left: float) -> None:
        self._stop.set(reason, time_left * self.share_of_time)

    def finish(self, reason: str, within: float) -> None:
        """The last checkpoint is all that a job finishes."""
        self.stop(reason, within)

    def give_up(self) -> None:
        self._clerk.give_up()

    def hand_back(self) -> None:
        """The job goes back, once, by whichever thread comes first; its checkpoints stay."""
        if not self._handing_back.acquire(blocking=False):
            return
        try:
            if self._holding:
                self._clerk.now(self._holding.release, self._stop.reason or "the worker ends")
        finally:
            self._clerk.close()
            self._tell(ENDED)
            self.handed_back.set()

    def _work(self, holding: Holding) -> None:
        shard, items = holding.shard.name, holding.left()
        for item in items:
            if not self._clerk.now(holding.ours) or not self._clerk.now(holding.begin, [item]):
                self._let_go(holding)
                return
            made = self._checkpoints
            try:
                result = self._result(holding, item)
            except TakenOverError as error:
                log.warning("%s", error)
                self._clerk.now(holding.drop)
                return
            except MachineError as error:
                came_further = self._checkpoints > made
                self._faults = 1 if came_further else self._faults + 1
                self._clerk.now(holding.release, str(error))
                if came_further and isinstance(error, DeviceError):
                    raise SpentProcessError(str(error)) from error
                if isinstance(error, UnfitError) or self._faults >= ILL_AFTER:
                    raise
                log.warning("%s; trying again", error)
                return
            except Stopped:
                self._clerk.now(holding.release, self._stop.reason or "the job stopped")
                return
            self._faults = 0
            self._clerk.now(holding.add, [result])
            self.counts.add(result)
        self._clerk.now(holding.commit)
        for item in items:
            try:
                self._clerk.now(checkpoints.clear, self._store, shard, item.after, self._task.keep)
            except WorkerError as error:
                log.warning("what %s needs no more is not discarded: %s", item.input, error)

    def _let_go(self, holding: Holding) -> None:
        """Not heard, or not ours. Who is being stopped hears nothing any more: then it is handed back."""
        if self._stop:
            self._clerk.now(holding.release, self._stop.reason)
        else:
            self._clerk.now(holding.drop)

    def _result(self, holding: Holding, item: Item) -> Result:
        self._item, self._told = item.input, {}
        self._tell("working")
        began = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix="job-", dir=self._scratch))
        claim = Claim(
            holding.shard.name,
            holding.epoch,
            lambda: self._clerk.now(lambda: holding.ours() or holding.is_newest()),
            holding.is_newest,
            item.after,
        )
        workspace = Workspace(self._store, claim, folder, self._task.keep, self._hear, self._tick)
        try:
            outcome, attempts = self._outcome(item, workspace)
            run = {
                "at": int(time.time()),
                "seconds": round(time.monotonic() - began, 3),
                "worker": self._worker,
                "epoch": holding.epoch,
                "attempts": attempts,
            }
            return Result(item.id, item.input, outcome, files=dict(workspace.published), run=run)
        finally:
            self._checkpoints += workspace.whole
            workspace.close()
            self._item, self._told = "", {}

    def _outcome(self, item: Item, workspace: Workspace) -> tuple[Answer | Failure, int]:
        """What became of it, and in how many tries."""
        attempts = Attempts()
        while True:
            outcome, is_final = self._try(item, workspace)
            if is_final or not attempts.again(workspace.saved):
                return outcome, attempts.count
            assert isinstance(outcome, Failure)
            where = f"step {workspace.saved}" if workspace.saved >= 0 else "the beginning"
            log.warning(
                "%s: %s; trying again from %s, try %d", item.input, outcome.message, where, attempts.count
            )
            workspace.clear()
            gc.collect()  # what a dead try holds in a circle, it holds on the device
            self._pause()
            if self._stop:
                raise Stopped

    def _try(self, item: Item, workspace: Workspace) -> tuple[Answer | Failure, bool]:
        """One run; and whether that is the last word: what it raises is none, if it is no ItemError."""
        try:
            with self._opened(item) as opened:
                outcome = self._run(opened, workspace, self._stop)
            with suppress(TakenOverError):  # what is finished counts, whoever holds the job by now (rule 4)
                workspace.settle()
        except Stopped:
            workspace.wait()
            if not self._stop:
                return Failure("error", "it stopped, and nobody had asked it to"), True
            raise
        except (TakenOverError, WorkerError):
            raise
        except Exception as error:
            log.debug("the job failed", exc_info=True)
            workspace.settle()
            failure = failure_of(error, inspect.getfile(type(self._task)))
            if failure.blames_machine:
                fault = DeviceError if failure.kind == "device" else MachineError
                raise fault(f"{item.input}: {failure.message}; another machine may go on") from error
            if isinstance(error, ItemError):
                return failure, True
            if self._stop:  # its helpers heard it too, and ended under its hands
                raise Stopped from error
            return failure, False
        if not isinstance(outcome, Answer | Failure):
            return Failure("error", f"run() gave a {type(outcome).__name__}, no Answer and no Failure"), True
        if isinstance(outcome, Answer) and (why := unwritable(outcome.keys)):
            return Failure("error", f"its answer cannot be written: {why}"), True
        return outcome, True

    @contextmanager
    def _opened(self, item: Item) -> Iterator[Item]:
        """A long download is no hanging, and does not outlive a stop."""
        opening = self._open_item(item)
        fetcher = ThreadPoolExecutor(1, thread_name_prefix="input")
        fetching = fetcher.submit(opening.__enter__)
        fetcher.shutdown(wait=False)

        def tick() -> None:
            self._tick()
            if self._stop and not fetching.done():
                raise Stopped

        opened = patiently(fetching, tick)
        try:
            yield opened
        finally:
            opening.__exit__(None, None, None)

    # speaking

    def _hear(self, told: Mapping[str, Json]) -> None:
        self._told = told
        self._tick()

    def _tick(self) -> None:
        if time.monotonic() - self._ticked >= 1.0:
            self._tell("working" if self._holding else IDLE)

    def _tell(self, state: str) -> None:
        self._ticked = time.monotonic()
        info = {**self.counts.info(state, self._item), **self._looking.info()}
        told = dict(self._told)
        info["checkpoints"] = self._checkpoints + int(told.pop("checkpoints", 0))
        if "rate_per_s" in told:
            info["rate_per_s"] = round(told.pop("rate_per_s"), 8)
        if told:
            info["job"] = told
        self._tell_parent(info)

    def _pause(self) -> None:
        """What broke may mend; a job in hand is no idleness."""
        until = time.monotonic() + self.pause_s
        while not self._stop and (left := until - time.monotonic()) > 0:
            self._stop.wait(min(1.0, left))
            self._tick()

    def _nap(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._goes_on() and (left := until - time.monotonic()) > 0:
            self._stop.wait(min(1.0, left))
            self._tick()
