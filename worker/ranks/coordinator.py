"""Who holds the claim of a job that several processes do: starts them, saves for them, starts them again.

It never touches a device. A rank that dies ends the ranks, and not the job: what runs the job tries it again
from the newest whole checkpoint, as after any error (worker/jobs/attempts.py)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from worker.items import Answer, Failure, Item
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Workspace
from worker.ranks import backend
from worker.ranks.desk import Desk
from worker.ranks.endings import (
    HungryError,
    NetworkError,
    NodeLostError,
    RankError,
    cause,
    exception_of,
    outcome_of,
)
from worker.ranks.group import Group
from worker.ranks.meeting import Meeting
from worker.ranks.nodes import Node
from worker.ranks.watch import Watch
from worker.ranks.words import DIED, HUNGRY, LOST, STOPPED, Answered, Begin, Found, Raised, Stop, Word
from worker.tasks.task import JobTask, Stopped

CAUSE_S = 1.0
"""a rank that was killed is missed by the others at once; its own line may close a moment later"""
LOST_MOST = 8
"""nodes, one after another, with no newer checkpoint between them: as many deaths as a worker may die"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ranks:
    """How many, and where."""

    here: int
    """on this node, and as many on each other one"""
    node: Node
    device: str
    fingerprint: str
    """of the queue's recipe: a node with another one has come to the wrong place"""
    patience_s: float
    """for nodes that are to come"""
    limit_s: float
    """for which a job may say nothing"""
    log: str = "text"
    debug: bool = False


class Coordinator:
    """Runs the jobs of a task as the task itself would, but in several processes."""

    def __init__(self, task: JobTask[Any], ranks: Ranks) -> None:
        self._task = task
        self._ranks = ranks
        self._way = backend.choose(ranks.device)
        self._halved: dict[str, int] = {}
        """by item"""
        self._meeting = Meeting(ranks.node, ranks.fingerprint, ranks.here) if ranks.node.count > 1 else None

    def open(self, device: str) -> None:  # noqa: ARG002
        if self._meeting:
            self._meeting.open()

    def close(self) -> None:
        if self._meeting:
            self._meeting.close()

    def run(self, item: Item, workspace: Workspace, stop: StopFlag) -> Answer | Failure:
        lost, saved = 0, -1
        while True:
            halved = self._halved.get(item.id, 0)
            try:
                return self._together(self._begin(item, workspace, halved), workspace, stop)
            except HungryError as error:
                self._halved[item.id] = halved + 1
                log.warning("%s: the next start takes half as many samples at once", error)
            except NetworkError as error:
                log.warning("%s", backend.instead(self._way, str(error)))
                self._way = backend.GLOO
            except NodeLostError as error:
                workspace.settle()
                lost, saved = 1 + (lost if workspace.saved <= saved else 0), workspace.saved
                if lost >= LOST_MOST:
                    raise RankError(f"{error}, the {lost}th time with nothing saved between") from error
                log.warning("%s: all begin again once it is back", error)
            if stop:
                raise Stopped
            workspace.settle()
            workspace.clear()

    def _begin(self, item: Item, workspace: Workspace, halved: int) -> Begin:
        found = workspace.resume()
        told = Found(found.step, found.score, str(found.folder)) if found else None
        return beginning(self._task, item, self._ranks, self._way, halved, workspace.folder, told)

    def _together(self, begin: Begin, workspace: Workspace, stop: StopFlag) -> Answer | Failure:
        ranks, desk = self._ranks, Desk(workspace)
        port = 0
        if self._meeting:
            self._meeting.gather(stop, workspace.alive, ranks.patience_s)
            port = self._meeting.start(begin, workspace.shard, workspace.spot)
        log.info(
            "%d processes%s begin, %s between them",
            ranks.here * ranks.node.count,
            f" on {ranks.node.count} nodes" if ranks.node.count > 1 else "",
            begin.backend,
        )
        try:
            with Group(begin, ranks.node, ranks.here, port, workspace.folder) as group:
                return self._watch(group, desk, stop)
        finally:
            desk.close()
            if self._meeting:
                self._meeting.end()

    def _watch(self, group: Group, desk: Desk, stop: StopFlag) -> Answer | Failure:
        """Told to stop, rank 0 still has to hand over the checkpoint that all have made."""
        watch = Watch(self._ranks.here * self._ranks.node.count, self._way)
        told = False
        while True:
            heard = [(rank, watch.hear(word)) for rank, word in self._heard(group, stop)]
            for rank, word in heard:
                if isinstance(word, Answered):
                    group.finish()
                    return outcome_of(word)
                line = group.line(rank)
                if rank == 0 and line:
                    desk.hear(word, line)
            if ends := ends_of(heard, watch.look()):
                end = cause(self._all(ends, group, watch, stop))
                group.kill()
                raise exception_of(group.explained(end), self._way)
            first = group.line(0)
            if stop and not told and first:
                told = first.send(Stop(stop.reason, stop.time_left))

    def _all(self, ends: Sequence[Raised], group: Group, watch: Watch, stop: StopFlag) -> list[Raised]:
        """These, and those that may be their cause. What a rank says of itself alone has none; one that died
        may have done so with its node."""
        causes = {STOPPED, HUNGRY, LOST} if self._meeting else {STOPPED, HUNGRY, DIED}
        found = list(ends)
        until = time.monotonic() + CAUSE_S
        while time.monotonic() < until and not any(
            end.is_final or end.code or end.kind in causes for end in found
        ):
            found += ends_of([(rank, watch.hear(word)) for rank, word in self._heard(group, stop)])
        return found

    def _heard(self, group: Group, stop: StopFlag) -> list[tuple[int, Word]]:
        heard = group.hear(self._meeting.lines if self._meeting else ())
        return heard + (self._meeting.hear(stop) if self._meeting else [])


def beginning(
    task: JobTask[Any], item: Item, ranks: Ranks, way: str, halved: int, folder: Path, found: Found | None
) -> Begin:
    return Begin(
        task.name,
        task.params.model_dump(mode="json"),
        {**asdict(replace(item, file=None)), "params": dict(item.params)},
        ranks.device,
        way,
        halved,
        str(folder),
        str(item.file or ""),
        found,
        ranks.log,
        ranks.debug,
        ranks.limit_s,
    )


def ends_of(heard: Sequence[tuple[int, Word]], late: Raised | None = None) -> list[Raised]:
    """Told to stop, the first rank is the last: only its word counts."""
    ends = [word for _, word in heard if isinstance(word, Raised)]
    return [one for one in (*ends, late) if one and (one.rank <= 0 or one.kind != STOPPED)]
