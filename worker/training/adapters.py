"""Small matrices that learn beside large ones that stay as they were: LoRA, over a base of 16 or of four
bits. What is saved is what learns, and it is refused where it does not fit."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from worker.engines.loading import complain
from worker.engines.quantisation import stays_whole
from worker.errors import ItemError, UnfitError, UsageError
from worker.training.settings import WRONG, Lora

if TYPE_CHECKING:
    from torch import Tensor

FILE = "adapter.json"
"""beside its weights: what they stand beside"""
WEIGHTS = "model.safetensors"
_MARK = ".lora_"


@dataclass(frozen=True, slots=True)
class Base:
    """The model that adapters were trained beside, known as a queue's model is."""

    name: str
    revision: str
    place: str
    """where it lay on the machine that trained"""


@dataclass(frozen=True, slots=True)
class Adapter:
    base: Base
    method: Literal["lora", "qlora"]
    lora: Lora

    def write(self, folder: Path) -> Path:
        file = folder / FILE
        told = {"base": asdict(self.base), "method": self.method, "lora": self.lora.model_dump()}
        file.write_text(json.dumps(told) + "\n")
        return file

    @classmethod
    def read(cls, folder: Path) -> Adapter | None:
        """None: the folder holds a whole model."""
        if not (folder / FILE).exists():
            return None
        try:
            told: Any = json.loads((folder / FILE).read_bytes())
            if told["method"] not in ("lora", "qlora"):
                raise ValueError(f"its method is {told['method']}")
            return cls(Base(**told["base"]), told["method"], Lora.model_validate(told["lora"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{folder / FILE} cannot be read: {' '.join(str(error).split())}") from None


def attach(model: Any, lora: Lora, also: Collection[str] = ()) -> Any:
    """Everything is frozen but the adapters, which change nothing yet, and the parts that `also` names. What
    learns has 32 bits."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UnfitError(
            f"training.method lora and qlora need {error.name}: pip install 'gpu-batch-worker[training]'"
        ) from None
    beside = [*_matrices(model, lora.targets)]
    if not beside:
        raise ItemError(WRONG, f"lora.targets {lora.targets}: the model has no such matrices")
    chosen = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=beside)
    inject_adapter_in_model(chosen, model)
    for name, one in model.named_parameters():
        learns = _MARK in name or name.partition(".")[0] in also
        one.requires_grad_(learns)
        if learns:
            one.data = one.data.float()
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # an evaluation would pack its four bits in a way that has no gradients
            module.support_avx512bf16_for_cpu = False
    if getattr(model, "is_quantized", False):
        model._hf_peft_config_loaded = True  # else the Trainer takes it for one in which nothing can learn
    return model


def settle(model: Any) -> Any:
    """For answers alone: what learnt is in the model's own numbers, and added to its matrices where those are
    whole."""
    kind = next(one.dtype for one in model.parameters() if one.is_floating_point())
    for module in list(model.modules()):
        if hasattr(module, "lora_A") and not hasattr(module.get_base_layer(), "quant_state"):
            module.merge()
    for one in trained(model).values():
        one.data = one.data.to(kind)
    return model.requires_grad_(False)


def is_partial(model: Any) -> bool:
    """Some of it does not learn: its checkpoints hold the rest."""
    return any(not one.requires_grad for one in model.parameters())


def trained(model: Any) -> dict[str, Tensor]:
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def kept(model: Any) -> Mapping[str, Tensor]:
    """What its checkpoints have."""
    whole: Mapping[str, Tensor] = model.state_dict()
    return trained(model) if is_partial(model) else whole


def save(model: Any, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """`state`: of all its tensors, where they do not lie in the model itself."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    numbers = {name: (state[name] if state else one).detach() for name, one in trained(model).items()}
    save_file({name: one.contiguous() for name, one in numbers.items()}, folder / WEIGHTS, {"format": "pt"})
    model.config.save_pretrained(folder)


def load(model: Any, folder: Path) -> None:
    """Refuses a tensor that is missing, left over, or of another shape."""
    import torch
    from safetensors.torch import load_file

    found, wanted = load_file(folder / WEIGHTS), trained(model)
    complain(
        folder.name,
        {
            "missing_keys": wanted.keys() - found.keys(),
            "unexpected_keys": found.keys() - wanted.keys(),
            "mismatched_keys": [
                name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape
            ],
        },
    )
    with torch.no_grad():
        for name, one in wanted.items():
            one.copy_(found[name])


def _matrices(model: Any, targets: str) -> Iterator[str]:
    """Of the language model's layers; with `all`, of what sees too."""
    import torch

    for name, module in model.named_modules():
        sees = stays_whole(name)
        if not isinstance(module, torch.nn.Linear) or "lm_head" in name:
            continue
        if (sees and targets == "all") or (not sees and "layers" in name.split(".")):
            yield name
