"""Loading onto a real card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models

torch = pytest.importorskip("torch", exc_type=ImportError)
pytest.importorskip("transformers", reason="the extra vlm is not installed")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine shows torch no GPU")

from worker.engines import attention  # noqa: E402
from worker.engines.choice import Choice  # noqa: E402
from worker.engines.device import look  # noqa: E402
from worker.engines.int4 import AwqLinear  # noqa: E402
from worker.engines.loading import Loaded, load  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path / "cache"))
    return tiny_models.checkpoint(tmp_path / "model", "qwen2_5_vl", wide=0.04)


def opened(folder: Path, **how: Any) -> Loaded:
    choice = Choice("qwen", folder.name, "tree:", folder)
    return load(choice, "cuda", architectures="AutoModelForImageTextToText", **how)


def logits(model: Any) -> Any:
    ids = torch.arange(24, device=model.device).view(2, 12)
    with torch.inference_mode():
        return model(input_ids=ids).logits.float().cpu()


def test_half_precision_on_a_card_is_near_the_cpu(folder: Path) -> None:
    loaded = opened(folder)
    assert (loaded.about["precision"], loaded.about["precision_why"]) == ("fp16", "the default")
    assert {one.device.type for one in loaded.model.parameters()} == {"cuda"}
    choice = Choice("qwen", "model", "tree:", folder)
    on_cpu = load(choice, "cpu", architectures="AutoModelForImageTextToText").model
    near = torch.nn.functional.cosine_similarity(logits(loaded.model), logits(on_cpu), dim=-1)
    assert near.min() > 0.999


def test_what_the_probe_says_is_what_happens(folder: Path) -> None:
    (card, *_) = look("cuda")
    loaded = opened(folder)
    assert loaded.about["attention"] != "eager", loaded.about["attention_why"]
    if attention.works("flash_attention_2", card, "fp16") is None and card.capability >= (8, 0):
        assert loaded.about["attention"] == "flash_attention_2"
    assert logits(loaded.model).isfinite().all()


def test_four_bits_load_onto_a_card(folder: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    loaded = opened(folder, quantise="nf4")
    assert logits(loaded.model).isfinite().all()


def test_a_layer_of_four_bits_can_be_captured_in_a_graph() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(128, 64, dtype=torch.float16, device="cuda")
    shapes = {"qweight": (128, 8), "qzeros": (4, 8), "scales": (4, 64)}
    layer = AwqLinear(linear, shapes)
    for name in ("qweight", "qzeros"):
        getattr(layer, name).copy_(torch.randint(0, 2**31 - 1, shapes[name], dtype=torch.int32))
    layer.scales.fill_(0.01)
    layer.settle()
    rows = torch.randn(3, 128, dtype=torch.float16, device="cuda")
    with torch.inference_mode():
        expected = layer(rows)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = layer(rows)
        graph.replay()
        torch.cuda.synchronize()
    torch.testing.assert_close(captured, expected)
