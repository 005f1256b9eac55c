"""How many samples fit into a card's memory at once, and what becomes of a step that does not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from worker.errors import MachineError


@dataclass(frozen=True, slots=True)
class Fit:
    """`accumulation` batches make a step; the last of them may be smaller."""

    batch: int
    accumulation: int


def best_batch(fixed: float, each: float, room: float) -> int:
    """The largest power of two that fits. Bytes: of the model, of a sample, of the room for both."""
    return 1 << (_most(fixed, each, room).bit_length() - 1)


def fit(wanted: int, fixed: float, each: float, room: float) -> Fit:
    """The same step in as few parts as fit, all about as large."""
    accumulation = math.ceil(wanted / min(wanted, _most(fixed, each, room)))
    return Fit(math.ceil(wanted / accumulation), accumulation)


def _most(fixed: float, each: float, room: float) -> int:
    most = int((room - fixed) // each)
    if most < 1:
        raise MachineError(
            f"one sample at a time needs {(fixed + each) / 1e9:.2f} GB, and there is room for "
            f"{room / 1e9:.2f}: ask for a card with more memory_gb, or take a smaller model"
        )
    return most
