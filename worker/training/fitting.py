"""Whether this machine can train it at all, before anything is loaded."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from worker.engines.device import Device, look
from worker.errors import MachineError
from worker.hardware.gpus import SHARE
from worker.planning.memory import ADAM, CONTEXT, Lesson, learnt, training
from worker.planning.shape import Shape
from worker.training import strategy, world
from worker.training.settings import Training
from worker.training.strategy import Strategy

log = logging.getLogger(__name__)

_AT_ONCE = 2
"""checkpoints on the disk: one that is written, one on its way to the queue"""


def require(shape: Shape, lesson: Lesson, device: Device, folder: Path, how: Training) -> None:
    """`lesson`: the smallest batch. `folder`: where checkpoints are written."""
    cards = world.size()
    way = strategy.chosen(how, cards)
    need = needed(shape, lesson, way, cards, how.offload_optimizer) - (CONTEXT if device.kind == "cpu" else 0)
    room = device.free if device.kind == "cpu" else device.total and SHARE * device.total
    saved = learnt(shape, lesson) * (4 + ADAM)
    free = shutil.disk_usage(folder).free
    log.info(
        "%s: %.2f GB of memory, one sample at a time; a checkpoint takes %.2f GB of disk, free are %.1f",
        shape.name,
        need / 1e9,
        saved / 1e9,
        free / 1e9,
    )
    if room is not None and need > room:
        other = _instead(shape, lesson, cards, room)
        raise MachineError(
            f"{shape.name} needs {need / 1e9:.1f} GB to be trained in full, one sample at a time, and "
            f"{device.name} has room for {room / 1e9:.1f}: {other}take a larger card or a smaller model; "
            "`worker plan` says more"
        )
    ram = next(look("cpu")).free
    if strategy.is_sharded(way) and ram is not None and saved > ram:
        raise MachineError(
            f"a checkpoint of {shape.name} under {way} is gathered in {saved / 1e9:.1f} GB of the machine's "
            f"memory, and {ram / 1e9:.1f} are free: take a machine with more"
        )
    if _AT_ONCE * saved > free:
        raise MachineError(
            f"checkpoints of {shape.name} need {_AT_ONCE * saved / 1e9:.1f} GB of disk, and {free / 1e9:.1f} "
            "are free: set TMPDIR to a larger disk"
        )


def needed(shape: Shape, lesson: Lesson, way: Strategy, cards: int, offload: bool) -> float:
    """Bytes of one card."""
    shared = strategy.is_sharded(way)
    items = training(
        shape,
        "full",
        lesson,
        cards=cards,
        sharding=strategy.sharding(way),
        offload=offload and shared,
    )
    whole = 4 * learnt(shape, lesson) + CONTEXT  # as it is loaded, before it is shared out
    return max(sum(items.values()), whole if shared else 0)


def _instead(shape: Shape, lesson: Lesson, cards: int, room: float) -> str:
    ways: tuple[tuple[Strategy, bool], ...] = (("zero2", False), ("fsdp2", False), ("zero2", True))
    for way, offload in ways if cards > 1 else ():
        if needed(shape, lesson, way, cards, offload) <= room:
            return f"set training.strategy: {way}{', offload_optimizer: true' if offload else ''}, or "
    return ""
