"""The machine that a plan is for, by the name of its profile."""

from __future__ import annotations

from dataclasses import dataclass

from worker.engines.batching import SHARE
from worker.errors import UsageError
from worker.hardware import gpus
from worker.hardware.gpus import Gpu
from worker.planning.seconds import ASSUMED, Efficiency

CARDS = {
    "rtx2080": "NVIDIA GeForce RTX 2080",
    "t4": "Tesla T4",
    "v100": "Tesla V100-SXM2-16GB",
    "a10": "NVIDIA A10",
    "l4": "NVIDIA L4",
    "rtx3090": "NVIDIA GeForce RTX 3090",
    "rtx4090": "NVIDIA GeForce RTX 4090",
    "a40": "NVIDIA A40",
    "a6000": "NVIDIA RTX A6000",
    "a100": "NVIDIA A100-SXM4-80GB",
    "a800": "NVIDIA A800-SXM4-80GB",
    "h100": "NVIDIA H100 80GB HBM3",
    "h200": "NVIDIA H200",
}
"""profile → what its driver calls the card, small ones first"""
CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Machine:
    hw: str
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
        return None if self.hw == CPU else _card(self.hw)

    @property
    def room(self) -> float:
        """Bytes of one card that may be used."""
        return SHARE * self.gpu.gigabytes * 1e9 if self.gpu else 0.0


def names() -> list[str]:
    return [CPU, *CARDS]


def _card(hw: str) -> Gpu:
    if hw not in CARDS:
        raise UsageError(f"--hw {hw} is unknown; choose one of: {', '.join(names())}")
    found = gpus.find(CARDS[hw])
    assert found, hw
    return found
