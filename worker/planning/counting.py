"""How many numbers a model has: from its weights' headers, or from its configuration alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from worker.engines import checkpoint, weights
from worker.engines.quantisation import stays_whole
from worker.engines.weights import Tensor
from worker.errors import MachineError
from worker.items import Json
from worker.planning.shape import Parameters

_PACKED = {"qweight": 8, "weight_packed": 8}
"""numbers in one of 32 bits"""
_OVERHEAD = ("qzeros", "scales", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")
_VISION = ("qformer", "visual", "vision_tower", "vision_model", "vision_encoder")


def of_tensors(tensors: Iterable[tuple[str, int, bool]]) -> Parameters:
    """Name, how many numbers, whether it is a matrix."""
    counted: Counter[str] = Counter()
    for name, count, is_matrix in tensors:
        counted[_part(name, is_matrix)] += count
    return Parameters(**{part: counted[part] for part in Parameters.__slots__})


def _part(name: str, is_matrix: bool) -> str:
    places = name.split(".")
    if not set(places).isdisjoint(_VISION):
        return "vision"
    if "lm_head" in places:
        return "head"
    if "embed_tokens" in places:
        return "embeddings"
    if stays_whole(name) or "layers" not in places:
        return "vision" if is_matrix else "rest"  # what leads from pictures to words
    return "linear" if is_matrix else "rest"


def of_folder(folder: Path) -> Parameters:
    """Exact, for all that is in the weights is told by their headers."""
    return of_headers(tensor for file in checkpoint.files(folder) for tensor in weights.header(file).tensors)


def of_headers(tensors: Iterable[Tensor]) -> Parameters:
    def told(tensor: Tensor) -> tuple[str, int, bool]:
        packs = _PACKED.get(tensor.name.rpartition(".")[2], 1)
        return tensor.name, tensor.count * packs, len(tensor.shape) > 1

    return of_tensors(map(told, (one for one in tensors if not one.name.endswith(_OVERHEAD))))


def of_config(config: Mapping[str, Json]) -> Parameters:
    """Lays the model out without any memory for its numbers."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MachineError(
            f"counting a model by its config.json alone needs {error.name}: fetch its weights beside it, or "
            "pip install 'gpu-batch-worker[vlm]'"
        ) from None
    with torch.device("meta"):
        shape = transformers.AutoConfig.for_model(**json.loads(json.dumps(config)))
        model: Any = transformers.AutoModelForImageTextToText.from_config(shape)
    return of_model(model)


def of_model(model: Any) -> Parameters:
    return of_tensors((name, one.numel(), one.dim() > 1) for name, one in model.named_parameters())
