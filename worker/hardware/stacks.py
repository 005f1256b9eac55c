"""Which torch, CUDA and libraries fit which cards: each stack is one image, and one lock in env/locks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.hardware import gpus

Sm = tuple[int, int]

PYTHON = (3, 11)
GLIBC = (2, 28)
"""of the machine, at least: what the locks' wheels were built for"""


@dataclass(frozen=True, slots=True)
class Stack:
    name: str
    """docker/<name>.Dockerfile, env/locks/<name>.txt and env/locks/quantise-<name>.txt"""
    cards: str
    cuda: str | None = None
    torch: str | None = None
    torchvision: str | None = None
    index: str | None = None
    """the folder of PyTorch's own index that has these wheels; None: they are the ones on PyPI"""
    architectures: tuple[Sm, ...] = ()
    """that the wheel holds code for"""
    driver: str | None = None
    """the oldest one that runs this CUDA, by compatibility of minor versions"""
    packages: Mapping[str, str] = field(default_factory=dict)
    quantise: Mapping[str, str] = field(default_factory=dict)
    """the environment that writes four bits: its libraries want another transformers"""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """of CUDA, as the wheel of PyTorch's own index names them; PyPI's wheel names others by itself"""
    flash: str = ""
    """what there is of FlashAttention-2 for it"""
    checked: str = ""
    """what was run, and what was only read"""

    def runs_on(self, sm: Sm) -> bool:
        """Code for 8.6 runs on 8.9 too, but not on 8.0 nor on 9.0."""
        return any(major == sm[0] and minor <= sm[1] for major, minor in self.architectures)


MODELS = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "peft": "0.21.2",
    "timm": "1.0.31",  # VideoChat2's own code asks for it
    "transformers": "5.23.0",
}
WITH_TORCH_2_7 = {
    "compressed-tensors": "0.13.0",
    "huggingface-hub": "0.36.2",
    "llmcompressor": "0.9.0.5",
    "transformers": "4.57.3",
}
CODE_OF_2_7: tuple[Sm, ...] = ((5, 0), (6, 0), (7, 0), (7, 5), (8, 0), (8, 6), (9, 0))

CPU = Stack("cpu", "no GPU: rules, a detector, models behind an endpoint", checked="installed and run")
AMPERE = Stack(
    "ampere",
    "Ampere and Ada",
    cuda="11.8",
    torch="2.7.1+cu118",
    torchvision="0.22.1+cu118",
    index="cu118",
    architectures=((3, 7), *CODE_OF_2_7),
    driver="450.80.02",
    packages=MODELS,
    quantise=WITH_TORCH_2_7,
    libraries={
        "nvidia-cublas-cu11": "11.11.3.6",
        "nvidia-cuda-cupti-cu11": "11.8.87",
        "nvidia-cuda-nvrtc-cu11": "11.8.89",
        "nvidia-cuda-runtime-cu11": "11.8.89",
        "nvidia-cudnn-cu11": "9.1.0.70",
        "nvidia-cufft-cu11": "10.9.0.58",
        "nvidia-curand-cu11": "10.3.0.86",
        "nvidia-cusolver-cu11": "11.4.1.48",
        "nvidia-cusparse-cu11": "11.7.5.86",
        "nvidia-nccl-cu11": "2.21.5",
        "nvidia-nvtx-cu11": "11.8.86",
    },
    flash="no wheel for torch 2.7 with CUDA 11.8, so SDPA unless it is built from source",
    checked="these versions ran together on a CPU, with PyPI's torch 2.7.1; the wheels for CUDA 11.8 did not",
)
TURING = Stack(
    "turing",
    "Turing and Volta",
    cuda="12.6",
    torch="2.7.1",
    torchvision="0.22.1",
    architectures=CODE_OF_2_7,
    driver="525.60.13",
    packages=MODELS,
    quantise=WITH_TORCH_2_7,
    flash="no kernels for these cards, so SDPA",
    checked="these versions ran together on a CPU, not on a GPU",
)
HOPPER = Stack(
    "hopper",
    "Hopper",
    cuda="13.0",
    torch="2.13.0",
    torchvision="0.28.0",
    architectures=((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
    driver="580.65.06",
    packages=MODELS,
    quantise={"compressed-tensors": "0.19.0", "llmcompressor": "0.14.0.1", "transformers": "5.17.0"},
    flash="no wheel of its makers for torch 2.13, so SDPA unless it is built from source",
    checked="these versions ran together on a CPU, with torch 2.13.0+cpu, not on a GPU; its environment for "
    "quantising made small models small there",
)
STACKS = {stack.name: stack for stack in (CPU, AMPERE, TURING, HOPPER)}

DRIVERS = {int(one.cuda.partition(".")[0]): one.driver for one in STACKS.values() if one.cuda and one.driver}
"""CUDA's major version → the least driver, as NVIDIA's table of minor version compatibility has it"""

OF = {
    gpus.VOLTA: TURING,
    gpus.TURING: TURING,
    gpus.AMPERE: AMPERE,
    gpus.AMPERE_86: AMPERE,
    gpus.ADA: AMPERE,
    gpus.HOPPER: HOPPER,
}
"""what a card of each kind gets, of those that run on it"""


def stack_of(hw: str) -> Stack:
    gpu = gpus.of(hw)
    return OF[gpu.sm] if gpu else CPU


def fitting(sm: Sm) -> list[Stack]:
    """Those whose torch holds code for such a card; what it gets by itself stands first."""
    return sorted((one for one in STACKS.values() if one.runs_on(sm)), key=lambda one: one is not OF.get(sm))
