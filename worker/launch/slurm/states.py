"""SLURM's word on the tasks of a job, in plain words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from worker.launch.endings import AGAIN, FINAL
from worker.launch.launcher import Standing, State

WORKING = {"RUNNING", "COMPLETING", "CONFIGURING", "STAGE_OUT", "SIGNALING", "RESIZING"}
WAITING = {"PENDING", "REQUEUED", "SUSPENDED", "STOPPED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}
TAKEN = {"TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "REVOKED"}
"""its machine or its time was taken: no fault of the work"""

REASONS: Sequence[tuple[str, str, str]] = (
    ("Priority", "others are before it", "a partition or QOS of higher priority starts sooner"),
    ("Resources", "it is next, when machines are free", ""),
    ("BeginTime", "it starts again in a moment", "if that lasts: scontrol update JobId=ID StartTime=now"),
    (
        "launch_failed_requeued_held|JobHeldAdmin|JobHoldMaxRequeue",
        "it is held after it could not be started",
        "`scontrol show job ID` says why; scontrol release ID lets it go on",
    ),
    ("JobHeldUser", "it is held", "scontrol release ID lets it go on"),
    (
        "ReqNodeNotAvail.*|Nodes_required_for_job_are_DOWN.*",
        "its machines are down, drained or reserved",
        "`sinfo -R` says why, and till when; another --partition may be free",
    ),
    ("Reservation", "its reservation has not begun", ""),
    ("PartitionDown|PartitionInactive", "its partition is closed", "`sinfo` lists others: --partition"),
    (
        "PartitionTimeLimit|QOSMaxWallDurationPerJobLimit|AssocMaxWallDurationPerJobLimit",
        "it asks for more time than it may have",
        "`sinfo -o '%P %l'` shows the most: a shorter --time-limit; the work goes on in the next job",
    ),
    ("PartitionNodeLimit", "it asks for more nodes than the partition has", "fewer --nodes"),
    ("InvalidQOS", "its QOS is not allowed", "cancel it, and submit with another --qos"),
    ("InvalidAccount", "its account is not allowed", "cancel it, and submit with another --account"),
    (
        "(?:QOS|Assoc).*(?:GRES|Gres|TRES|Cpu|CPU|Node|Mem|Job).*",
        "your share, or your group's, is in use",
        "it starts when others of your jobs end; fewer --workers or --gpus fit sooner",
    ),
    ("Dependency", "it waits for another job", ""),
    ("BadConstraints", "no machine is as it asks", "cancel it, and ask for less"),
    ("Licenses", "it waits for a licence", ""),
)


@dataclass(frozen=True, slots=True)
class Task:
    """One job, or one of an array."""

    id: str
    state: str
    reason: str = ""
    code: int = 0
    signal: int = 0


def read_scontrol(said: str) -> list[Task]:
    """scontrol --oneliner show job"""
    found = []
    for line in said.splitlines():
        state = re.search(r"\bJobState=(\S+)", line)
        if state is None:
            continue
        reason = re.search(r"\bReason=(.*?) Dependency=", line)
        number = re.search(r"\bArrayJobId=(\d+) ArrayTaskId=(\S+)", line)
        job = re.search(r"^JobId=(\d+)", line)
        name = f"{number[1]}_{number[2]}" if number else job[1] if job else "?"
        code, signal = _ending(re.search(r"\bExitCode=(\d+):(\d+)", line))
        found.append(Task(name, state[1], reason[1].replace(" ", "_") if reason else "", code, signal))
    return found


def read_sacct(said: str) -> list[Task]:
    """sacct --parsable2 --allocations --format=JobID,State,ExitCode"""
    found = []
    for line in said.splitlines():
        name, state, ending = (*line.split("|"), "", "")[:3]
        if name and state:
            code, signal = _ending(re.match(r"(\d+):(\d+)", ending))
            found.append(Task(name, state.split()[0].rstrip("+"), "", code, signal))
    return found


def _ending(found: re.Match[str] | None) -> tuple[int, int]:
    return (int(found[1]), int(found[2])) if found else (0, 0)


def standing(tasks: Sequence[Task]) -> Standing:
    """Of all of them together: while one works, or may yet, it is not over."""
    if not tasks:
        return Standing(
            "gone", "SLURM knows its job no longer", "its log, in the launch's folder, says how it ended"
        )
    working = [task for task in tasks if task.state in WORKING]
    waiting = [task for task in tasks if task.state in WAITING]
    ended = [task for task in tasks if task not in working and task not in waiting]
    said = [f"{len(working)} running"] if working else []
    remedy = ""
    for reason, count in Counter(task.reason for task in waiting).items():
        words, remedy_here = why(reason)
        said.append(f"{count} waiting ({words})")
        task = next(task for task in waiting if task.reason == reason)
        remedy = remedy or remedy_here.replace("ID", task.id)
    if ended:
        said.append(_ended(ended))
    if working or waiting:
        state: State = "running" if working else "waiting"
        return Standing(state, ", ".join(said), remedy)
    return _after(ended, ", ".join(said))


def why(reason: str) -> tuple[str, str]:
    """A reason to wait → in plain words, and the remedy."""
    for known, words, remedy in REASONS:
        if re.fullmatch(known, reason.strip("()")):
            return f"{reason}: {words}", remedy
    return reason if reason not in ("", "None") else "not looked at yet", ""


def _after(ended: Iterable[Task], said: str) -> Standing:
    kinds = {_kind(task) for task in ended}
    if "OUT_OF_MEMORY" in {task.state for task in ended}:
        return Standing("failed", said, "its machine had too little memory: more --memory")
    if "failed" in kinds:
        return Standing("failed", said, "its log, in the launch's folder, says why")
    if "again" in kinds:
        return Standing("again", said)
    state: State = "cancelled" if "cancelled" in kinds else "done"
    return Standing(state, said, "the same submit goes on" if state == "cancelled" else "")


def _kind(task: Task) -> State:
    if task.state == "CANCELLED":
        return "cancelled"
    if task.state in TAKEN or task.code == AGAIN:
        return "again"
    return (
        "done"
        if task.state in ("COMPLETED", "FAILED") and task.code in FINAL and not task.signal
        else "failed"
    )


def _ended(tasks: Iterable[Task]) -> str:
    """3 ended, 1 ended with 3, 1 out of memory"""
    counts = Counter(_word(task) for task in tasks)
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def _word(task: Task) -> str:
    if task.state in ("COMPLETED", "FAILED"):
        by = f"by signal {task.signal}" if task.signal else f"with {task.code}" if task.code else ""
        return f"ended {by}".strip()
    return {"CANCELLED": "cancelled"}.get(task.state, task.state.lower().replace("_", " "))
