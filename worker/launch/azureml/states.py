"""How the jobs of a launch stand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from worker.launch.azureml.refusals import explain
from worker.launch.endings import AGAIN, FINAL, MACHINE, USAGE
from worker.launch.launcher import Standing, State

WAITING = {"NotStarted", "Starting", "Provisioning", "Preparing", "Queued"}
ENDED = {"Completed", "Failed", "Canceled"}
CODE = re.compile(r"(?:exit(?:ed with)? (?:status )?code|status code)\D{0,3}(\d+)", re.IGNORECASE)
TAKEN = re.compile(r"preempt|evict|node (?:was |is )?(?:lost|unusable|removed)", re.IGNORECASE)
LOG = "its last lines stand in user_logs/std_log.txt: az ml job stream --name"


@dataclass(frozen=True, slots=True)
class Job:
    """As Azure tells it."""

    name: str
    status: str
    why: str = ""
    """it failed: in Azure's words"""
    queue: str = ""
    """by its tag; empty: none of ours"""
    launch: str = ""

    @property
    def is_active(self) -> bool:
        return self.status not in ENDED


def judge(jobs: Sequence[Job], is_over: bool | None, asked_to_end: bool) -> Standing:
    """`is_over`: of the queue, where no job is active; Azure itself does not say whether work is left."""
    if not jobs:
        return Standing("gone", "Azure knows its jobs no longer")
    if active := [job for job in jobs if job.is_active]:
        waiting = [job.status for job in active if job.status in WAITING]
        running = len(active) - len(waiting)
        told = [*([f"{running} running"] if running else []), *_counted(waiting), *_counted(_ends(jobs))]
        return Standing("running" if running else "waiting", ", ".join(told))
    if is_over:
        return Standing("done", "all jobs have ended")
    ends = [(job, _end(job, asked_to_end)) for job in jobs]
    for state in ("again", "failed", "cancelled"):
        for job, (found, said, remedy) in ends:
            if found == state:
                return Standing(state, f"{job.name} {said}", remedy)
    return Standing("again", "its jobs have ended")


def _end(job: Job, asked_to_end: bool) -> tuple[State, str, str]:
    if job.status == "Canceled":
        return ("cancelled", "was cancelled", "") if asked_to_end else ("again", "lost its machine", "")
    if job.status == "Completed":
        return "again", "has ended", ""
    found = CODE.search(job.why)
    code = int(found[1]) if found else None
    if code == AGAIN:
        return "again", "handed its work back", ""
    if code in FINAL:
        return "again", "has ended", ""
    if TAKEN.search(job.why):
        return "again", "lost its machine", ""
    if code in (USAGE, MACHINE):
        what = "was told something wrong" if code == USAGE else "found its machine unfit"
        return "failed", f"{what} (exit code {code})", f"{LOG} {job.name}"
    words, remedy = explain(job.why or "Azure does not say why")
    return "failed", f"failed: {words}", remedy or f"{LOG} {job.name}"


def _ends(jobs: Sequence[Job]) -> list[str]:
    return [job.status for job in jobs if not job.is_active]


def _counted(statuses: Sequence[str]) -> list[str]:
    return [f"{count} {status.lower()}" for status, count in Counter(statuses).items()]
