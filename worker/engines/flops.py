"""How much a Qwen-VL computes until its first word, from its config: products of matrices alone."""

from __future__ import annotations

from typing import Any

from worker.engines.qwen_tower import Grid


def prefill(config: Any, tokens: int, grid: Grid) -> float:
    """`tokens`: of the whole prompt, the clip's among them; `grid`: of the clip, in patches."""
    return language(config.text_config, tokens) + vision(config.vision_config, grid)


def language(text: Any, tokens: int) -> float:
    """A token sees those before it: half of the square."""
    width, deep = text.hidden_size, text.num_hidden_layers
    head = getattr(text, "head_dim", None) or width // text.num_attention_heads
    asking, kept = text.num_attention_heads * head, text.num_key_value_heads * head
    weights = 2 * width * asking + 2 * width * kept + 3 * width * text.intermediate_size
    looks = 2 * tokens * asking  # two products, over half of the tokens
    return float(deep * tokens * (2 * weights + looks) + 2 * width * text.vocab_size)


def vision(eye: Any, grid: Grid) -> float:
    long, high, wide = grid
    patches, frame = long * high * wide, high * wide
    width, deep, unit = eye.hidden_size, eye.depth, eye.spatial_merge_size**2
    is_windowed = hasattr(eye, "fullatt_block_indexes")
    inner = (3 if is_windowed else 2) * width * eye.intermediate_size
    weights = deep * (4 * width * width + inner)
    window = min(frame, (getattr(eye, "window_size", 0) // eye.patch_size) ** 2)
    whole = len(eye.fullatt_block_indexes) if is_windowed else deep
    looks = 4 * width * (whole * frame + (deep - whole) * window)
    entry = eye.in_channels * eye.temporal_patch_size * eye.patch_size**2 * width
    mergers = 1 + len(getattr(eye, "deepstack_visual_indexes", ()))
    merged = mergers * (unit * width * (unit * width + eye.out_hidden_size)) / unit
    return float(patches * (2 * (weights + entry + merged) + looks))
