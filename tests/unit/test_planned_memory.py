"""What a plan says lies in a GPU's memory, against figures of others and against what torch keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests import tiny_models
from worker.hardware import gpus
from worker.planning import known, memory, nets, pcb, seconds, shape
from worker.planning.memory import Form, Lesson, Question
from worker.planning.shape import Parameters, Shape

BOARDS = known.find("qwen3-vl-32b")


def gb(items: memory.Items) -> float:
    return sum(items.values()) / 1e9


@pytest.mark.parametrize(("form", "known_gb"), [("none", 66.7), ("nf4", 20.4), ("awq", 20.5)])
def test_the_weights_of_32b_are_what_others_found(form: Form, known_gb: float) -> None:
    assert gb(memory.weights(BOARDS, form)) == pytest.approx(known_gb, abs=0.06)


@pytest.mark.parametrize(("batch", "tokens", "known_gb"), [(1, 600, 25.5), (4, 1024, 34.0), (8, 1024, 44.5)])
def test_training_32b_in_four_bits_takes_what_others_found(batch: int, tokens: int, known_gb: float) -> None:
    items = memory.training(BOARDS, "qlora", Lesson(batch, tokens, patches=1600), rank=16)
    assert gb(items) == pytest.approx(known_gb, rel=0.1)


def test_adapters_and_the_cache_of_32b_are_what_others_counted() -> None:
    assert memory.adapters(BOARDS, rank=16) == 134_217_728
    assert BOARDS.kv_bytes == 256 * 1024


def test_a_picture_and_a_step_of_decoding_are_what_others_counted() -> None:
    _, tokens = pcb.seen_of(BOARDS, pcb.BoardParams(pixels=640, words=1))
    assert tokens == 400 + 1
    a800 = gpus.find("NVIDIA A800-SXM4-80GB")
    assert a800
    assert seconds.language_bytes(BOARDS, "awq") / (a800.bandwidth * 1e9) == pytest.approx(8.7e-3, rel=0.01)


def test_a_small_net_has_its_weights_and_biases() -> None:
    assert nets.parameters([784, 512, 256, 10]) == 785 * 512 + 513 * 256 + 257 * 10


def test_cards_share_what_zero_shares() -> None:
    seven = known.find("qwen2.5-vl-7b")
    lesson = Lesson(8, 364, 1296, classes=101)
    count = memory.learnt(seven, lesson)
    two, three = (
        memory.training(seven, "full", lesson, cards=8, sharding=sharding) for sharding in ("zero2", "zero3")
    )
    assert two["weights"] == 2 * count
    assert two["gradients"] + two["optimiser"] == (2 + 12) * count / 8
    assert three["weights"] == 2 * count / 8
    assert memory.training(seven, "full", lesson, cards=8, sharding="zero2", offload=True)["optimiser"] == 0


def saved(model: Any, **given: Any) -> int:
    """Bytes that a forward pass keeps for the gradients."""
    kept: dict[int, torch.Tensor] = {}

    def keep(one: torch.Tensor) -> torch.Tensor:
        kept[one.untyped_storage().data_ptr()] = one
        return one

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one):
        model.to(torch.bfloat16).train()(**given)
    own = {one.untyped_storage().data_ptr() for one in model.parameters()}
    return sum(one.untyped_storage().nbytes() for at, one in kept.items() if at not in own)


def text(layers: int) -> tuple[Any, Shape]:
    from transformers import Qwen3VLTextConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel

    torch.manual_seed(0)
    config = Qwen3VLTextConfig(
        vocab_size=tiny_models.VOCABULARY,
        hidden_size=512,
        intermediate_size=2560,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=64,
    )
    seen = {"hidden_size": 64, "depth": 2, "intermediate_size": 128}
    told = {"model_type": "qwen3_vl", "text_config": config.to_dict(), "vision_config": seen}
    return Qwen3VLTextModel(config), shape.of("small", told, Parameters(0, 0, 0, 0, 0))


@pytest.mark.parametrize("again", [False, True])
def test_a_layer_keeps_for_its_gradients_what_torch_says(again: bool) -> None:
    """Two layers more, in the proportions of the 32B model: all else stays the same."""
    given = torch.randn(2, 192, 512, dtype=torch.bfloat16, requires_grad=True)
    kept = {}
    for layers in (2, 4):
        model, small = text(layers)
        if again:
            model.gradient_checkpointing_enable()
        kept[layers] = saved(model, inputs_embeds=given, use_cache=False)
    measured = (kept[4] - kept[2]) / 2 / (2 * 192)
    planned = memory.HALF * small.hidden if again else memory.layer(small)
    assert planned == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_layer_that_sees_keeps_for_its_gradients_what_torch_says(family: str) -> None:
    """In the proportions of the real ones."""
    from transformers import AutoConfig, AutoModel

    kept = {}
    for depth in (2, 4):
        told = tiny_models.config(family).vision_config.to_dict()
        inner = 684 if family == "qwen2_5_vl" else 957
        told |= {"depth": depth, "hidden_size": 256, "intermediate_size": inner, "num_heads": 4}
        eye = AutoModel.from_config(AutoConfig.for_model(**told))
        values = 3 * told["temporal_patch_size"] * told["patch_size"] ** 2
        seen = torch.randn(256, values, dtype=torch.bfloat16, requires_grad=True)
        kept[depth] = saved(eye, hidden_states=seen, grid_thw=torch.tensor([(1, 16, 16)]))
    config = {"model_type": family, "text_config": text(2)[0].config.to_dict(), "vision_config": told}
    small = shape.of("small", config, Parameters(0, 0, 0, 0, 0))
    measured = (kept[4] - kept[2]) / 2 / 256
    assert memory.eye_layer(small) == pytest.approx(measured, rel=0.1)


def test_the_cache_of_a_prompt_is_what_transformers_keeps() -> None:
    model, small = text(2)
    given = torch.randn(1, 96, 512, dtype=torch.bfloat16)
    with torch.no_grad():
        cache = model.to(torch.bfloat16)(inputs_embeds=given, use_cache=True).past_key_values
    kept = sum(one.nbytes for layer in cache.layers for one in (layer.keys, layer.values))
    assert small.kv_bytes * 96 == kept


def test_a_batch_costs_its_cache_and_nothing_is_paid_twice() -> None:
    asked = Question(tokens=2904, answer=512, patches=9216)
    one, two = (memory.answering(BOARDS, "awq", asked, batch) for batch in (1, 2))
    assert two["cache of keys and values"] - one["cache of keys and values"] == BOARDS.kv_bytes * 3584
    assert two["activations"] == one["activations"]
