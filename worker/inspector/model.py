"""A vision language model that writes, with adapters that learn; and those as everybody else takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.engines import loading
from worker.engines.choice import Choice
from worker.engines.device import look
from worker.training import adapters
from worker.training.adapters import Base
from worker.training.core import numbers_of
from worker.training.settings import Lora, Training

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""as PEFT calls them"""
_ABOVE, _NAME = "base_model.model.", ".default."
"""PEFT's own names are those of the model below the first, without the second"""


def new(folder: Path, device: str, training: Training) -> Any:
    computed = numbers_of(training, next(look(device)))
    made = loading.load(
        Choice("inspector", folder.name, file=folder),
        device,
        architectures="AutoModelForImageTextToText",
        quantise="nf4" if training.method == "qlora" else "none",
        wanted_numbers=computed,
        wanted_kernels="auto" if training.memory_efficient_attention else "eager",
        computed=computed,
    ).model
    for config in (made.config, made.config.get_text_config()):
        config.use_cache = False  # of keys and values, which only an answer needs, and asks for
    return adapters.attach(made, training.lora)


def publish(saved: Path, base: Base, lora: Lora, into: Path) -> list[Path]:
    """`saved`: what a checkpoint has. What comes out is a folder for peft.PeftModel.from_pretrained."""
    from peft import LoraConfig
    from safetensors.torch import load_file, save_file

    found: Mapping[str, Tensor] = load_file(saved / adapters.WEIGHTS)
    named = {_ABOVE + name.replace(_NAME, "."): one for name, one in found.items()}
    save_file(named, into / WEIGHTS, {"format": "pt"})
    beside = sorted({name.rpartition(".lora_")[0] for name in found})
    told: Any = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=beside,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base.place if base.revision.startswith("tree:") else base.name,
        revision=None if base.revision.startswith("tree:") else base.revision,
        inference_mode=True,
    )
    plain = {name: sorted(one) if isinstance(one, set) else one for name, one in told.to_dict().items()}
    (into / CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n")
    return [into / CONFIG, into / WEIGHTS]
