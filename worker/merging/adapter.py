"""A LoRA as PEFT saves it: what it changes, and by how much. What is not plain LoRA is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.engines import weights
from worker.engines.weights import Tensor
from worker.errors import ItemError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WRONG = "cannot-merge"
_OURS = "adapter.json"
_BEFORE = "base_model.model."
_READ = {"r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights", "bias"}
_OF_TRAINING = {
    *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "target_modules", "exclude_modules", "lora_dropout", "modules_to_save"),
    *("layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size", "eva_config"),
}
"""what they chose shows in the tensors"""
_KEEP_THE_BASE = {"True", "False", "None", "gaussian", "orthogonal", "eva"}
"""beginnings that leave the base as it was; PiSSA and others move some of it into the adapter"""

_UNTOLD = 8
"""PEFT's own rank and alpha"""
_INNER = {"A.weight", "embedding_A"}
"""have a row for each of the rank"""


@dataclass(frozen=True, slots=True)
class Change:
    """Of one tensor of the base: it is replaced, or a product is added to it, or both."""

    a: Tensor | None = None
    b: Tensor | None = None
    scale: float = 1.0
    of_rows: bool = False
    """of an embedding, whose product lies across"""
    instead: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """That of the tensor which it fits; None: none."""
        shapes = {self.instead.shape} if self.instead else set()
        if self.a and self.b:
            (rank, across), (down, inner) = self.a.shape, self.b.shape
            shapes.add(((across, down) if self.of_rows else (down, across)) if rank == inner else ())
        return shapes.pop() if len(shapes) == 1 else None


@dataclass(frozen=True, slots=True)
class Adapter:
    folder: Path
    base: str | None
    revision: str | None
    """of the base, where that is of the hub"""
    changes: Mapping[str, Change] = field(repr=False)
    """by the tensor's name in the model that was trained"""

    @property
    def file(self) -> Path:
        return self.folder / WEIGHTS

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        if (folder / _OURS).exists():
            raise _refused(f"{_OURS} is of a classifier: the task classify takes its folder as it is")
        told = _config(folder)
        if not (folder / WEIGHTS).is_file():
            raise _refused(f"{WEIGHTS} is not beside {CONFIG}: save the adapter as safetensors")
        tensors = {one.name: one for one in weights.header(folder / WEIGHTS).tensors}
        try:
            changes = _changes(told, tensors)
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, re.error) as error:
            raise _refused(f"{CONFIG} is not as PEFT writes it ({type(error).__name__}: {error})") from None
        return cls(folder, told.get("base_model_name_or_path"), told.get("revision"), changes)


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        told = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(f"{CONFIG} cannot be read: {error}") from None
    if not isinstance(told, dict) or told.get("peft_type") != "LORA":
        raise _refused(f"{CONFIG} is of no LoRA")
    if told.get("use_dora"):
        raise _refused("DoRA scales each column of the base anew: merge it with PEFT's own merge_and_unload")
    if told.get("bias", "none") != "none" or told.get("lora_bias"):
        raise _refused("it trained biases: only bias none is merged")
    if str(told.get("init_lora_weights")) not in _KEEP_THE_BASE:
        raise _refused(
            f"it began as {told['init_lora_weights']}, which changed the base: convert it to plain LoRA "
            "first (PEFT's path_initial_model_for_weight_conversion)"
        )
    if not isinstance(told.get("base_model_name_or_path"), str | None):
        raise _refused(f"{CONFIG} names no base: base_model_name_or_path is no text")
    for name, value in told.items():
        if name not in _READ | _OF_TRAINING and value:
            raise _refused(f"{CONFIG} sets {name}: only plain LoRA is merged")
    return told


def _changes(told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Change]:
    parts: dict[str, dict[str, Tensor]] = {}
    """module → what there is of it"""
    for name, tensor in tensors.items():
        path, found, part = name.removeprefix(_BEFORE).partition(".lora_")
        if found:
            parts.setdefault(path, {})[part] = tensor
        else:
            path, _, last = path.rpartition(".")
            parts.setdefault(path.removesuffix(".base_layer"), {})[f"={last}"] = tensor
    changes = {}
    for path, each in parts.items():
        scale = _scale(told, path, each)
        if each.keys() <= {"A.weight", "B.weight", "=weight"} and {"A.weight", "B.weight"} <= each.keys():
            change = Change(each["A.weight"], each["B.weight"], scale, instead=each.get("=weight"))
            changes[f"{path}.weight"] = change
        elif {"embedding_A", "embedding_B"} <= each.keys() <= {"embedding_A", "embedding_B", "=weight"}:
            change = Change(each["embedding_A"], each["embedding_B"], scale, True, each.get("=weight"))
            changes[f"{path}.weight"] = change
        elif all(part.startswith("=") for part in each):
            changes |= {f"{path}.{part[1:]}": Change(instead=tensor) for part, tensor in each.items()}
        else:
            there = ", ".join(sorted(part.removeprefix("=") for part in each))
            raise _refused(f"of {path} it has {there}, which is no whole LoRA: save the adapter again")
    if not changes:
        raise _refused(f"{WEIGHTS} has no tensors")
    return changes


def _scale(told: Mapping[str, Any], path: str, each: Mapping[str, Tensor]) -> float:
    rank = _of(told.get("rank_pattern") or {}, path, told.get("r", _UNTOLD))
    alpha = _of(told.get("alpha_pattern") or {}, path, told.get("lora_alpha", _UNTOLD))
    for part, tensor in each.items():
        if not part.startswith("=") and len(tensor.shape) != 2:
            raise _refused(f"{path} is a convolution: merge it with PEFT's own merge_and_unload")
        if part in _INNER and tensor.shape[0] != rank:
            raise _refused(
                f"of {path} the rank is {tensor.shape[0]}, and {CONFIG} says {rank}: one is not its own"
            )
    return float(alpha / rank**0.5 if told.get("use_rslora") else alpha / rank)


def _of(pattern: Mapping[str, Any], path: str, otherwise: Any) -> Any:
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", path)), otherwise)


def _refused(why: str) -> ItemError:
    return ItemError(WRONG, f"this adapter is not merged: {why}")
