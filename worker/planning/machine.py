"""The machine that a plan is for, by the name of its profile."""

from __future__ import annotations

from dataclasses import dataclass

from worker.hardware import gpus
from worker.hardware.gpus import Gpu
from worker.planning.seconds import ASSUMED, Efficiency


@dataclass(frozen=True, slots=True)
class Machine:
    hw: str
    """the profile: of several cards that it has, the one that is sold most"""
    gpus: int = 1
    cores: int = 8
    ram_gb: float | None = None
    """None: nobody said"""
    disk_gb: float | None = None
    reached: Efficiency = ASSUMED
    reached_on: str | None = None
    """the card that was measured; None: it is assumed"""

    @property
    def gpu(self) -> Gpu | None:
        return gpus.of(self.hw)

    @property
    def room(self) -> float:
        """Bytes of one card that may be used."""
        return self.gpu.room if self.gpu else 0.0
