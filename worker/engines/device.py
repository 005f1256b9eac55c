"""What a model is loaded onto, as far as that decides how."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Device:
    place: str
    """as torch calls it: cpu, cuda:0"""
    name: str
    """as people do"""
    capability: tuple[int, int] | None = None
    """of NVIDIA's cards: 7.5 is Turing, 8.0 Ampere, 9.0 Hopper"""
    bf16: bool = False
    """computes in bfloat16, and does not only emulate it"""
    total: int | None = None
    """bytes of its memory; None: nobody knows"""
    free: int | None = None

    @property
    def kind(self) -> str:
        return self.place.partition(":")[0]

    @property
    def generation(self) -> str:
        return "" if self.capability is None else "{}.{}".format(*self.capability)


def look(device: str) -> Iterator[Device]:
    """One after the other, for to ask a card takes some of its memory: `cuda` means every visible one."""
    import torch

    kind, _, number = device.partition(":")
    if kind == "cpu":
        yield Device("cpu", "CPU", bf16=True, free=_free_memory())
    elif kind != "cuda":
        yield Device(device, kind)
    else:
        for at in range(torch.cuda.device_count()):
            if number not in ("", str(at)):
                continue
            with torch.cuda.device(at):
                free, total = torch.cuda.mem_get_info()
                bf16 = torch.cuda.is_bf16_supported(including_emulation=False)  # Turing emulates it
                shown = torch.cuda.get_device_properties(at)
            yield Device(f"cuda:{at}", shown.name, (shown.major, shown.minor), bf16, total, free)


def cache_folder() -> Path:
    """What this machine learnt about itself."""
    return Path(os.environ.get("WORKER_CACHE") or "~/.cache/worker").expanduser()


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
