"""What models did, in figures: from the totals that engines keep to rates that people compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.hardware import gpus
from worker.items import Json


def figures(spent: Mapping[str, float]) -> Mapping[str, Json]:
    """`spent`: of all workers together, as VisionEngine.spent() names it."""
    device = device_seconds(spent)
    rates = {
        "requests_per_device_s": _ratio(spent.get("requests"), device),
        "generated_tokens_per_s": _ratio(spent.get("generated_tokens"), spent.get("decode_s")),
        "prefill_tokens_per_s": _ratio(spent.get("prompt_tokens"), spent.get("prefill_s")),
        "prefill_mfu": _ratio(spent.get("prefill_flops"), spent.get("prefill_flops_possible")),
    }
    return {**spent, **{key: value for key, value in rates.items() if value is not None}}


def of_card(device: Any, prefill_s: float) -> Mapping[str, Json]:
    """What it could have computed while it read prompts, and how much of its memory was taken. Of a CPU
    nothing."""
    if device.type != "cuda":
        return {}
    import torch

    gpu = gpus.find(torch.cuda.get_device_name(device))
    peak = torch.cuda.max_memory_allocated(device) / 1e9
    possible = {"prefill_flops_possible": prefill_s * gpu.flops} if gpu else {}
    return {**possible, "peak_memory": f"{peak:.1f} GB"}


def device_seconds(spent: Mapping[str, float]) -> float:
    return sum(spent.get(name, 0.0) for name in ("vision_s", "prefill_s", "decode_s"))


def _ratio(part: float | None, whole: float | None) -> float | None:
    return round(part / whole, 4) if part is not None and whole else None
