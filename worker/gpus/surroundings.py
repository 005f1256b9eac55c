"""What a process has to find in its environment before it looks for cards."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from worker.errors import UsageError
from worker.gpus.forms import AllocateTold
from worker.hardware import cards

HIDDEN = {maker.variables[0]: "-1" for maker in (cards.NVIDIA, cards.AMD, cards.ASCEND)}


def environment(told: AllocateTold, node_name: str = "") -> Mapping[str, str]:
    """Of the processes on one node: the only one, the one that is named, or this machine."""
    if not told.gpu_config.enabled:
        return HIDDEN
    by_node = told.gpu_config.environment
    name = node_name or (told.nodes[0] if len(told.nodes) == 1 else socket.gethostname())
    if name not in by_node:
        raise UsageError(f"{name} is none of its nodes: say node_name=, one of {', '.join(by_node)}")
    return by_node[name]


def enter(wanted: Mapping[str, str], too_late: str) -> None:
    """`too_late`: who has looked for cards already; empty: nobody."""
    other = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    if other and too_late:
        has = ", ".join(f"{name}={os.environ.get(name, '')!r}" for name in other)
        wants = ", ".join(f"{name}={value!r}" for name, value in other.items())
        raise UsageError(
            f"{too_late} has looked for cards already, with {has}; these need {wants}: set them up before "
            "anything else does, or let AlgorithmTrainingEngine train in a process of its own"
        )
    os.environ.update(other)
