"""A program of its own: does this kind of attention run on this device? Its last words say why not.

attention.py runs it by its path, so it imports nothing of the worker."""

from __future__ import annotations

import sys
from typing import Any

import torch


def flash_attention_2(states: Any) -> Any:
    from flash_attn import flash_attn_func, flash_attn_varlen_func
    from transformers.utils import is_flash_attn_2_available

    if not is_flash_attn_2_available():
        raise ImportError("transformers does not take this flash_attn")
    ends = torch.tensor([0, 16, 32], dtype=torch.int32, device=states.device)
    rows = states.flatten(0, 1)
    flash_attn_varlen_func(rows, rows, rows, ends, ends, 16, 16, causal=True)
    return flash_attn_func(states, states, states, causal=True)


def sdpa(states: Any) -> Any:
    rows = states.transpose(1, 2)
    return torch.nn.functional.scaled_dot_product_attention(rows, rows, rows, is_causal=True)


def main(kind: str, device: str, precision: str) -> None:
    states = torch.randn(2, 16, 4, 64).to(device, getattr(torch, precision))
    answer = {"flash_attention_2": flash_attention_2, "sdpa": sdpa}[kind](states)
    if not answer.isfinite().all().item():  # and waits for the kernel
        raise ArithmeticError(f"{kind} gives numbers that are none")


if __name__ == "__main__":
    main(*sys.argv[1:])
