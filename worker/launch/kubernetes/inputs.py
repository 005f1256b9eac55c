"""What is worked on, where the pods reach it: enqueued before any of them is paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.launch import queue
from worker.launch.kubernetes.asked import is_url, place

if TYPE_CHECKING:
    from worker.launch.launch import Launch
    from worker.launch.launcher import Say


def bring(launch: Launch, say: Say) -> None:
    where = place(launch)
    if is_url(where) and (local := [path for path in launch.inputs if not is_url(path)]):
        raise UsageError(f"{local[0]} is on this machine alone: bring it beside the queue, and name its URL")
    queue.enqueue(launch, where, launch.inputs, None, say)
