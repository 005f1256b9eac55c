"""How much vision language models compute until their first word: products of matrices alone."""

from __future__ import annotations

from typing import Any

from worker.engines.qwen_tower import Grid


def prefill(config: Any, tokens: int, *grids: Grid) -> float:
    """Of a Qwen-VL. `tokens`: of the whole prompt, what it sees among them; `grids`: of the clip, or of each
    picture, in patches."""
    return language(config.text_config, tokens) + sum(vision(config.vision_config, one) for one in grids)


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


def umt(encoder: Any, patches: int) -> float:
    """VideoChat2's vision tower, in which every patch of a tile's frames sees every other."""
    import torch

    entry = encoder.patch_embed.proj
    linears = [one for one in encoder.blocks.modules() if isinstance(one, torch.nn.Linear)]
    weights = entry.weight.numel() + sum(one.in_features * one.out_features for one in linears)
    looks = 4 * patches * entry.out_channels * len(encoder.blocks)
    return float(patches * (2 * weights + looks))


def qformer(bert: Any, patches: int, queries: int, words: int, out: int) -> float:
    """Its Q-Former: queries look at each other and at the words, in every second layer at the patches too,
    and become vectors as wide as `out`."""
    width, deep, tokens = bert.hidden_size, bert.num_hidden_layers, queries + words
    crossing = -(-deep // getattr(bert, "cross_attention_freq", 2))
    layer = tokens * (2 * (4 * width * width + 2 * width * bert.intermediate_size) + 4 * tokens * width)
    asked = queries * (2 * 2 * width * width + 4 * patches * width)
    seen = patches * 2 * 2 * bert.encoder_width * width
    return float(deep * layer + crossing * (asked + seen) + 2 * queries * width * out)
