"""What a model is, as far as that tells what it takes: its sizes, and how many numbers it has for what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from worker.errors import UsageError
from worker.items import Json


@dataclass(frozen=True, slots=True)
class Parameters:
    """A model's numbers, by what may be done with them."""

    linear: int
    """matrices of the language model's layers: these are made small, and adapters stand beside them"""
    rest: int
    """norms and biases of those layers"""
    embeddings: int
    head: int
    """0: the embeddings serve as the head too"""
    vision: int

    @property
    def total(self) -> int:
        return self.linear + self.rest + self.embeddings + self.head + self.vision

    @property
    def language(self) -> int:
        return self.total - self.vision

    @property
    def whole(self) -> int:
        """What stays in 16 bits whatever the language model's matrices are in."""
        return self.total - self.linear


@dataclass(frozen=True, slots=True)
class Eye:
    """What sees: patches go in, tokens of the language come out."""

    width: int
    depth: int
    inner: int
    patch: int
    """pixels a side"""
    merge: int
    """patches a side that become one token"""
    frames: int
    """that become one"""
    gated: bool
    """its layers multiply two products of the inner width"""


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    family: str
    """`model_type` of its configuration"""
    parameters: Parameters
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    """how wide one is"""
    vocabulary: int
    eye: Eye
    text: SimpleNamespace = field(compare=False)
    vision: SimpleNamespace = field(compare=False)
    """both with the names that transformers gives them, for who counts operations"""
    stored: str = "none"
    """how its checkpoint is quantised"""
    source: str = ""

    @property
    def queries(self) -> int:
        return self.heads * self.head

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head

    @property
    def kv_bytes(self) -> int:
        """of one token, in 16 bits"""
        return 2 * 2 * self.layers * self.keys


FAMILIES = ("qwen2_5_vl", "qwen3_vl", "videochat2")
_VISION: Mapping[str, Mapping[str, Json]] = {
    "qwen2_5_vl": {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]},
    "qwen3_vl": {"patch_size": 16},
    "videochat2": {"patch_size": 16, "spatial_merge_size": 1, "temporal_patch_size": 1},
}
"""what a configuration may leave out"""


def require_family(name: str, config: Mapping[str, Json]) -> str:
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise UsageError(
            f"{name} is of the type {family!r}; plans are known for models of the types {', '.join(FAMILIES)}"
        )
    return family


def of(name: str, config: Mapping[str, Json], parameters: Parameters, **more: Any) -> Shape:
    """From a configuration as it lies beside weights: newer ones have the language model's part apart."""
    family = require_family(name, config)
    try:
        text = SimpleNamespace(**(config.get("text_config") or config))
        common: dict[str, Json] = {"in_channels": 3, "spatial_merge_size": 2, "temporal_patch_size": 2}
        seen = {**common, **_VISION[family], **config["vision_config"]}
        vision = SimpleNamespace(**{"out_hidden_size": text.hidden_size, **seen})
        wide = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return Shape(
            name,
            family,
            parameters,
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            inner=text.intermediate_size,
            heads=text.num_attention_heads,
            kv_heads=text.num_key_value_heads,
            head=wide,
            vocabulary=text.vocab_size,
            eye=Eye(
                vision.hidden_size,
                vision.depth,
                vision.intermediate_size,
                vision.patch_size,
                vision.spatial_merge_size,
                vision.temporal_patch_size,
                family == "qwen2_5_vl",
            ),
            text=text,
            vision=vision,
            **more,
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{name}: its configuration misses what a plan needs: {error}") from None
