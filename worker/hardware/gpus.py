"""What makers say of their GPUs: how fast they compute and read their memory. All without sparsity."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    """a regular expression for what the driver calls it; the first one that is found counts"""
    gigabytes: float
    bandwidth: float
    """GB/s"""
    half: float
    """TFLOP/s in fp16, summed up in fp32; also in bf16 where it has that"""
    bf16: bool
    source: str

    @property
    def flops(self) -> float:
        return self.half * 1e12


TABLE = (
    Gpu(r"H200", 141, 4800, 989.5, True, "NVIDIA H200 data sheet: 1,979 with sparsity"),
    Gpu(r"H100 NVL", 94, 3938, 835.5, True, "NVIDIA H100 NVL data sheet: 1,671 with sparsity"),
    Gpu(r"H100 PCIe", 80, 2039, 756.5, True, "NVIDIA H100 PCIe data sheet: 1,513 with sparsity"),
    Gpu(r"H100", 80, 3350, 989.5, True, "NVIDIA H100 SXM data sheet: 1,979 with sparsity"),
    Gpu(r"A100.*SXM.*40", 40, 1555, 312, True, "NVIDIA A100 data sheet"),
    Gpu(r"A100.*PCIE?.*40|A100.*40.*PCIe", 40, 1555, 312, True, "NVIDIA A100 data sheet"),
    Gpu(r"A(100|800).*PCIe", 80, 1935, 312, True, "NVIDIA A100 80GB PCIe data sheet; the A800 is alike"),
    Gpu(r"A(100|800)", 80, 2039, 312, True, "NVIDIA A100 80GB SXM data sheet; the A800 is alike"),
    Gpu(r"V100.*32", 32, 900, 125, False, "NVIDIA V100 data sheet"),
    Gpu(r"V100", 16, 900, 125, False, "NVIDIA V100 data sheet"),
    Gpu(r"\bT4\b", 16, 320, 65, False, "NVIDIA T4 data sheet"),
    Gpu(
        r"RTX 2080\b(?! (Ti|SUPER))", 8, 448, 40.3, False, "NVIDIA Turing white paper: 80.5 if summed in fp16"
    ),
    Gpu(r"\bA10\b", 24, 600, 125, True, "NVIDIA A10 data sheet"),
    Gpu(r"\bL4\b", 24, 300, 121, True, "NVIDIA L4 data sheet: 242 with sparsity"),
    Gpu(r"RTX 3090(?! Ti)", 24, 936, 71, True, "NVIDIA GA102 white paper: 142 if summed in fp16"),
    Gpu(r"RTX 4090(?! D)", 24, 1008, 165.2, True, "NVIDIA Ada white paper: 330 if summed in fp16"),
    Gpu(r"RTX A6000", 48, 768, 154.8, True, "NVIDIA RTX A6000 data sheet: 309.7 with sparsity"),
    Gpu(r"\bA40\b", 48, 696, 149.7, True, "NVIDIA A40 data sheet: 299.4 with sparsity"),
)


def find(name: str) -> Gpu | None:
    """`name`: as the driver tells it, "NVIDIA A100-SXM4-80GB" """
    return next((gpu for gpu in TABLE if re.search(gpu.name, name, re.IGNORECASE)), None)
