"""What a worker says of itself: how much it answered, how fast, and how long its device waited."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from worker.items import Failure, Json, Result

log = logging.getLogger(__name__)


@dataclass
class Counts:
    """What the loop says of itself, once a second."""

    started: float = field(default_factory=time.monotonic)
    answered: int = 0
    failed: int = 0
    waited_s: float = 0.0
    """the device had room while work was in hand or was being taken; what a task does in its thread beside
    the model, such as drawing pictures, is none of it"""
    uses_device: bool = False
    """something was answered there, and not all of it where it was prepared"""

    def add(self, result: Result) -> None:
        self.answered += 1
        if isinstance(result.outcome, Failure):
            self.failed += 1
            log.warning("%s: %s: %s", result.input, result.outcome.kind, result.outcome.message)

    def info(self, state: str, item: str) -> dict[str, Json]:
        spent = max(time.monotonic() - self.started, 1e-9)
        return {
            "state": state,
            "item": item,
            "answered": self.answered,
            "failed": self.failed,
            "rate_per_s": round(self.answered / spent, 4),
            "waited_share": round(self.waited_s / spent, 4) if self.uses_device else None,
            "wall_s": round(spent, 1),
        }
