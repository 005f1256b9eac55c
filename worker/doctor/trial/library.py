"""A program of its own: does this library do a little of its work here? Its last words say why not.

Run by its path, so it imports nothing of the worker."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any


def torch() -> None:
    import torch

    there = torch.cuda.is_available()
    versions: Any = torch.backends.cudnn.version, torch.cuda.nccl.version  # half typed
    told: dict[str, Any] = {
        "cuda": torch.version.cuda,
        "archs": torch.cuda.get_arch_list(),
        "cudnn": versions[0]() if there else None,
        "nccl": ".".join(map(str, versions[1]())) if there and _has_nccl() else None,
        "available": there,
        "bf16": [],
    }
    if there:
        for at in range(torch.cuda.device_count()):
            with torch.cuda.device(at):
                # by emulation it is always so
                told["bf16"].append(torch.cuda.is_bf16_supported(including_emulation=False))
    print(json.dumps(told))  # noqa: T201


def _has_nccl() -> bool:
    import torch.distributed

    return torch.distributed.is_available() and torch.distributed.is_nccl_available()


def flash_attn() -> None:
    import torch
    from flash_attn import flash_attn_func

    states = torch.randn(1, 16, 4, 64, device="cuda", dtype=torch.float16)
    if not flash_attn_func(states, states, states, causal=True).isfinite().all().item():
        raise ArithmeticError("it gives numbers that are none")


def bitsandbytes() -> None:
    import torch
    from bitsandbytes import functional

    weights = torch.randn(64, 64, device="cuda", dtype=torch.float16)
    packed, state = functional.quantize_4bit(weights, quant_type="nf4")
    error = (functional.dequantize_4bit(packed, state) - weights).abs().max().item()
    if not error < 1:
        raise ArithmeticError(f"four bits and back are {error:.3g} off")


TRIALS = {"torch": torch, "flash_attn": flash_attn, "bitsandbytes": bitsandbytes}


if __name__ == "__main__":
    if sys.argv[1] in TRIALS:
        TRIALS[sys.argv[1]]()
    else:
        importlib.import_module(sys.argv[1])
