"""What prefill computes, worked out from the config, against what torch counts."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests import tiny_models
from worker.engines import flops


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
