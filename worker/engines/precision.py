"""In which numbers a model computes. FP16 unless a person asks otherwise, for every card has it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from worker.engines.device import Device

Precision: TypeAlias = Literal["fp16", "bf16", "fp32"]
Wanted: TypeAlias = Literal["auto", "fp16", "bf16", "fp32"]

BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
TORCH = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


def choose(wanted: Wanted, device: Device, trained_in: str) -> tuple[Precision, str]:
    """And why. `trained_in` is what the checkpoint's numbers are stored as: BF16, F16, F32."""
    if device.kind == "cpu":
        return ("fp32", "the default on a CPU") if wanted == "auto" else (wanted, "asked for")
    if wanted == "bf16" and not device.bf16:
        return "fp16", f"bf16 was asked for, and {device.name} has none or emulates it"
    if wanted == "bf16" and trained_in != "BF16":
        return "fp16", f"bf16 was asked for, and the checkpoint was not trained in it but has {trained_in}"
    if wanted == "auto":
        return "fp16", "the default"
    return wanted, "asked for"
