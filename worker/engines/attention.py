"""Which kernels compute the attention: the fastest that this card, this model and these packages can do."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

from worker.engines.device import Device, cache_folder
from worker.engines.precision import TORCH, Precision

Attention: TypeAlias = Literal["flash_attention_2", "sdpa", "eager"]
Wanted: TypeAlias = Literal["auto", "flash", "sdpa", "eager"]

LADDER: tuple[Attention, ...] = ("flash_attention_2", "sdpa", "eager")
_AMPERE = (8, 0)
_PROBE = Path(__file__).with_name("probe.py")
_PROBE_LIMIT_S = 300.0
"""torch may come from a slow disk"""


def choose(
    wanted: Wanted,
    device: Device,
    precision: Precision,
    supported: Collection[str],
    trial: Callable[[Attention, Device, Precision], str | None],
) -> tuple[Attention, str]:
    """And why. `supported` are those that the model knows; a trial says what is wrong, or None."""
    refused: list[str] = []
    for one in LADDER[{"auto": 0, "flash": 0, "sdpa": 1, "eager": 2}[wanted] :]:
        wrong = _against(one, device, precision, supported) or trial(one, device, precision)
        if wrong is None:
            first = "asked for" if one.startswith(wanted) else "the fastest that works here"
            return one, "; ".join([first, *refused])
        refused.append(f"not {one}: {wrong}")
    return "eager", "; ".join(["nothing else works here", *refused])


def _against(one: Attention, device: Device, precision: Precision, supported: Collection[str]) -> str | None:
    """What can be said without trying."""
    if one not in supported and one != "eager":
        return "the model does not know it"
    if one != "flash_attention_2":
        return None
    if device.kind != "cuda":
        return "it needs a GPU"
    if device.capability and device.capability < _AMPERE:
        return f"it needs compute capability 8.0, and {device.name} has {device.generation}"
    if precision == "fp32":
        return "it computes in fp16 and bf16 only"
    return None


def works(one: Attention, device: Device, precision: Precision) -> str | None:
    """Runs one tiny kernel in a process of its own: a wheel of another build may take its process with it.

    That it worked is remembered on this machine; a failure is looked at again the next time."""
    if one == "eager":
        return None
    if one == "flash_attention_2" and not _version("flash_attn"):
        return "flash_attn is not installed"
    remembered = cache_folder() / "probes" / _key(one, device, precision)
    if remembered.exists():
        return None
    wrong = _try(one, device, precision)
    if wrong is None:
        with suppress(OSError):  # it is tried again the next time
            remembered.parent.mkdir(parents=True, exist_ok=True)
            remembered.touch()
    return wrong


def _try(one: Attention, device: Device, precision: Precision) -> str | None:
    command = [sys.executable, "-P", str(_PROBE), one, device.place, TORCH[precision]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_PROBE_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"its trial failed: {error}"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines() or [f"its trial ended with {done.returncode}"]
    return said[-1][:300]


def _key(one: Attention, device: Device, precision: Precision) -> str:
    """Of all that a kernel's working depends on."""
    driver = Path("/proc/driver/nvidia/version")
    facts = (
        one,
        device.name,
        device.generation,
        precision,
        sys.executable,
        _version("torch"),
        _version("flash_attn"),
        driver.read_text() if driver.exists() else "",
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
