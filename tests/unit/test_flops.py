"""What prefill computes, worked out from the config, against what torch counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests import tiny_models
from worker.engines import flops
from worker.hardware import gpus


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_it_is_what_torch_counts(family: str) -> None:
    model = tiny_models.vision_language(family)
    grid, words = (4, 16, 24), 60
    tokens = 4 * 8 * 12 + words
    model.set_attn_implementation("eager")  # torch does not count in its kernels for CPUs
    vision = model.config.vision_config
    patches = torch.zeros(4 * 16 * 24, 3 * vision.temporal_patch_size * vision.patch_size**2)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model.model.visual(patches, grid_thw=torch.tensor([grid]))
        hidden = model.model.language_model(
            inputs_embeds=torch.zeros(1, tokens, 64), position_ids=torch.arange(tokens)[None]
        ).last_hidden_state
        model.lm_head(hidden[:, -1])
    counted = counter.get_total_flops()
    looks = 2 * tokens**2 * 64 * 3  # torch counts the whole square of what a token sees, and it sees half
    assert flops.prefill(model.config, tokens, grid) == pytest.approx(counted - looks, rel=0.02)


def test_seven_billion_are_what_they_are_called() -> None:
    from transformers import Qwen2_5_VLTextConfig

    text = Qwen2_5_VLTextConfig(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
    )
    assert flops.language(text, 2400) / 2400 / 2 == pytest.approx(6.6e9, rel=0.05)


@pytest.mark.parametrize(
    ("told", "bandwidth", "flops_"),
    [
        ("NVIDIA H100 80GB HBM3", 3350, 989.5e12),
        ("NVIDIA H100 PCIe", 2039, 756.5e12),
        ("NVIDIA H200", 4800, 989.5e12),
        ("NVIDIA A100-SXM4-80GB", 2039, 312e12),
        ("NVIDIA A100 80GB PCIe", 1935, 312e12),
        ("NVIDIA A100-SXM4-40GB", 1555, 312e12),
        ("NVIDIA A100-PCIE-40GB", 1555, 312e12),
        ("NVIDIA A800-SXM4-80GB", 2039, 312e12),
        ("NVIDIA A800 80GB PCIe", 1935, 312e12),
        ("NVIDIA GeForce RTX 2080", 448, 40.3e12),
        ("Tesla T4", 320, 65e12),
        ("Tesla V100-SXM2-32GB", 900, 125e12),
        ("NVIDIA A10", 600, 125e12),
        ("NVIDIA L4", 300, 121e12),
    ],
)
def test_a_card_is_known_by_what_its_driver_calls_it(told: str, bandwidth: float, flops_: float) -> None:
    gpu = gpus.find(told)
    assert gpu
    assert (gpu.bandwidth, gpu.flops) == (bandwidth, pytest.approx(flops_))


@pytest.mark.parametrize("told", ["NVIDIA GeForce RTX 2080 Ti", "NVIDIA A10G", "NVIDIA L40S", "Radeon", ""])
def test_of_another_card_nothing_is_said(told: str) -> None:
    assert gpus.find(told) is None


def test_only_newer_cards_have_bf16() -> None:
    assert {gpu.name for gpu in gpus.TABLE if not gpu.bf16} == {
        gpu.name for gpu in gpus.TABLE if any(old in gpu.name for old in ("V100", "T4", "2080"))
    }
    assert np.all([gpu.source for gpu in gpus.TABLE])
