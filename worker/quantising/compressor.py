"""AWQ by llm-compressor: which scales spare what matters, found with samples, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.engines.quantisation import WHOLE
from worker.errors import UnfitError
from worker.quantising import copies
from worker.quantising.watching import watched

if TYPE_CHECKING:
    from torch import Tensor

_LAYER = r"re:.*language_model\.layers\.\d+\."
_BALANCED = (
    ("input_layernorm$", [r"self_attn\.q_proj$", r"self_attn\.k_proj$", r"self_attn\.v_proj$"]),
    (r"self_attn\.v_proj$", [r"self_attn\.o_proj$"]),
    ("post_attention_layernorm$", [r"mlp\.gate_proj$", r"mlp\.up_proj$"]),
    (r"mlp\.up_proj$", [r"mlp\.down_proj$"]),
)
"""of the language model alone: the vision tower has layers that are called the same, and stays whole"""


def require() -> None:
    """Before a large model is loaded for nothing."""
    if find_spec("llmcompressor") is None:
        raise UnfitError(
            "quantising needs llmcompressor, in an environment of its own: make setup TARGET=quantise, or "
            "the image of that target"
        )


def quantise(
    model: Any,
    tokenizer: Any,
    into: Path,
    samples: Iterable[Mapping[str, Tensor]],
    group: int,
    progress: Callable[[int, int], None],
) -> None:
    """The model is changed, and written as compressed-tensors (pack-quantized)."""
    from datasets import Dataset
    from llmcompressor import oneshot

    inputs = [*samples]
    layers = model.model.language_model.layers
    with watched(layers, progress), _unpinned(), _restored():
        oneshot(
            model=model,
            processor=tokenizer,  # else it makes one of its own, and needs more packages for that
            # of numbers alone: it would write the pictures to the disk, and read them as lists
            dataset=Dataset.from_dict({"input_ids": [[number] for number in range(len(inputs))]}),
            data_collator=lambda rows: inputs[int(rows[0]["input_ids"][0])],
            recipe=_recipe(group),
            num_calibration_samples=len(inputs),
            sequential_targets=[type(layers[0]).__name__],
        )
        model.save_pretrained(into, save_compressed=True)


def _recipe(group: int) -> list[Any]:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers import awq

    weights = QuantizationArgs(num_bits=4, type="int", symmetric=False, strategy="group", group_size=group)
    scheme: dict[str, Any] = {
        "config_groups": {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)},
        "ignore": [rf"re:(.*\.)?{name}(\..*)?$" for name in sorted(WHOLE)],
    }
    try:
        from llmcompressor.modifiers.transform import awq
    except ImportError:  # before 0.10 one modifier did both
        from llmcompressor.modifiers import awq

        return [awq.AWQModifier(mappings=_mappings(awq), **scheme)]
    from llmcompressor.modifiers.quantization import QuantizationModifier

    return [awq.AWQModifier(mappings=_mappings(awq)), QuantizationModifier(**scheme)]


def _mappings(awq: Any) -> list[Any]:
    return [
        awq.AWQMapping(_LAYER + smooth, [_LAYER + one for one in balanced]) for smooth, balanced in _BALANCED
    ]


@contextmanager
def _unpinned() -> Iterator[None]:
    """Where there is no card, memory cannot be pinned for it: 0.14 tries all the same."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    pin = vars(IntermediatesCache).get("_pin_intermediate")
    if pin is None or torch.accelerator.is_available():
        yield
        return
    IntermediatesCache._pin_intermediate = staticmethod(lambda _: None)
    try:
        yield
    finally:
        IntermediatesCache._pin_intermediate = pin


@contextmanager
def _restored() -> Iterator[None]:
    """In 0.9 each trial stays in a weight that lies in RAM."""
    try:
        from llmcompressor.modifiers.awq.base import AWQModifier
    except ImportError:
        yield
        return
    best = AWQModifier._compute_best_scale

    def copied(self: Any, mapping: Any, outputs: Any) -> Any:
        with copies.kept(mapping.parent):
            return best(self, mapping, outputs)

    AWQModifier._compute_best_scale = copied
    try:
        yield
    finally:
        AWQModifier._compute_best_scale = best
