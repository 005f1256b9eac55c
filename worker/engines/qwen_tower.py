"""The part of a Qwen-VL that sees: patches of a clip in, tokens of the language out, nothing waited for.

What depends on the size of a clip alone is worked out once; and windows of one length are attended to all at
once, where transformers without FlashAttention calls a kernel for each of them, hundreds of times a layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from worker.engines.carrying import there

if TYPE_CHECKING:
    from torch import Tensor

Grid: TypeAlias = tuple[int, int, int]
SIZES = 256
"""of clips that are known at once"""
SEGMENTS = "flash_of_segments"
"""the name must hold "flash": then the whole sequence comes with where its parts begin"""


class Tower:
    def __init__(self, visual: Any) -> None:
        self._visual = visual
        self._planned = lru_cache(maxsize=SIZES)(self._plan)
        if visual.config._attn_implementation == "sdpa":
            from transformers import AttentionInterface

            AttentionInterface.register(SEGMENTS, attend)
            visual.config._attn_implementation = SEGMENTS
        visual.patch_embed.proj = _flat(visual.patch_embed.proj)

    def see(self, patches: Tensor, grid: Grid) -> tuple[Tensor, list[Tensor]]:
        """→ the clip's tokens, and what is added to them behind the first layers of the language model."""
        plan = dict(self._planned(grid))
        seen = self._visual(patches.to(self._visual.dtype), **plan)
        return seen.pooler_output, list(getattr(seen, "deepstack_features", None) or [])

    def see_all(self, patches: Sequence[Tensor], grids: Sequence[Grid]) -> tuple[Tensor, Sequence[Tensor]]:
        """Of several, one behind the other."""
        import torch

        seen = [self.see(*one) for one in zip(patches, grids, strict=True)]
        if len(seen) == 1:
            return seen[0]
        deeper = zip(*(layers for _, layers in seen), strict=True)
        return torch.cat([tokens for tokens, _ in seen]), [torch.cat(layer) for layer in deeper]

    def _plan(self, grid: Grid) -> dict[str, Any]:
        import torch
        from transformers import vision_utils

        visual = self._visual
        size = torch.tensor([grid])
        plan: dict[str, Any] = {
            "grid_thw": size,
            "position_ids": vision_utils.get_vision_position_ids(size, visual.spatial_merge_size),
            "cu_seqlens": (ends := vision_utils.get_vision_cu_seqlens(size)),
            "max_seqlen": self._longest(ends),
        }
        if hasattr(visual, "window_size"):
            index, ends = vision_utils.get_vision_window_index(
                size, visual.spatial_merge_size, visual.window_size, visual.patch_size
            )
            plan |= {"window_index": index, "cu_window_seqlens": ends}
            plan["max_window_seqlen"] = self._longest(ends)
        if hasattr(visual, "num_grid_per_side"):
            taps, weights = vision_utils.get_vision_interpolation_indices_and_weights(
                size,
                num_grid_per_side=visual.num_grid_per_side,
                mode=visual.interpolation_mode,
                align_corners=visual.interpolation_align_corners,
                spatial_merge_size=visual.spatial_merge_size,
            )
            plan |= {"interp_indices": taps, "interp_weights": weights}
        device = visual.patch_embed.proj.weight.device
        return {
            name: there(one, device) if isinstance(one, torch.Tensor) and name != "grid_thw" else one
            for name, one in plan.items()
        }

    def _longest(self, ends: Tensor) -> Any:
        """What comes to the attention as the longest length; ours is told all of them in its place."""
        lengths = ends.diff().tolist()
        if self._visual.config._attn_implementation == SEGMENTS:
            return Segments(lengths, self._visual.patch_embed.proj.weight.device)
        return max(lengths)


class Segments:
    """Parts of a sequence that do not look at each other, by their length."""

    def __init__(self, lengths: Sequence[int], device: Any) -> None:
        import torch

        starts: defaultdict[int, list[int]] = defaultdict(list)
        at = 0
        for length in lengths:
            starts[length].append(at)
            at += length
        self.even = lengths[0] if len(starts) == 1 else 0
        """all are so long"""
        self.groups = [
            there(torch.tensor(begun)[:, None] + torch.arange(length), device)
            for length, begun in starts.items()
            if not self.even
        ]
        """indices, parts of one length together: [parts, length]"""


def attend(
    module: Any,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    *,
    scaling: float,
    max_length_q: Segments,
    **_: Any,
) -> tuple[Tensor, None]:
    """[1, heads, sequence, width] → [1, sequence, heads, width]"""
    import torch

    attention = torch.nn.functional.scaled_dot_product_attention
    three = query[0], key[0], value[0]
    heads, length, width = three[0].shape
    if max_length_q.even:
        q, k, v = (one.view(heads, -1, max_length_q.even, width).transpose(0, 1) for one in three)
        seen = attention(q, k, v, scale=scaling)
        return seen.transpose(1, 2).reshape(1, length, heads, width), None
    out = query.new_empty(length, heads, width)
    for group in max_length_q.groups:
        q, k, v = (one[:, group].transpose(0, 1) for one in three)
        out[group] = attention(q, k, v, scale=scaling).transpose(1, 2)
    return out[None], None


def _flat(convolution: Any) -> Any:
    """A convolution over patches that do not overlap is a product of matrices, and those are fast."""
    import torch

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = convolution.weight, convolution.bias

        def forward(self, patches: Tensor) -> Tensor:
            return torch.nn.functional.linear(patches.flatten(1), self.weight.flatten(1), self.bias)

    return Flat()


def add_by_place(language: Any) -> None:
    """What is added behind the first layers finds its places by their numbers, which come as
    `visual_pos_masks`: to find them in a mask, three times a prompt, is to wait for the device."""

    def added(hidden: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        places = places.to(hidden.device)
        return hidden.index_copy(1, places, hidden.index_select(1, places) + seen.to(hidden))

    if hasattr(language, "_deepstack_process"):
        language._deepstack_process = added
