"""How much a step computes of one sample, forward and backward: products of matrices alone, each as often as
the gradients need it. What checkpointing computes again is no progress, and does not count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from worker.engines.qwen_tower import Grid
from worker.training.settings import Training

Learns: TypeAlias = Literal["all", "adapters", "nothing"]


@dataclass(frozen=True, slots=True)
class Learning:
    """What of a Qwen-VL learns."""

    vision: Learns
    language: Learns
    head: Learns
    rank: int = 0

    @classmethod
    def of(cls, training: Training, head: Learns = "all") -> Learning:
        if training.method == "full":
            return cls("all", "all", "all")
        sees: Learns = "adapters" if training.lora.targets == "all" else "nothing"
        return cls(sees, "adapters", head, training.lora.rank)


def sample(config: Any, tokens: int, grid: Grid, outputs: int, learning: Learning) -> float:
    """`tokens`: those of the picture among them, `grid`: of the picture, in patches; `outputs`: numbers that
    are said of each token."""
    text = config.text_config
    way = _Way(learning.rank)
    _vision(way, config.vision_config, grid, learning.vision)
    way.flows |= learning.language == "all"  # the embeddings of words
    width = text.hidden_size
    head = getattr(text, "head_dim", None) or width // text.num_attention_heads
    asking, kept = text.num_attention_heads * head, text.num_key_value_heads * head
    for _ in range(text.num_hidden_layers):
        way.matrices(tokens, learning.language, (width, asking), (width, kept), (width, kept))
        way.look(2 * tokens**2 * asking)  # two products; a token sees those before it
        way.matrices(tokens, learning.language, (asking, width))
        way.matrices(tokens, learning.language, *((width, text.intermediate_size),) * 2)
        way.matrices(tokens, learning.language, (text.intermediate_size, width))
    way.matrices(tokens, learning.head, (width, outputs))
    return float(way.total)


def _vision(way: _Way, eye: Any, grid: Grid, learns: Learns) -> None:
    long, high, wide = grid
    patches, frame = long * high * wide, high * wide
    width, deep, unit = eye.hidden_size, eye.depth, eye.spatial_merge_size**2
    whole = getattr(eye, "fullatt_block_indexes", range(deep))
    window = min(frame, (getattr(eye, "window_size", 0) // eye.patch_size) ** 2)
    is_gated = hasattr(eye, "fullatt_block_indexes")
    also = getattr(eye, "deepstack_visual_indexes", ())
    entry = eye.in_channels * eye.temporal_patch_size * eye.patch_size**2
    way.matrices(patches, "all" if learns == "all" else "nothing", (entry, width))

    def merge() -> None:
        way.matrices(patches // unit, learns, (unit * width, unit * width))
        way.matrices(patches // unit, learns, (unit * width, eye.out_hidden_size))

    for at in range(deep):
        way.matrices(patches, learns, (width, 3 * width))
        way.look(4 * patches * (frame if at in whole else window) * width)
        way.matrices(patches, learns, (width, width))
        way.matrices(patches, learns, *((width, eye.intermediate_size),) * (1 + is_gated))
        way.matrices(patches, learns, (eye.intermediate_size, width))
        if at in also:
            merge()
    merge()


class _Way:
    """Through a model, from what goes in to what is said of it."""

    def __init__(self, rank: int) -> None:
        self.total = 0
        self.flows = False
        """gradients are asked for of what goes in here"""
        self._rank = rank

    def matrices(self, rows: int, learns: Learns, *shapes: tuple[int, int]) -> None:
        """Side by side: they are given the same."""
        for into, out in shapes:
            once = 2 * rows * into * out
            self.total += once * (1 + self.flows + (learns == "all"))
            if learns == "adapters":
                first, second = 2 * rows * into * self._rank, 2 * rows * self._rank * out
                self.total += first * (2 + self.flows) + second * 3
        self.flows |= learns != "nothing"

    def look(self, once: int) -> None:
        """Products of what was computed with itself: of both sides gradients are asked for."""
        self.total += once * (1 + 2 * self.flows)
