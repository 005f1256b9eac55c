"""`watch`: the queue says how far the work is, the scheduler whether anybody works on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.clock import Clock
    from worker.launch.launch import Receipt
    from worker.launch.launcher import Launcher, Look, Say, Standing

    Show = Callable[[Look, Standing], None]

EVERY_S = 5.0
OVER = {"done", "failed", "cancelled", "gone"}


def watch(
    launcher: Launcher,
    receipt: Receipt,
    tries: int,
    clock: Clock,
    show: Show,
    say: Say,
    keep: Callable[[Receipt], None],
) -> tuple[Receipt, Look, Standing]:
    """Until the queue is done, or nobody works on it any more. What was preempted is submitted again, `tries`
    times at most."""
    while True:
        seen, standing = launcher.look(receipt), launcher.standing(receipt)
        show(seen, standing)
        if seen.is_over:
            return receipt, seen, standing
        if standing.state == "again" and tries > 0:
            tries -= 1
            say(f"{standing.said}; submitted again, {tries} more times at most")
            receipt = launcher.again(receipt, say)
            keep(receipt)
        elif standing.state == "again" or standing.state in OVER:
            return receipt, seen, standing
        clock.sleep(EVERY_S)
