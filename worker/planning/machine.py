"""The machine that a plan is for, by the name of its profile."""

from __future__ import annotations

from dataclasses import dataclass, replace

from worker.hardware import gpus
from worker.hardware.gpus import Gpu
from worker.planning.seconds import ASSUMED, Efficiency


@dataclass(frozen=True, slots=True)
class Machine:
    hw: str
    """the profile"""
    gpus: int = 1
    cores: int = 8
    ram_gb: float | None = None
    """None: nobody said"""
    disk_gb: float | None = None
    reached: Efficiency = ASSUMED
    reached_on: str | None = None
    """the card that was measured; None: it is assumed"""

    card: Gpu | None = None
    """None: the one that is sold most"""
    cores_said: bool = True

    @property
    def gpu(self) -> Gpu | None:
        return self.card or gpus.of(self.hw)

    @property
    def told(self) -> str:
        cores = f"{self.cores} cores{'' if self.cores_said else ' assumed'}"
        if self.gpu is None:
            return f"the CPU, {cores}"
        card = self.gpu
        return f"{self.gpus} × {self.hw} ({card.gigabytes:g} GB, {card.bandwidth:g} GB/s), {cores}"

    def other(self, hw: str) -> Machine:
        """With as many cards of another profile."""
        return replace(self, hw=hw, card=None)

    @property
    def room(self) -> float:
        """Bytes of one card that may be used."""
        return self.gpu.room if self.gpu else 0.0
