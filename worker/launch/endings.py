"""How a worker ends: before its time is up, and with a code that tells who started it."""

from __future__ import annotations

from worker.errors import MachineError, UnfinishedError, UsageError

DONE = 0
FINAL = (DONE, 1)
"""1: some items failed: to start it again changes nothing"""
USAGE = UsageError.exit_code
MACHINE = MachineError.exit_code
AGAIN = UnfinishedError.exit_code
"""work is left, and was handed back"""


def stop_after(limit_s: float, margin_s: float) -> float:
    """When it hands its work back by itself: so long before the limit, or a fifth of a short one."""
    return limit_s - min(margin_s, limit_s / 5)
