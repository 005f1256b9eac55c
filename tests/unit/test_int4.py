"""Checkpoints of four bits: taken apart as those who packed them say, and as good as four bits can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models

torch = pytest.importorskip("torch", exc_type=ImportError)
pytest.importorskip("transformers", reason="the extra vlm is not installed")

from worker.engines.choice import Choice  # noqa: E402
from worker.engines.int4 import AwqLinear, Int4Linear, PackedLinear  # noqa: E402
from worker.engines.loading import load  # noqa: E402
from worker.errors import UsageError  # noqa: E402

GROUP = 32
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""which of eight columns AutoAWQ puts first, second … into an int32"""


def rounded(weight: Any) -> tuple[Any, Any, Any]:
    """Plain rounding to four bits, by groups of a row: numbers, zeros, scales."""
    groups = weight.float().reshape(weight.shape[0], -1, GROUP)
    low, high = groups.amin(2), groups.amax(2)
    scales = ((high - low) / 15).clamp(min=1e-8)
    zeros = (-low / scales).round().clamp(0, 15)
    numbers = (groups / scales[..., None] + zeros[..., None]).round().clamp(0, 15)
    return numbers.reshape(weight.shape).int(), zeros.int(), scales.to(weight.dtype)


def dense(numbers: Any, zeros: Any, scales: Any) -> Any:
    groups = numbers.reshape(*zeros.shape, GROUP) - zeros[..., None]
    return (groups * scales[..., None]).reshape(numbers.shape)


def packed_as_awq(columns: Any) -> Any:
    packed = torch.zeros(columns.shape[0], columns.shape[1] // 8, dtype=torch.int32)
    for at, column in enumerate(AWQ_ORDER):
        packed |= columns[:, column::8].int() << (4 * at)
    return packed


def is_quantised(name: str) -> bool:
    return "layers." in name and name.endswith("_proj.weight")


def awq_checkpoint(folder: Path, dense_folder: Path) -> Any:
    """The same model in the layout of AutoAWQ; returns what its weights are now worth, by name."""
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    tensors, worth = {}, {}
    for name, weight in load_file(dense_folder / "model.safetensors").items():
        if not is_quantised(name):
            tensors[name] = weight
            continue
        numbers, zeros, scales = rounded(weight)
        worth[name] = dense(numbers, zeros, scales)
        at = name.removesuffix("weight")
        tensors[f"{at}qweight"] = packed_as_awq(numbers.T)
        tensors[f"{at}qzeros"] = packed_as_awq(zeros.T)
        tensors[f"{at}scales"] = scales.T.contiguous()
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((dense_folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "awq",
        "bits": 4,
        "group_size": GROUP,
        "version": "gemm",
        "zero_point": True,
        "modules_to_not_convert": ["visual"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    return worth


def logits(model: Any) -> Any:
    torch.manual_seed(1)
    with torch.inference_mode():
        return model(input_ids=torch.randint(0, 200, (2, 12))).logits


def opened(folder: Path) -> Any:
    choice = Choice("qwen", folder.name, "tree:", folder)
    return load(choice, "cpu", architectures="AutoModelForImageTextToText").model


def cosine(one: Any, other: Any) -> float:
    return float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKER_ATTENTION", "eager")


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_checkpoint_of_autoawq_is_worth_its_rounded_weights(family: str, tmp_path: Path) -> None:
    whole = tiny_models.checkpoint(tmp_path / "whole", family, wide=0.04)
    worth = awq_checkpoint(tmp_path / "awq", whole)
    model, reference = opened(tmp_path / "awq"), opened(whole)
    linears = {name for name, one in model.named_modules() if isinstance(one, Int4Linear)}
    assert len(linears) == len(worth) == 21
    assert not any("visual" in name for name in linears)
    full = logits(reference)
    for name, weight in reference.named_parameters():
        if is_quantised(name):
            (known,) = [one for key, one in worth.items() if name.endswith(key.partition(".")[2])]
            weight.copy_(known)
    torch.testing.assert_close(logits(model), logits(reference), rtol=1e-4, atol=1e-4)
    assert cosine(logits(model), full) > 0.98


def test_a_checkpoint_of_compressed_tensors_is_worth_what_that_library_says(tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        apply_quantization_config,
    )

    how = QuantizationArgs(num_bits=4, type="int", symmetric=False, strategy="group", group_size=GROUP)
    scheme = QuantizationScheme(targets=["Linear"], weights=how, format="pack-quantized")
    config = QuantizationConfig(
        config_groups={"group_0": scheme},
        ignore=["re:.*visual.*", "lm_head"],
        format="pack-quantized",
        quantization_status="frozen",
    )
    made = tiny_models.vision_language("qwen2_5_vl", wide=0.04)
    apply_quantization_config(made, config)
    for module in made.modules():
        if hasattr(module, "quantization_scheme"):
            _, zeros, scales = rounded(module.weight.data)
            module.weight_scale.data = scales
            module.weight_zero_point.data = (zeros - 8).to(module.weight_zero_point.dtype)
    library = ModelCompressor(quantization_config=config)
    library.compress_model(made)
    made.save_pretrained(tmp_path / "packed")
    library.update_config(str(tmp_path / "packed"))

    model = opened(tmp_path / "packed")
    assert sum(isinstance(one, PackedLinear) for one in model.modules()) == 21
    assert cosine(logits(model), logits(tiny_models.vision_language("qwen2_5_vl", wide=0.04))) > 0.98
    library.decompress_model(made)
    torch.testing.assert_close(logits(model), logits(made), rtol=1e-4, atol=1e-4)


def test_a_table_of_groups_is_refused_whatever_its_configuration_says(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = tiny_models.checkpoint(tmp_path / "whole", "qwen2_5_vl")
    tensors = load_file(whole / "model.safetensors")
    name = next(one for one in tensors if is_quantised(one)).removesuffix("weight")
    rows, columns = tensors.pop(f"{name}weight").shape
    tensors[f"{name}weight_packed"] = torch.zeros(rows, columns // 8, dtype=torch.int32)
    tensors[f"{name}weight_scale"] = torch.ones(rows, columns // GROUP)
    tensors[f"{name}weight_g_idx"] = torch.zeros(columns, dtype=torch.int32)
    save_file(tensors, whole / "model.safetensors", {"format": "pt"})
    config = json.loads((whole / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4}}},
    }
    (whole / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="weight_g_idx"):
        opened(whole)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
def test_a_layer_is_multiplied_in_its_own_precision(kind: str) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 48, dtype=getattr(torch, kind))
    numbers, zeros, scales = rounded(linear.weight.data)
    held = {"qweight": packed_as_awq(numbers.T), "qzeros": packed_as_awq(zeros.T), "scales": scales.T}
    layer = AwqLinear(linear, {name: tuple(one.shape) for name, one in held.items()})
    layer.load_state_dict({**held, "bias": linear.bias})
    layer.settle()
    rows = torch.randn(3, 64, dtype=linear.weight.dtype)
    assert layer(rows).dtype == linear.weight.dtype
    expected = rows.float() @ dense(numbers, zeros, scales.float()).T + linear.bias.float()
    close = {"float16": 1e-2, "bfloat16": 6e-2, "float32": 1e-5}[kind]
    torch.testing.assert_close(layer(rows).float(), expected, rtol=close, atol=close)
    assert set(layer.state_dict()) == {"packed", "zeros", "scales", "bias"}
