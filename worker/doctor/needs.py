"""What a kind of work needs of a machine at the least, as far as that does not depend on its model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    about: str = ""
    gpu: float = 0
    """GB of one card"""
    gpu_for: str = ""
    ram: float = 0
    disk: float = 0
    """GB of one disk"""
    disk_for: str = ""
    spare: float = 0
    """GB of it that a tidy person does without"""
    quantises: bool = False
    """loads its base in four bits"""


NEEDS = {
    "media-check": Need("reads films and pictures on the CPU", ram=2),
    "ghost-probing": Need("a model decides: name it with --model", ram=4),
    "pcb": Need(
        gpu=25.5,
        gpu_for="32B: four bits 20.4, adapters 2.2, activations and logits 1.4, context 1.5",
        ram=20,
        disk=191,
        disk_for="at the merge: base 67 (the cache is it), merged 67, checkpoints 50, data 5, code 2",
        spare=40,
        quantises=True,
    ),
    "detection": Need(
        gpu=6,
        gpu_for="YOLO11n, 16 pictures of 640 pixels; of 480: 24, of 800: 8",
        ram=16,
        disk=20,
        disk_for="data, and two checkpoints",
    ),
}
