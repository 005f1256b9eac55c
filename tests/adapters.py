"""Adapters with random numbers, made and merged by PEFT itself, beside small models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tiny_models import vision_language

LANGUAGE = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
EVERYTHING = r".*(layers|blocks)\.\d+\..*\.(q_proj|qkv|o_proj|up_proj|down_proj|linear_fc1|linear_fc2)"


def base(folder: Path, family: str, numbers: str, shard: str = "120KB", **options: Any) -> Path:
    """In several files."""
    import torch

    model = vision_language(family, **options).to(getattr(torch, numbers))
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


def adapter(folder: Path, base: Path, seed: int = 1, **options: Any) -> Path:
    """As a training leaves it: with numbers that change something."""
    import peft
    import torch

    model = loaded(base)
    told = {"r": 4, "lora_alpha": 12, "target_modules": LANGUAGE, **options}
    made = peft.get_peft_model(model, peft.LoraConfig(**told))
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, one in made.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                one.add_(torch.randn(one.shape, generator=chance).to(one) * 0.2)
    made.peft_config["default"].base_model_name_or_path = str(base)
    made.save_pretrained(folder)
    return folder


def loaded(folder: Path) -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")


def merged_by_peft(base: Path, adapter: Path) -> dict[str, Any]:
    import peft

    model = peft.PeftModel.from_pretrained(loaded(base), adapter).merge_and_unload()
    state: dict[str, Any] = model.state_dict()
    return state


def synthetic(
    base: Path, adapter: Path, shards: int, megabytes: int, rank: int = 16, tensors_each: int = 4
) -> int:
    """A base of any size, without a model, and an adapter over every second tensor; the bytes of a file."""
    import torch
    from safetensors.torch import save_file

    wide = 1024
    high = megabytes * 1024 * 1024 // (tensors_each * 2 * wide)
    base.mkdir(parents=True)
    adapter.mkdir(parents=True)
    chance, where, small = torch.Generator().manual_seed(0), {}, {}
    for shard in range(1, shards + 1):
        name = f"model-{shard:05}-of-{shards:05}.safetensors"
        tensors = {
            f"model.layers.{tensors_each * shard + n}.up_proj.weight": torch.randn(
                high, wide, generator=chance
            ).bfloat16()
            for n in range(tensors_each)
        }
        for one in list(tensors)[::2]:
            path = f"base_model.model.{one.removesuffix('.weight')}"
            small[f"{path}.lora_A.weight"] = torch.randn(rank, wide, generator=chance)
            small[f"{path}.lora_B.weight"] = torch.randn(high, rank, generator=chance)
        save_file(tensors, base / name, {"format": "pt"})
        where |= dict.fromkeys(tensors, name)
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (base / "config.json").write_text('{"model_type": "none", "tie_word_embeddings": false}')
    save_file(small, adapter / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": 32, "base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps({**told, "init_lora_weights": True}))
    return max(one.stat().st_size for one in base.glob("*.safetensors"))
