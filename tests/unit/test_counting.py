"""How many numbers models have: those that plans know by name, and those in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests import tiny_models
from worker.engines.weights import Tensor
from worker.errors import UsageError
from worker.planning import counting, detection, known
from worker.planning.shape import Parameters

PUBLISHED = {
    "qwen2.5-vl-3b": 3_754_622_976,
    "qwen2.5-vl-7b": 8_292_166_656,
    "qwen2.5-vl-32b": 33_452_718_336,
    "qwen2.5-vl-72b": 73_410_777_344,
    "qwen3-vl-2b": 2_127_532_032,
    "qwen3-vl-4b": 4_437_815_808,
    "qwen3-vl-8b": 8_767_123_696,
    "qwen3-vl-32b": 33_357_390_064,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_known_model_is_counted_again_without_its_weights(name: str) -> None:
    told = known.read(name)
    assert counting.of_config(told["config"]) == Parameters(**told["parameters"])
    assert known.find(name).parameters.total == PUBLISHED[name]


def test_videochat2_is_counted_by_tensors_of_its_makers_names() -> None:
    from transformers import BertConfig, MistralConfig, MistralForCausalLM

    from worker.engines import shims

    told = known.read("videochat2-hd")
    seen = told["config"]["vision_config"]
    with shims.lent(), torch.device("meta"):
        from tests.standin_videochat2 import modeling_standin as makers

        eye = makers.Vision(
            makers.StandinConfig(
                vision_width=seen["hidden_size"], vision_depth=seen["depth"], vision_heads=seen["num_heads"]
            )
        )
        bert = BertConfig(vocab_size=30522 + 1)  # one word more than bert-base-uncased
        bert.encoder_width = seen["hidden_size"]
        asks = makers.QFormer(bert)
        speaks = MistralForCausalLM(MistralConfig(**told["config"]["text_config"]))
    queries = (makers.QUERIES + makers.MORE_QUERIES) * bert.hidden_size
    leads = bert.hidden_size * speaks.config.hidden_size + speaks.config.hidden_size
    between = 2 * seen["hidden_size"] + queries + leads
    sees = sum(one.numel() for part in (eye, asks) for one in part.parameters()) + between
    counted = counting.of_model(speaks)
    assert Parameters(**told["parameters"]).vision == sees
    assert Parameters(**told["parameters"]).language == counted.total


def test_the_detector_is_counted_by_its_makers() -> None:
    makers = pytest.importorskip("ultralytics.nn.tasks", reason="ultralytics is an extra of nobody here")
    model = makers.DetectionModel("yolo11n.yaml", verbose=False)
    assert sum(one.numel() for one in model.parameters()) == detection.PARAMETERS


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_folder_is_counted_by_its_headers_and_without_weights_by_its_config(
    tmp_path: Path, family: str
) -> None:
    model = tiny_models.vision_language(family)
    model.save_pretrained(tmp_path)
    found = known.find(str(tmp_path))
    assert found.parameters == counting.of_model(model)
    (tmp_path / "model.safetensors").unlink()
    assert known.find(str(tmp_path)).parameters == found.parameters


def test_packed_numbers_are_counted_as_what_they_stand_for() -> None:
    at = "model.language_model.layers.0.mlp.up_proj"
    packed = [(f"{at}.qweight", "I32", (64, 16)), (f"{at}.scales", "F16", (1, 128))]
    tensors = [Tensor(name, kind, shape, 0, 0) for name, kind, shape in packed]
    assert counting.of_headers(tensors).linear == 64 * 128


@pytest.mark.parametrize("name", ["Qwen/Qwen3-VL-32B-Instruct", "qwen3-vl-32b", "Qwen3-VL-32B"])
def test_a_model_is_found_by_the_names_people_give_it(name: str) -> None:
    assert known.find(name).name == "qwen3-vl-32b"


def test_an_unknown_model_names_the_nearest_and_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean qwen3-vl-32b\?"):
        known.find("qwen3-vl-33b")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UsageError, match="is of the type 'llama'"):
        known.find(str(tmp_path))
