"""Checkpoints of four bits, as AutoAWQ (gemm) and compressed-tensors (pack-quantized) write them.

transformers reads the first only with a package that not every machine can have. The second it makes dense
at the first forward, and with zero points, which AWQ has, it does not load it. Here both are put into one
order when they are loaded. A forward takes one layer's weights apart and multiplies: in more time
than with dense weights, and with memory for one dense layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from worker.engines import checkpoint, weights
from worker.engines.quantisation import reordered

METHOD = "int4-in-torch"
Shapes = Mapping[str, tuple[int, ...]]


class Int4Linear(nn.Module, ABC):
    """In place of a Linear. At first it holds a checkpoint's own tensors, once settled those of a forward."""

    mark: str
    """the tensor that every layer of such a checkpoint has"""
    packed: Tensor
    """outputs x inputs/2: the first half of the inputs in the low bits, the second half in the high ones"""
    zeros: Tensor
    """outputs x groups x 1, as `scales`"""
    scales: Tensor

    def __init__(self, linear: nn.Linear, shapes: Shapes) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.kind = linear.weight.dtype
        self.bias = linear.bias
        for name, shape in shapes.items():
            if name != "bias":
                kind = self.kind if name in ("scales", "weight_scale") else torch.int32
                self.register_buffer(name, torch.empty(shape, dtype=kind, device=linear.weight.device))
        self._names = [name for name in shapes if name != "bias"]

    @abstractmethod
    def read(self) -> tuple[Tensor, Tensor, Tensor]:
        """outputs x inputs, and zeros and scales as outputs x groups"""

    def settle(self) -> None:
        numbers, zeros, scales = self.read()
        for name in self._names:
            delattr(self, name)
        low, high = numbers.chunk(2, 1)
        self.register_buffer("packed", low | (high << 4))
        self.register_buffer("zeros", zeros.to(self.kind).unsqueeze(2).contiguous())
        # of a quantised checkpoint not every transformers changes the numbers, and AWQ's are fp16
        self.register_buffer("scales", scales.to(self.kind).unsqueeze(2).contiguous())
        if self.bias is not None:
            self.bias.data = self.bias.data.to(self.kind)

    def weight(self) -> Tensor:
        whole = torch.cat([self.packed & 15, self.packed >> 4], 1).to(self.kind)
        groups = whole.view(self.out_features, self.scales.shape[1], -1)
        return groups.sub_(self.zeros).mul_(self.scales).view_as(whole)

    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.linear(rows, self.weight(), self.bias)


class AwqLinear(Int4Linear):
    mark = "qweight"
    qweight: Tensor
    qzeros: Tensor
    _SHIFTS = (0, 16, 4, 20, 8, 24, 12, 28)
    """where the first, second … of eight columns lies: an order that suited a kernel"""

    def read(self) -> tuple[Tensor, Tensor, Tensor]:
        numbers, zeros = unpacked(self.qweight, self._SHIFTS), unpacked(self.qzeros, self._SHIFTS)
        return numbers.T, zeros.T, self.scales.T


class PackedLinear(Int4Linear):
    mark = "weight_packed"
    weight_packed: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    _SHIFTS = (0, 4, 8, 12, 16, 20, 24, 28)

    def read(self) -> tuple[Tensor, Tensor, Tensor]:
        numbers, scales = unpacked(self.weight_packed, self._SHIFTS), self.weight_scale
        if "weight_zero_point" in self._names:
            zeros = unpacked(self.weight_zero_point.T, self._SHIFTS).T
        else:
            zeros = torch.full_like(scales, 8)
        return numbers[:, : self.in_features], zeros, scales


def unpacked(packed: Tensor, shifts: Sequence[int]) -> Tensor:
    """rows x columns/8 of int32 → rows x columns"""
    by = torch.tensor(shifts, dtype=torch.int32, device=packed.device)
    return ((packed.unsqueeze(-1) >> by) & 15).to(torch.uint8).flatten(1)


@register_quantization_config(METHOD)
class Config(QuantizationConfigMixin):  # type: ignore[misc]
    def __init__(self, **_: Any) -> None:
        self.quant_method = METHOD


@register_quantizer(METHOD)
class Quantizer(HfQuantizer):  # type: ignore[misc]
    requires_calibration = True
    is_trainable = False

    def is_serializable(self) -> bool:
        return False

    def _process_model_before_weight_loading(
        self, model: Any, checkpoint_files: Sequence[str] = (), **_: Any
    ) -> None:
        # transformers before 5, in which models are quantised, does not say which files it will read
        files = checkpoint_files or checkpoint.files(Path(model.config.name_or_path))
        swap(model, (one for file in files for one in weights.header(Path(file)).tensors))

    def _process_model_after_weight_loading(self, model: nn.Module, **_: Any) -> nn.Module:
        for module in model.modules():
            if isinstance(module, Int4Linear):
                module.settle()
        return model


def swap(model: nn.Module, tensors: Iterable[weights.Tensor]) -> None:
    """Every Linear that the checkpoint has in four bits. It may call what holds the layers otherwise
    (`model.layers.0…` for `model.language_model.layers.0…`): all but its name's first part must agree."""
    there: dict[str, dict[str, tuple[int, ...]]] = {}
    for one in tensors:
        path, _, name = one.name.rpartition(".")
        there.setdefault(path.partition(".")[2], {})[name] = one.shape
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            shapes = next((there[tail] for tail in _tails(path) if tail in there), {})
            if any(name.endswith("g_idx") for name in shapes):
                raise reordered()
            for kind in (AwqLinear, PackedLinear):
                if kind.mark in shapes:
                    parent, _, last = path.rpartition(".")
                    setattr(model.get_submodule(parent), last, kind(module, shapes))


def _tails(path: str) -> Iterable[str]:
    parts = path.split(".")
    return (".".join(parts[start:]) for start in range(1, len(parts)))
