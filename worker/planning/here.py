"""The cards and cores of this machine, for a plan that is made where it is to run."""

from __future__ import annotations

import os
from dataclasses import replace

from worker.hardware import cards as hardware
from worker.hardware import gpus
from worker.hardware.gpus import Gpu
from worker.planning import refusal


def cards(meant: Gpu | None) -> tuple[int, Gpu | None]:
    """How many, at least one, and the smallest as its driver tells it, if it is what is meant."""
    found = hardware.cards(hardware.Machine())
    rooms = refusal.rooms(found, hardware.nvidia_smi(*refusal.QUERY))
    least = min(rooms, key=lambda room: room.mib, default=None)
    seen = gpus.find(least.label) if least else None
    if least and seen and meant and seen.hw == meant.hw:
        meant = replace(seen, mib=least.mib)
    return max(1, len(found)), meant


def cores() -> int:
    return len(os.sched_getaffinity(0))
