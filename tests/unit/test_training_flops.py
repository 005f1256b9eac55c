"""What a step computes, worked out from the config, against what torch counts while it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny_models
from worker.classification import model
from worker.engines import flops as engine_flops
from worker.training import flops
from worker.training.course import Course
from worker.training.flops import Learning
from worker.training.settings import Lora, Training

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

CLASSES = ["cat", "dog", "fox"]
SIDE = {"qwen2_5_vl": 16 * 14, "qwen3_vl": 256}  # whole windows: 16 x 16 patches
METHODS = {
    "full": Training(),
    "lora": Training(method="lora", lora=Lora(rank=4)),
    "lora of all": Training(method="lora", lora=Lora(rank=4, targets="all")),
    "head": None,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_it_is_exactly_what_torch_counts(family: str, method: str, tmp_path: Path) -> None:
    training = METHODS[method]
    if training and training.method == "lora":
        pytest.importorskip("peft", reason="peft is not installed")
    base = tiny_models.checkpoint(tmp_path / "base", family)
    made = model.new(base, CLASSES, "cpu", training or Training())
    learning = Learning.of(training) if training else Learning("nothing", "nothing", "all")
    if training is None:
        made.model.requires_grad_(False)
    reader = model.Reader.of(base, "What is it?", SIDE[family])
    tokens, config = len(reader.ids), made.config
    computed = flops.sample(config, tokens, reader.grid, len(CLASSES), learning)

    made.set_attn_implementation("eager")  # torch does not count in its kernels for CPUs
    whole = counted(made, reader)
    text = config.text_config
    half = 2 * tokens**2 * text.num_attention_heads * 16 * text.num_hidden_layers
    looks = half * (1 if learning.language == "nothing" else 3)  # torch counts what no token sees
    assert computed == whole - looks

    Course(made, [], {}, dict, len, len, "", computed).compute_again()
    made.train()
    again = counted(made, reader) - whole
    forward = flops.sample(config, tokens, reader.grid, len(CLASSES), Learning(*["nothing"] * 3))
    assert 0 < again < forward + half if learning.language != "nothing" else again == 0


def counted(made: Any, reader: model.Reader) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    picture = np.zeros((reader.side, reader.side, 3), np.uint8)
    counter = FlopCounterMode(display=False)
    with counter:
        made(**reader.inputs([picture]), use_cache=False).logits.sum().backward()
    made.zero_grad()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_where_nothing_learns_it_is_a_forward_pass(family: str) -> None:
    config, grid = tiny_models.config(family), (2, 16, 16)
    words = 2 * config.text_config.hidden_size * config.text_config.vocab_size
    nothing = Learning("nothing", "nothing", "nothing")
    assert flops.sample(config, 200, grid, 0, nothing) == engine_flops.prefill(config, 200, grid) - words


def test_a_frozen_base_costs_about_two_thirds_of_one_that_learns() -> None:
    config = tiny_models.seven_billion()
    full, small = (
        flops.sample(config, 700, (1, 48, 48), 101, Learning.of(Training(method=method)))
        for method in ("full", "lora")
    )
    assert 0.55 < small / full < 0.67
