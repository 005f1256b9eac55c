"""Memory, cores, disks."""

from __future__ import annotations

from collections.abc import Iterator

from worker.doctor.facts import Amount, Disk, Facts, Need
from worker.doctor.finding import Finding, blocker, ok, warning
from worker.hardware import gpus
from worker.planning.ram import CHILD

SHM_GB = 1.0
LEAST_GB = {"cache": 10.0, "checkpoints": 5.0, "scratch": 2.0}
"""below which a disk is full before long"""


def ram(facts: Facts) -> Iterator[Finding]:
    room = facts.room
    usable = min(room.ram, room.limit or room.ram)
    said = f"{usable:.0f} GB"
    if usable < room.ram:
        said += f", the container's limit: the machine's own {room.ram:.0f} do not count"
    need = facts.need
    children = max(1, int(usable * 1e9 / CHILD))
    if need and usable < need.ram.gigabytes:
        yield blocker(
            f"{said}; {need.ram.work} takes {need.ram.gigabytes:.0f}", "take a machine or a limit with more"
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
    """What the work named with --for takes."""
    name, need = facts.wanted.task, facts.need
    if name is None:
        return
    if need is None:
        with_it = f" with {facts.wanted.model}" if facts.wanted.model else ""
        yield ok(f"{name}: what it takes{with_it} is not known here")
        return
    if need.gpu.gigabytes:
        yield _card(facts, need.gpu)
    yield _space(facts, need)


def _card(facts: Facts, gpu: Amount) -> Finding:
    said = f"{gpu.work} takes {gpu.gigabytes:.1f} GB of a card"
    card = facts.card
    if card is None:
        return blocker(f"{said}, there is none", "a machine with one")
    if any(one.mig for one in facts.gpus.cards):
        return warning(f"{said}; what a slice has is not known here", "compare with nvidia-smi -L")
    room = card.room / 1e9
    said += f", {card.name} has room for {room:.1f}"
    if gpu.gigabytes <= room:
        return ok(said)
    return blocker(said, f"what would fit: {_plan(facts, gpu)}")


def _space(facts: Facts, need: Need) -> Finding:
    disk = need.disk
    free = max((one.free for one in facts.room.disks if one.use != "scratch"), default=0)
    said = f"{disk.work} takes {disk.gigabytes:.0f} GB of a disk, {free:,.0f} are free"
    if free < disk.gigabytes:
        return blocker(said, f"a larger disk; what takes how much: {_plan(facts, disk)}")
    if free < need.at_last:
        return warning(
            f"{said}; {need.at_last:.0f} if nothing is deleted between the steps",
            f"delete what may go, and when: {_plan(facts, disk)}",
        )
    return ok(said)


def _plan(facts: Facts, amount: Amount) -> str:
    card = facts.card and gpus.find(facts.card.name)
    cards = f" --gpus {len(facts.gpus.cards)}" if len(facts.gpus.cards) > 1 else ""
    return f"worker plan {amount.work} --hw {card.hw if card else facts.wanted.hw or gpus.NO_GPU}{cards}"


def shm(facts: Facts) -> Iterator[Finding]:
    there = facts.room.shm
    more = "docker run --shm-size 8g; compose, Azure ML: shm_size: 8g; Kubernetes: emptyDir, medium: Memory"
    if there is None:
        yield warning("there is none: NCCL and loaders of data need it", more)
    elif there < SHM_GB and facts.gpus.cards:
        yield warning(f"{there * 1000:.0f} MB: NCCL and loaders of data die with a bus error", more)
    else:
        yield ok(f"{there:.1f} GB")
