"""What makers say of their GPUs: how fast they compute and read their memory. All without sparsity."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from worker.errors import UsageError

NO_GPU = "cpu"
SHARE = 0.92
"""of a card's memory may be used: what is freed leaves holes"""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Gpu:
    hw: str
    """the profile for it: env/<hw>.env"""
    name: str
    """a regular expression for what the driver calls it; the first one that is found counts"""
    sm: tuple[int, int]
    """compute capability"""
    gigabytes: float
    """as it is sold"""
    mib: int
    """as its driver tells it, from 510 on, with ECC where it has that"""
    bandwidth: float
    """GB/s"""
    half: float
    """TFLOP/s in fp16, summed up in fp32; also in bf16 where it has that"""
    fp32: float
    """TFLOP/s outside of tensor cores"""
    nvlink: float | None
    """GB/s, both directions together; None: it has none"""
    source: str

    @property
    def room(self) -> float:
        return room(self.mib)

    @property
    def flops(self) -> float:
        return self.half * 1e12

    @property
    def architecture(self) -> str:
        return ARCHITECTURES[self.sm]

    @property
    def bf16(self) -> bool:
        """computes in bfloat16, and does not only emulate it"""
        return self.sm >= AMPERE

    @property
    def flash(self) -> bool:
        """FlashAttention-2 has kernels for it"""
        return self.sm >= AMPERE

    @property
    def tf32(self) -> float | None:
        """TFLOP/s"""
        return self.half / 2 if self.sm >= AMPERE else None


VOLTA, TURING, AMPERE, AMPERE_86, ADA, HOPPER = (7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0)
ARCHITECTURES = {
    VOLTA: "Volta",
    TURING: "Turing",
    AMPERE: "Ampere",
    AMPERE_86: "Ampere",
    ADA: "Ada",
    HOPPER: "Hopper",
}
TURING_PAPER = "NVIDIA Turing white paper: 80.5 if summed in fp16"
GA102_PAPER = "NVIDIA GA102 white paper: 142 if summed in fp16"
ADA_PAPER = "NVIDIA Ada white paper: 330 if summed in fp16"
SHEET = "NVIDIA data sheet"
ALIKE = "NVIDIA A100 data sheet; the A800 has less NVLink"

# of one profile's cards the plainest name stands last, and its card is the one that `of` gives
TABLE = (
    Gpu("h200", r"\bH200 NVL", HOPPER, 141, 143771, 4800, 835.5, 60, 900, f"{SHEET}: 1,671 with sparsity"),
    Gpu("h200", r"\bH200\b", HOPPER, 141, 143771, 4800, 989.5, 67, 900, f"{SHEET}: 1,979 with sparsity"),
    Gpu("h100", r"H100 NVL", HOPPER, 94, 95830, 3938, 835.5, 60, 600, f"{SHEET}: 1,671 with sparsity"),
    Gpu("h100", r"H100 PCIe", HOPPER, 80, 81559, 2039, 756.5, 51, 600, f"{SHEET}: 1,513 with sparsity"),
    Gpu("h100", r"\bH100\b", HOPPER, 80, 81559, 3350, 989.5, 67, 900, f"{SHEET} (SXM): 1,979 with sparsity"),
    Gpu("a100", r"\bA100.*40", AMPERE, 40, 40960, 1555, 312, 19.5, 600, SHEET),
    Gpu("a100", r"\bA100.*PCIe", AMPERE, 80, 81920, 1935, 312, 19.5, 600, f"{SHEET} (80 GB PCIe)"),
    Gpu("a100", r"\bA100\b", AMPERE, 80, 81920, 2039, 312, 19.5, 600, f"{SHEET} (80 GB SXM)"),
    Gpu("a800", r"\bA800.*40", AMPERE, 40, 40960, 1555, 312, 19.5, 400, ALIKE),
    Gpu("a800", r"\bA800.*PCIe", AMPERE, 80, 81920, 1935, 312, 19.5, 400, ALIKE),
    Gpu("a800", r"\bA800\b", AMPERE, 80, 81920, 2039, 312, 19.5, 400, ALIKE),
    Gpu("v100", r"\bV100S", VOLTA, 32, 32768, 1134, 130, 16.4, None, SHEET),
    Gpu("v100", r"\bV100-PCIE-32", VOLTA, 32, 32768, 900, 112, 14, None, SHEET),
    Gpu("v100", r"\bV100-PCIE", VOLTA, 16, 16384, 900, 112, 14, None, SHEET),
    Gpu("v100", r"\bV100-.*32", VOLTA, 32, 32768, 900, 125, 15.7, 300, f"{SHEET} (SXM2)"),
    Gpu("v100", r"\bV100(?!-FHHL)", VOLTA, 16, 16384, 900, 125, 15.7, 300, f"{SHEET} (SXM2)"),
    Gpu("t4", r"\bT4\b", TURING, 16, 15360, 320, 65, 8.1, None, SHEET),
    Gpu("rtx2080", r"RTX 2080\b(?! (Ti|SUPER|with))", TURING, 8, 8192, 448, 40.3, 10.1, 50, TURING_PAPER),
    Gpu("a10", r"\bA10\b", AMPERE_86, 24, 23028, 600, 125, 31.2, None, SHEET),
    Gpu("l4", r"\bL4\b", ADA, 24, 23034, 300, 121, 30.3, None, f"{SHEET}: 242 with sparsity"),
    Gpu("rtx3090", r"RTX 3090(?! Ti)", AMPERE_86, 24, 24576, 936, 71, 35.6, 112.5, GA102_PAPER),
    Gpu("rtx4090", r"RTX 4090(?! (D|Laptop))", ADA, 24, 24564, 1008, 165.2, 82.6, None, ADA_PAPER),
    Gpu(
        "a6000", r"RTX A6000", AMPERE_86, 48, 49140, 768, 154.8, 38.7, 112.5, f"{SHEET}: 309.7 with sparsity"
    ),
    Gpu("a40", r"\bA40\b", AMPERE_86, 48, 46068, 696, 149.7, 37.4, 112.5, f"{SHEET}: 299.4 with sparsity"),
)

HARDWARE = (NO_GPU, *dict.fromkeys(gpu.hw for gpu in TABLE))
"""the profiles that there are"""


def room(mib: float) -> float:
    """Bytes that may be used of a card whose driver tells so much."""
    return SHARE * mib * MIB


def find(name: str) -> Gpu | None:
    """`name`: as the driver tells it, "NVIDIA A100-SXM4-80GB" """
    return next((gpu for gpu in TABLE if re.search(gpu.name, name, re.IGNORECASE)), None)


def sized(card: Gpu, gigabytes: float) -> Gpu:
    """Of the same profile the one that is sold with so much; else as if it had that."""
    alike = (gpu for gpu in reversed(TABLE) if gpu.hw == card.hw and gpu.gigabytes == gigabytes)
    return next(alike, replace(card, gigabytes=gigabytes, mib=int(gigabytes * 1e9 / MIB)))


def of(hw: str) -> Gpu | None:
    """The card that a profile means, where its name leaves several the one that is sold most; None: cpu."""
    if hw not in HARDWARE:
        raise UsageError(f"--hw {hw}: there are {', '.join(sorted(HARDWARE))}")
    return next((gpu for gpu in reversed(TABLE) if gpu.hw == hw), None)
