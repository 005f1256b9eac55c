"""How samples are read so that the device does not wait for them."""

from __future__ import annotations

import os

from worker.engines.device import Device
from worker.training.settings import Training

MOST = 8
"""processes that read for one device, unless somebody says more"""


def readers(training: Training, device: Device) -> int:
    """Processes. A CPU that trains has no core to spare; a card leaves its process one, and shares the others
    with the cards beside it."""
    if training.dataloader_num_workers is not None:
        return training.dataloader_num_workers
    if device.kind == "cpu":
        return 0
    cards = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(MOST, max(1, len(os.sched_getaffinity(0)) // cards - 1))


def ahead(training: Training, readers: int) -> int | None:
    """Batches that each of them has ready: a whole step, for a step takes all of its batches at once."""
    return max(2, -(-training.gradient_accumulation_steps // readers)) if readers else None
