"""The way of a job: claim → run, with checkpoints → done. One at a time; the sister of worker/loop.py."""

from __future__ import annotations

import inspect
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from worker.blame import ILL_AFTER, failure_of
from worker.clerk import Clerk
from worker.counts import Counts
from worker.errors import MachineError, WorkerError
from worker.items import Answer, Failure, Item, Json, Result
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Claim, TakenOverError, Workspace
from worker.looking import Looking
from worker.queue.beat import ENDED, IDLE
from worker.queue.holding import Holding
from worker.queue.store import Store
from worker.queue.text import unwritable
from worker.tasks.task import JobTask, Stopped

log = logging.getLogger(__name__)


class JobLoop:
    share_of_time = 0.85
    """of what is left after a stop: for the last checkpoint; the rest is for handing back"""

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
    ) -> None:
        self.counts = Counts()
        self.handed_back = threading.Event()
        self._task = task
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
        """of this machine, with no job done between them"""
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
        for item in holding.left():
            if not self._clerk.now(holding.ours) or not self._clerk.now(holding.begin, [item]):
                self._let_go(holding)
                return
            try:
                result = self._result(holding, item)
            except TakenOverError as error:
                log.warning("%s", error)
                self._clerk.now(holding.drop)
                return
            except MachineError as error:
                self._faults += 1
                self._clerk.now(holding.release, str(error))
                if self._faults >= ILL_AFTER:
                    raise
                log.warning("%s; trying again", error)
                return
            except Stopped:
                self._clerk.now(holding.release, self._stop.reason or "the job stopped")
                return
            self._faults = 0
            self._clerk.now(holding.add, [result])
            self._count(result)
        self._clerk.now(holding.commit)

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
        )
        workspace = Workspace(self._store, claim, folder, self._task.keep, self._hear, self._tick)
        try:
            outcome = self._outcome(item, workspace)
            run = {
                "seconds": round(time.monotonic() - began, 3),
                "worker": self._worker,
                "epoch": holding.epoch,
            }
            return Result(item.id, item.input, outcome, files=dict(workspace.published), run=run)
        finally:
            self._checkpoints += workspace.checkpoints
            workspace.close()
            self._item, self._told = "", {}

    def _outcome(self, item: Item, workspace: Workspace) -> Answer | Failure:
        try:
            with self._open_item(item) as opened:
                outcome = self._task.run(opened, workspace, self._stop)
            workspace.wait()
        except Stopped:
            workspace.wait()
            if not self._stop:
                return Failure("error", "it stopped, and nobody had asked it to")
            raise
        except (TakenOverError, WorkerError):
            raise
        except Exception as error:
            log.debug("the job failed", exc_info=True)
            failure = failure_of(error, inspect.getfile(type(self._task)))
            if failure.blames_machine:
                raise MachineError(f"{item.input}: {failure.message}; another machine may go on") from error
            return failure
        if not isinstance(outcome, Answer | Failure):
            return Failure("error", f"run() gave a {type(outcome).__name__}, no Answer and no Failure")
        if isinstance(outcome, Answer) and (why := unwritable(outcome.keys)):
            return Failure("error", f"its answer cannot be written: {why}")
        return outcome

    def _count(self, result: Result) -> None:
        self.counts.answered += 1
        if isinstance(result.outcome, Failure):
            self.counts.failed += 1
            log.warning("%s: %s: %s", result.input, result.outcome.kind, result.outcome.message)

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

    def _nap(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._goes_on() and (left := until - time.monotonic()) > 0:
            self._stop.wait(min(1.0, left))
            self._tick()
