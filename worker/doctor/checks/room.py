"""Memory, cores, disks."""

from __future__ import annotations

from collections.abc import Iterator

from worker.doctor.facts import Disk, Facts
from worker.doctor.finding import Finding, blocker, ok, warning
from worker.doctor.needs import NEEDS

SHM_GB = 1.0
LEAST_GB = {"cache": 10.0, "checkpoints": 5.0, "scratch": 2.0}
"""below which a disk is full before long"""
GIB = 1.0737
A_CHILD = 1.5
"""GB, for a process that decodes films"""


def ram(facts: Facts) -> Iterator[Finding]:
    room = facts.room
    usable = min(room.ram, room.limit or room.ram)
    said = f"{usable:.0f} GB"
    if usable < room.ram:
        said += f", the container's limit: the machine's own {room.ram:.0f} do not count"
    need = NEEDS.get(facts.wanted.task or "")
    children = max(1, int(usable / A_CHILD))
    if need and usable < need.ram:
        yield blocker(
            f"{said}; {facts.wanted.task} needs {need.ram:g}", "take a machine or a limit with more"
        )
    elif children < (busy := int(min(room.cores, room.quota or room.cores))):
        yield warning(f"{said} for {busy} cores that all decode", f"--children {children}")
    else:
        yield ok(said)


def cores(facts: Facts) -> Iterator[Finding]:
    room = facts.room
    if room.quota is not None and room.quota < room.cores:
        children = max(1, int(room.quota))
        yield warning(
            f"{room.cores} are shown, and the container gets the time of {room.quota:g}",
            f"--children {children} (WORKER_CHILDREN={children})",
        )
    else:
        yield ok(f"{room.cores}")


def disks(facts: Facts) -> Iterator[Finding]:
    """Each of those that the worker writes to."""
    data = next((one for one in facts.room.disks if one.use == "data"), None)
    for disk in facts.room.disks:
        if disk.use != "data":
            yield _disk(facts, disk, data)


def _disk(facts: Facts, disk: Disk, data: Disk | None) -> Finding:
    said = f"{disk.use}: {disk.free:,.0f} GB free at {disk.path}"
    model = facts.model if disk.use == "cache" else None
    need = model.gigabytes if model and not model.there and model.gigabytes else LEAST_GB.get(disk.use, 0)
    move = _MOVE[disk.use].replace("/data", data.path if data else "/data")
    if not disk.writable:
        return warning(
            f"{disk.use}: {disk.path} cannot be written to", f"{move}, or start it with your own uid"
        )
    if disk.free < need:
        level = blocker if model and not model.there else warning
        return level(f"{said}, and {need:,.0f} are needed", f"make room, or {move}")
    if disk.use in ("cache", "checkpoints") and data and data.device != disk.device:
        return warning(
            f"{said}, on the system's disk; the data disk {data.path} has {data.free:,.0f} GB",
            move,
        )
    return ok(said)


_MOVE = {
    "cache": "export HF_HOME=/data/huggingface",
    "checkpoints": "put the queue on another disk: make run QUEUE=/data/queue",
    "scratch": "export TMPDIR=/data/tmp",
}


def task(facts: Facts) -> Iterator[Finding]:
    """What the work named with --for needs."""
    name = facts.wanted.task
    if name is None:
        return
    if (need := NEEDS.get(name)) is None:
        yield ok(f"{name}: what it needs is not known here")
        return
    if need.about:
        yield ok(f"{name} {need.about}")
    if need.gpu:
        card = facts.card
        has = card.gigabytes * GIB if card else 0.0
        here = f"{card.name} has {has:.0f}" if card else "there is none"
        said = f"{name} needs {need.gpu:g} GB of a card ({need.gpu_for}), {here}"
        yield ok(said) if has >= need.gpu else blocker(said, "a larger card")
    if need.disk:
        base = facts.model.gigabytes or 0.0 if facts.model and facts.model.there else 0.0
        most = max((one.free for one in facts.room.disks if one.use != "scratch"), default=0)
        said = f"{name} needs {need.disk - base:.0f} GB of a disk ({need.disk_for}), {most:,.0f} are free"
        if most >= need.disk - base:
            yield ok(said)
        elif most >= need.disk - base - need.spare:
            yield warning(said, f"keep fewer checkpoints: {need.spare:g} GB of them can go before the merge")
        else:
            yield blocker(said, "a larger disk, or one of its own for the cache")


def shm(facts: Facts) -> Iterator[Finding]:
    there = facts.room.shm
    more = "docker run --shm-size 8g; compose, Azure ML: shm_size: 8g; Kubernetes: emptyDir, medium: Memory"
    if there is None:
        yield warning("there is none: NCCL and loaders of data need it", more)
    elif there < SHM_GB and facts.gpus.cards:
        yield warning(f"{there * 1000:.0f} MB: NCCL and loaders of data die with a bus error", more)
    else:
        yield ok(f"{there:.1f} GB")
