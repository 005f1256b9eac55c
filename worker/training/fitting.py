"""Whether this machine can train it at all, before anything is loaded."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from worker.engines.device import Device
from worker.errors import MachineError
from worker.hardware.gpus import SHARE
from worker.planning.memory import ADAM, CONTEXT, Lesson, learnt, training
from worker.planning.shape import Shape

log = logging.getLogger(__name__)

_AT_ONCE = 2
"""checkpoints on the disk: one that is written, one on its way to the queue"""


def require(shape: Shape, lesson: Lesson, device: Device, folder: Path) -> None:
    """`lesson`: the smallest batch. `folder`: where checkpoints are written."""
    items = training(shape, "full", lesson)
    need = sum(items.values()) - (CONTEXT if device.kind == "cpu" else 0)
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
        raise MachineError(
            f"{shape.name} needs {need / 1e9:.1f} GB to be trained in full, one sample at a time, and "
            f"{device.name} has room for {room / 1e9:.1f}: take a larger card or a smaller model; "
            "`worker plan` says more"
        )
    if _AT_ONCE * saved > free:
        raise MachineError(
            f"checkpoints of {shape.name} need {_AT_ONCE * saved / 1e9:.1f} GB of disk, and {free / 1e9:.1f} "
            "are free: set TMPDIR to a larger disk"
        )
