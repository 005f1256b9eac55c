"""Which libraries are installed, and which of them do their work on the card that is here."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from worker.doctor.facts import Card, Libraries, Torch, Trial
from worker.hardware.command import ask

PACKAGES = (
    *("torch", "transformers", "accelerate", "peft", "bitsandbytes", "flash-attn"),
    *("compressed-tensors", "llmcompressor", "gptqmodel", "autoawq", "vllm", "onnxruntime", "av"),
)
TRIALS = {
    "flash-attn": "flash_attn",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed_tensors",
    "llmcompressor": "llmcompressor",
    "gptqmodel": "gptqmodel",
    "autoawq": "awq",
}
"""package → module; those that are known to be installed for another torch, CUDA or glibc than there is"""
LIMIT_S = 90.0
_PROGRAM = Path(__file__).parents[1] / "trial" / "library.py"


def look(cards: Sequence[Card]) -> Libraries:
    """Nothing is imported where there is no card: it takes seconds and could not be judged."""
    versions = {name: version for name in PACKAGES if (version := _version(name))}
    if not cards or "torch" not in versions:
        return Libraries(versions)
    tried = {name: module for name, module in TRIALS.items() if name in versions}
    with ThreadPoolExecutor(len(tried) + 1) as pool:
        torch = pool.submit(_torch, versions["torch"])
        running = {name: pool.submit(_try, module) for name, module in tried.items()}
    return Libraries(versions, torch.result(), _ended(versions, running))


def _ended(versions: dict[str, str], running: dict[str, Future[str | None]]) -> dict[str, Trial]:
    return {name: Trial(versions[name], one.result()) for name, one in running.items()}


def _try(module: str) -> str | None:
    """What is wrong. In a process of its own: a wheel for another glibc or CUDA may end it."""
    said = ask([sys.executable, "-P", str(_PROGRAM), module], LIMIT_S)
    return None if said is not None and said.code == 0 else said.last if said else "no python"


def _torch(version: str) -> Torch:
    said = ask([sys.executable, "-P", str(_PROGRAM), "torch"], LIMIT_S)
    try:
        if said is None or said.code:
            raise ValueError(said.last if said else "no python")
        told = json.loads(said.out.splitlines()[-1])
        return Torch(version, **{**told, "archs": tuple(told["archs"]), "bf16": tuple(told["bf16"])})
    except (ValueError, LookupError, TypeError) as error:
        return Torch(version, error=str(error))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
