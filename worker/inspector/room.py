"""Whether this machine can train an inspector, before anything is loaded; and what may be deleted when."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from worker.engines.device import Device, look
from worker.errors import UnfitError
from worker.planning import pcb, ram
from worker.planning.disk import Disk
from worker.planning.memory import Lesson
from worker.planning.shape import Shape
from worker.training import fitting, world
from worker.training.fitting import Amount
from worker.training.settings import Training

log = logging.getLogger(__name__)

_SMALL = 0.1e9
"""bytes that nobody deletes for the room"""


def require(
    shape: Shape, lesson: Lesson, device: Device, folder: Path, training: Training, amount: Amount, keep: int
) -> None:
    """`lesson`: the longest sample. `folder`: where checkpoints are written; `keep`: how many."""
    fitting.require(shape, lesson, device, folder, training, amount)
    _require_ram(device)
    disk = pcb.disk(shape, "train", training.lora.rank, keep).fetched()
    for line in lying(disk):
        log.info("%s", line)
    for line in lacking(disk, shutil.disk_usage(folder).free):
        log.warning("%s", line)


def _require_ram(device: Device) -> None:
    """Of a CPU all is counted already."""
    free = next(look("cpu")).free
    need = world.size() * (ram.PROCESS + ram.SHARD + 2 * ram.LOADER)
    if device.kind == "cuda" and free is not None and need > free:
        raise UnfitError(
            f"training needs {need / 1e9:.1f} GB of the machine's memory, and {free / 1e9:.1f} are free: "
            "take a machine with more"
        )


def lying(disk: Disk) -> Iterator[str]:
    for one in disk.kept:
        if one.steps and one.size > _SMALL:
            yield f"disk: {one.name}, {one.size / 1e9:.1f} GB: {one.told}"


def lacking(disk: Disk, free: float) -> Iterator[str]:
    """What the steps that come after will lack, if what may be deleted by then is: all but the base is yet to
    be written."""
    for step in disk.steps[disk.steps.index(disk.step) + 1 :]:
        need = sum(one.size for one in disk.kept if one.steps and one.is_there(step))
        if need > free:
            yield (
                f"{step} will take {need / 1e9:.0f} GB of disk, and {free / 1e9:.0f} are free here: delete "
                "what may be by then, or put its folder on a larger disk"
            )
