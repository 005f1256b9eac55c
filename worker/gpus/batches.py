"""How much of a card's memory a training may take, and how many samples fit into it at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from worker.errors import MachineError

MemoryStrategy = Literal["conservative", "aggressive", "dynamic"]

CONSERVATIVE, AGGRESSIVE = 0.8, 0.95
SPARE = 1.25
"""what a model takes besides its tensors: an allocator's holes, a framework's context"""


@dataclass(frozen=True, slots=True)
class Fit:
    """`accumulation` batches make a step; the last of them may be smaller."""

    batch: int
    accumulation: int


def memory_fraction(strategy: MemoryStrategy, model_gb: float = 0.0, card_gb: float = 0.0) -> float:
    """dynamic: a small model leaves room to others, one that would hardly fit takes what there is."""
    if strategy == "dynamic" and card_gb > 0:
        return min(AGGRESSIVE, max(CONSERVATIVE, SPARE * model_gb / card_gb))
    return AGGRESSIVE if strategy == "aggressive" else CONSERVATIVE


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
