"""How a model's weights are kept: as they are, in four bits from now on, or in those of their checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

from worker.engines import checkpoint
from worker.engines.precision import BYTES, TORCH, Precision
from worker.engines.weights import Tensor
from worker.errors import MachineError, UsageError

Quantisation: TypeAlias = Literal["none", "nf4", "awq", "compressed-tensors", "bitsandbytes"]
Wanted: TypeAlias = Literal["none", "nf4"]

WHOLE = frozenset({"visual", "vision_tower", "vision_model", "vision_encoder", "qformer", "lm_head"})
"""modules that stay as they are, wherever in a model they stand: they are small, and err most"""
_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""bytes of a number: four bits; a scale for 64 of them, in eight bits; and one for 256 scales"""


def choose(wanted: Wanted, config: Mapping[str, Any]) -> tuple[Quantisation, str]:
    """And why. A checkpoint that is quantised stays so."""
    told = checkpoint.quantised(config)
    if not told:
        return ("nf4", "asked for") if wanted == "nf4" else ("none", "the default")
    if _is_reordered(told):
        raise reordered()
    for kept, known in _KNOWN.items():
        if known(told):
            also = "; it is not made NF4" if wanted == "nf4" else ""
            return kept, f"the checkpoint is so{also}"
    named = [f"{key} {told[key]}" for key in ("quant_method", "format", "version", "bits") if told.get(key)]
    raise UsageError(
        f"a checkpoint that is quantised so ({', '.join(named)}) is not known: take one by AutoAWQ (gemm, "
        "4 bits), in compressed-tensors (pack-quantized, 4 bits), in NF4, or one that is not quantised"
    )


def _is_awq(told: Mapping[str, Any]) -> bool:
    bits, version = told.get("bits", told.get("w_bit", 4)), str(told.get("version", "gemm"))
    return told.get("quant_method") == "awq" and bits == 4 and version.lower() == "gemm"


def _is_packed(told: Mapping[str, Any]) -> bool:
    """Weights in four bits, and nothing else."""
    groups = told.get("config_groups") or {}
    return bool(groups) and all(
        (one.get("format") or told.get("format")) == "pack-quantized"
        and (one.get("weights") or {}).get("num_bits") == 4
        and not one.get("input_activations")
        for one in groups.values()
    )


def _is_reordered(told: Mapping[str, Any]) -> bool:
    groups = (told.get("config_groups") or {}).values()
    orders = ((one.get("weights") or {}).get("actorder") for one in groups)
    return any(one and str(one).lower() not in ("weight", "static") for one in orders)


def reordered() -> UsageError:
    return UsageError(
        "a checkpoint whose groups hold inputs from all over a row (actorder group, weight_g_idx) cannot be "
        "read: take one with actorder weight, or with none"
    )


def _is_nf4(told: Mapping[str, Any]) -> bool:
    return told.get("quant_method") == "bitsandbytes" and bool(
        told.get("load_in_4bit") or told.get("_load_in_4bit")
    )


_KNOWN: Mapping[Quantisation, Callable[[Mapping[str, Any]], bool]] = {
    "awq": _is_awq,
    "compressed-tensors": _is_packed,
    "bitsandbytes": _is_nf4,
}


def stays_whole(path: str) -> bool:
    """Of a module's or a tensor's name."""
    return not WHOLE.isdisjoint(path.split("."))


def size(tensors: Iterable[Tensor], quantisation: Quantisation, precision: Precision) -> int:
    """Bytes that the weights take on the device."""
    return round(sum(_size(one, quantisation, precision) for one in tensors))


def _size(tensor: Tensor, quantisation: Quantisation, precision: Precision) -> float:
    if not tensor.is_float:  # packed, and stays so
        return tensor.end - tensor.start
    small = quantisation == "nf4" and len(tensor.shape) == 2 and tensor.name.endswith(".weight")
    if small and not stays_whole(tensor.name) and "embed" not in tensor.name:
        return tensor.count * _NF4
    return tensor.count * BYTES[precision]


def options(kept: Quantisation, config: Any, precision: Precision) -> dict[str, Any]:
    """Options of from_pretrained. Of a checkpoint that is quantised its configuration says how."""
    if kept in ("awq", "compressed-tensors"):
        from worker.engines import int4

        config.quantization_config = {"quant_method": int4.METHOD}
    if kept in ("nf4", "bitsandbytes"):
        try:
            import bitsandbytes  # noqa: F401
        except ImportError as error:
            raise MachineError(f"NF4 needs {error.name}: pip install 'gpu-batch-worker[vlm]'") from None
    if kept != "nf4":
        return {}
    import torch
    import transformers

    return {
        "quantization_config": transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, TORCH[precision]),
            llm_int8_skip_modules=[rf"(.*\.)?{name}" for name in WHOLE],
        )
    }
