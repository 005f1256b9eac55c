"""From a checkpoint to a model on its device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from worker.engines.choice import Choice
from worker.errors import UsageError
from worker.items import Json


@dataclass(frozen=True, slots=True)
class Loaded:
    model: Any
    folder: Path
    """where its config and tokenizer lie"""
    trusted: bool
    """it brings code of its own, which its tokenizer may need too"""
    about: Mapping[str, Json]


def load(
    choice: Choice,
    device: str,
    *,
    architectures: str,
    quantise: Literal["none", "nf4"] = "none",  # noqa: ARG001
) -> Loaded:
    if choice.file is None:
        raise UsageError(f"engine {choice.engine} needs --model, the folder that holds its weights")
    import torch
    import transformers

    auto = getattr(transformers, architectures)
    wish = os.environ.get("WORKER_PRECISION", "auto")
    precision = wish if wish != "auto" else "fp16" if device == "cuda" else "fp32"
    numbers = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    model = auto.from_pretrained(choice.file, dtype=numbers, use_safetensors=True).to(device).eval()
    return Loaded(model, choice.file, False, {"precision": precision})
