"""How the tokens of a prompt look at those before them, where FlashAttention has no kernel.

The other fast kernel of torch wants as many heads of keys as of queries. transformers lets torch repeat them,
and then that kernel is passed by: what is left writes every score of every head into memory, twice
(2.6 GB for a layer of Qwen2.5-VL-7B and 3,400 tokens). Here they are repeated before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

REPEATED = "sdpa_of_repeated_heads"
_AMPERE = (8, 0)


def prompts(chosen: str, kind: Any, device: Any) -> str:
    """The attention that reads prompts where this one was chosen, in numbers of this kind."""
    import torch

    if chosen != "sdpa" or device.type != "cuda":
        return chosen
    has_flash = torch.cuda.get_device_capability(device) >= _AMPERE and kind != torch.float32
    return chosen if has_flash else repeated()


def steps(chosen: str) -> str:
    """The attention of a step: FlashAttention knows no mask of ours, and sdpa heeds it."""
    return "sdpa" if "flash" in chosen else chosen


def without_plans() -> None:
    """Hopper prefers cuDNN's attention, which makes a plan for each new length of a prompt: that takes up to
    half a second, and attention is some hundredths of what a prompt costs."""
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def repeated() -> str:
    from transformers import AttentionInterface

    AttentionInterface.register(REPEATED, attend)
    return REPEATED


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - a prompt is read whole, and needs none
    *,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """[1, heads, tokens, width] → [1, tokens, heads, width]"""
    import torch

    key, value = (one.repeat_interleave(module.num_key_value_groups, 1) for one in (key, value))
    seen = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    return seen.transpose(1, 2).contiguous(), None
