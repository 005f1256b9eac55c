"""How a model is loaded on which card, and why: decisions over descriptions of cards."""

from __future__ import annotations

import pytest

from worker.engines import attention, placing, precision, quantisation
from worker.engines.attention import Attention
from worker.engines.device import Device
from worker.engines.precision import Precision
from worker.engines.weights import Tensor
from worker.errors import MachineError, UsageError

GB = 10**9
CPU = Device("cpu", "CPU", bf16=True, free=8 * GB)
TURING = Device("cuda:0", "RTX 2080", (7, 5), False, 8 * GB, 7 * GB)
AMPERE = Device("cuda:0", "A800", (8, 0), True, 80 * GB, 79 * GB)
HOPPER = Device("cuda:0", "H100", (9, 0), True, 80 * GB, 79 * GB)
ALL = frozenset({"sdpa", "flash_attention_2"})


@pytest.mark.parametrize("card", [TURING, AMPERE, HOPPER])
@pytest.mark.parametrize("stored", ["BF16", "F16", "F32"])
def test_half_precision_is_the_default_on_every_card(card: Device, stored: str) -> None:
    assert precision.choose("auto", card, stored) == ("fp16", "the default")


@pytest.mark.parametrize(
    ("card", "stored", "chosen", "why"),
    [
        (HOPPER, "BF16", "bf16", "asked for"),
        (AMPERE, "BF16", "bf16", "asked for"),
        (AMPERE, "F16", "fp16", "bf16 was asked for, and the checkpoint was not trained in it but has F16"),
        (TURING, "BF16", "fp16", "bf16 was asked for, and RTX 2080 has none or emulates it"),
        (CPU, "F32", "bf16", "asked for"),
    ],
)
def test_bfloat16_needs_a_wish_a_card_and_a_checkpoint(
    card: Device, stored: str, chosen: str, why: str
) -> None:
    assert precision.choose("bf16", card, stored) == (chosen, why)


def test_a_cpu_computes_in_full_precision_unless_told() -> None:
    assert precision.choose("auto", CPU, "BF16") == ("fp32", "the default on a CPU")
    assert precision.choose("fp16", CPU, "BF16") == ("fp16", "asked for")


class Trials:
    """Of kinds of attention, some of which are broken here."""

    def __init__(self, *broken: str) -> None:
        self.broken, self.tried = broken, list[str]()

    def __call__(self, one: Attention, _device: Device, _precision: Precision) -> str | None:
        self.tried.append(one)
        return "undefined symbol" if one in self.broken else None


@pytest.mark.parametrize(
    ("card", "numbers", "knows", "broken", "chosen", "why"),
    [
        (HOPPER, "fp16", ALL, (), "flash_attention_2", "the fastest that works here"),
        (AMPERE, "bf16", ALL, (), "flash_attention_2", "the fastest that works here"),
        (TURING, "fp16", ALL, (), "sdpa", "it needs compute capability 8.0, and RTX 2080 has 7.5"),
        (CPU, "fp32", ALL, (), "sdpa", "not flash_attention_2: it needs a GPU"),
        (HOPPER, "fp32", ALL, (), "sdpa", "it computes in fp16 and bf16 only"),
        (HOPPER, "fp16", {"sdpa"}, (), "sdpa", "not flash_attention_2: the model does not know it"),
        (HOPPER, "fp16", ALL, ("flash_attention_2",), "sdpa", "not flash_attention_2: undefined symbol"),
        (HOPPER, "fp16", ALL, ("flash_attention_2", "sdpa"), "eager", "not sdpa: undefined symbol"),
        (HOPPER, "fp16", frozenset(), (), "eager", "not sdpa: the model does not know it"),
    ],
)
def test_the_fastest_attention_that_works_is_taken(
    card: Device, numbers: Precision, knows: frozenset[str], broken: tuple[str, ...], chosen: str, why: str
) -> None:
    one, said = attention.choose("auto", card, numbers, knows, Trials(*broken))
    assert one == chosen
    assert why in said


@pytest.mark.parametrize(
    ("wanted", "chosen"), [("flash", "flash_attention_2"), ("sdpa", "sdpa"), ("eager", "eager")]
)
def test_a_kind_of_attention_may_be_asked_for(wanted: attention.Wanted, chosen: str) -> None:
    trials = Trials()
    assert attention.choose(wanted, HOPPER, "fp16", ALL, trials) == (chosen, "asked for")
    assert trials.tried == [chosen]


def test_what_was_asked_for_in_vain_is_told() -> None:
    one, why = attention.choose("flash", TURING, "fp16", ALL, Trials())
    assert one == "sdpa"
    assert why.startswith("the fastest that works here; not flash_attention_2: it needs")


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
PACKED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int"}}},
}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True}


@pytest.mark.parametrize(
    ("told", "chosen"), [(AWQ, "awq"), (PACKED, "compressed-tensors"), (NF4, "bitsandbytes")]
)
def test_a_checkpoint_that_is_quantised_stays_so(told: dict[str, object], chosen: str) -> None:
    assert quantisation.choose("none", {"quantization_config": told}) == (chosen, "the checkpoint is so")
    assert quantisation.choose("nf4", {"quantization_config": told}) == (
        chosen,
        "the checkpoint is so; it is not made NF4",
    )


def packed(actorder: object) -> dict[str, object]:
    weights = {"num_bits": 4, "type": "int", "actorder": actorder}
    return {**PACKED, "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}


@pytest.mark.parametrize("actorder", ["group", "GROUP", "dynamic", True])
def test_groups_that_are_no_neighbours_are_refused(actorder: object) -> None:
    with pytest.raises(UsageError, match="take one with actorder weight"):
        quantisation.choose("none", {"quantization_config": packed(actorder)})


@pytest.mark.parametrize("actorder", ["weight", "static", False, None])
def test_groups_of_neighbours_are_read_in_whatever_order_they_were_rounded(actorder: object) -> None:
    told = packed(actorder)
    assert quantisation.choose("none", {"quantization_config": told})[0] == "compressed-tensors"


def test_four_bits_are_made_only_when_asked_for() -> None:
    assert quantisation.choose("none", {}) == ("none", "the default")
    assert quantisation.choose("nf4", {}) == ("nf4", "asked for")


@pytest.mark.parametrize(
    "told",
    [
        {**AWQ, "version": "gemv"},
        {**AWQ, "bits": 3},
        {**PACKED, "format": "float-quantized"},
        {**PACKED, "config_groups": {"g": {"weights": {"num_bits": 8}}}},
        {
            **PACKED,
            "config_groups": {"g": {"weights": {"num_bits": 4}, "input_activations": {"num_bits": 8}}},
        },
        {"quant_method": "bitsandbytes", "load_in_8bit": True},
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "fp8"},
    ],
)
def test_other_ways_to_quantise_are_refused_in_one_line(told: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"quantised so \\(quant_method {told['quant_method']}"):
        quantisation.choose("none", {"quantization_config": told})


def tensor(name: str, kind: str, *shape: int) -> Tensor:
    count = 1
    for one in shape:
        count *= one
    return Tensor(name, kind, shape, 0, count * (4 if kind in ("I32", "F32") else 2))


def test_the_memory_of_weights_is_told_by_their_headers() -> None:
    layer = tensor("model.layers.0.mlp.up_proj.weight", "BF16", 1000, 1000)
    others = [
        tensor("model.visual.blocks.0.mlp.weight", "BF16", 100, 100),
        tensor("model.embed_tokens.weight", "BF16", 100, 100),
        tensor("model.norm.weight", "BF16", 10_000),
        tensor("lm_head.weight", "BF16", 100, 100),
    ]
    assert quantisation.size([layer], "none", "fp16") == 2_000_000
    assert quantisation.size([layer], "none", "fp32") == 4_000_000
    assert quantisation.size([layer], "nf4", "fp16") == pytest.approx(515_900, abs=100)
    assert quantisation.size(others, "nf4", "fp16") == 4 * 20_000
    assert quantisation.size([tensor("a.qweight", "I32", 100, 10)], "awq", "fp32") == 4000


def cards(*free: float) -> list[Device]:
    return [Device(f"cuda:{n}", "A10", (8, 6), True, 24 * GB, round(one * GB)) for n, one in enumerate(free)]


@pytest.mark.parametrize(
    ("need", "free", "used"),
    [
        (16, (23, 23), [0]),
        (16, (10, 23), [1]),
        (30, (23, 23), [0, 1]),
        (21, (23,), None),
        (45, (23, 23), None),
    ],
)
def test_one_card_is_used_if_it_holds_the_model_else_all(
    need: int, free: tuple[float, ...], used: list[int] | None
) -> None:
    there = cards(*free)
    if used is None:
        with pytest.raises(MachineError, match=f"the model in fp16 needs {need}.0 GB for its weights"):
            placing.choose(need * GB, there, "the model in fp16")
    else:
        assert placing.choose(need * GB, there, "it").devices == [there[n] for n in used]


def test_no_card_is_asked_more_than_needed() -> None:
    first, _ = there = cards(23, 23)
    left = iter(there)
    assert placing.choose(GB, left, "it").options == {"device_map": {"": "cuda:0"}}
    assert next(left) is not first


def test_several_cards_keep_room_to_work() -> None:
    options = placing.choose(30 * GB, cards(23, 20), "it").options
    assert options == {"device_map": "auto", "max_memory": {0: 20_600_000_000, 1: 17_600_000_000}}


def test_want_of_memory_says_what_is_needed_and_what_is_free() -> None:
    with pytest.raises(MachineError) as refused:
        placing.choose(16 * GB, [TURING], "Qwen in fp16")
    assert "Qwen in fp16 needs 16.0 GB" in str(refused.value)
    assert "free are cuda:0 (RTX 2080) 7.0 GB" in str(refused.value)


def test_where_nobody_knows_the_memory_the_model_is_tried() -> None:
    assert placing.choose(99 * GB, [Device("npu:0", "npu")], "it").devices[0].place == "npu:0"
