"""What people write to have a model trained: one YAML file, and DeepSpeed's own JSON."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models
from worker.classification.settings import Classification, require_sets
from worker.engines.device import Device
from worker.errors import ItemError, MachineError, UnfitError
from worker.planning import known, memory
from worker.planning.memory import Lesson
from worker.planning.seconds import Seen
from worker.planning.shape import Parameters
from worker.planning.shape import of as shape_of
from worker.training import adapters, fitting, strategy
from worker.training.batches import kept
from worker.training.fitting import Amount
from worker.training.settings import DeepSpeed, Lora, Training, read

pytest.importorskip("yaml")

REFERENCE = """
model:
  pretrained_name: "Qwen/Qwen2.5-VL-7B-Instruct"
  num_labels: 101
training:
  num_epochs: 10
  learning_rate: 1e-5
  batch_size: 8
  gradient_accumulation_steps: 4
  warmup_steps: 100
  gradient_checkpointing: false
  memory_efficient_attention: true
  dataloader_num_workers: 16
  output_dir: outputs/complete_training
monitor:
  all_freq:
    training_log_freq: 10
    eval_log_freq: 50
    perf_log_freq: 10
"""
ZERO2 = {
    "train_batch_size": 256,
    "train_micro_batch_size_per_gpu": 8,
    "gradient_accumulation_steps": 4,
    "gradient_clipping": 1.0,
    "steps_per_print": 10,
    "wall_clock_breakdown": False,
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "weight_decay": "auto"}},
    "zero_optimization": {
        "stage": 2,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_scatter": True,
        "allgather_bucket_size": 5e8,
        "reduce_bucket_size": 5e8,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
    },
    "bf16": {"enabled": True},
    "fp16": {"enabled": False},
}


def test_the_reference_loads_and_what_has_no_effect_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(REFERENCE)
    found = read(file, Classification)
    assert found.training.learning_rate == 1e-5  # text, as YAML 1.1 has it
    assert (found.model.num_labels, found.training.warmup_steps) == (101, 100)
    assert found.monitor.all_freq.eval_log_freq == 50
    assert caplog.messages == ["train.yaml: training.output_dir is not known here and has no effect"]
    assert require_sets(found, "data/food101")["food101"].test == Path("data/food101/test")
    with pytest.raises(ItemError, match="nothing to learn from"):
        require_sets(found, "")


def test_what_is_wrong_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    for text, said in (
        ("model: {pretrained_name: x}\ntraining: {batch_size: 0}", "training.batch_size: .*greater than"),
        ("training: {}", "model: Field required"),
        ("- a", "no mapping"),
        ("a: [", "cannot be read"),
    ):
        file.write_text(text)
        with pytest.raises(ItemError, match=said):
            read(file, Classification)


def test_deepspeeds_word_on_batches_counts_and_a_step_sees_as_much_on_one_card(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text(json.dumps(ZERO2))
    found = DeepSpeed.read(file)
    assert (found.stage, found.offload, found.precision) == (2, True, "bf16")
    training = found.over(Training(batch_size=2))
    assert (training.batch_size, training.precision) == (8, "bf16")
    assert found.accumulated(training, devices=8).gradient_accumulation_steps == 4
    assert found.accumulated(training, devices=1).gradient_accumulation_steps == 32
    with pytest.raises(UnfitError, match="256 is no multiple of 8 on 5 devices"):
        found.accumulated(training, devices=5)
    with pytest.raises(ItemError, match="256 is no multiple of 7"):
        found.accumulated(Training(batch_size=7), devices=1)


def test_off_loaded_parameters_need_the_third_stage(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}))
    with pytest.raises(ItemError, match="needs ZeRO-3"):
        DeepSpeed.read(file)


def require(device: Device, folder: Path, **said: Any) -> None:
    lesson = Lesson(1, 600, 2304, 101, said.get("gradient_checkpointing", False))
    amount = Amount(Seen((1, 48, 48)), 10 * 75_750, 50 * 25_250)
    fitting.require(known.find("qwen2.5-vl-7b"), lesson, device, folder, Training(**said), amount)


def test_what_cannot_fit_is_refused_before_anything_is_loaded_with_what_would(tmp_path: Path) -> None:
    def card(gigabytes: float) -> Device:
        return Device("cuda:0", "A card", total=round(gigabytes * 1e9))

    for device, said, told in (
        (card(80), {}, r"GB to be trained \(full\), .* with method: lora under training: it would need 2"),
        (card(22), {"method": "lora"}, "with gradient_checkpointing: true under training"),
        (card(20), {}, "with method: lora, gradient_checkpointing: true under training"),
        (card(12), {}, r"with method: qlora, gradient_checkpointing: true under training: it would need"),
        (card(12), {"method": "lora", "gradient_checkpointing": True}, "with method: qlora under"),
        (card(4), {}, "take a larger card or a smaller model"),
        (Device("cpu", "CPU", free=20 * 10**9), {"method": "lora"}, "CPU has room for 20.0: with method: q"),
    ):
        with pytest.raises(MachineError, match=told):
            require(device, tmp_path, **said)


def test_before_the_start_it_is_told_in_a_line_what_it_takes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    card = Device("cuda:0", "NVIDIA A100-SXM4-80GB", total=80 * 10**9)
    require(card, tmp_path, method="lora", gradient_checkpointing=True)
    require(Device("cpu", "CPU"), tmp_path, method="qlora")
    first, second = caplog.messages
    assert first.startswith("qwen2.5-vl-7b, lora: ")
    assert "GB of memory, one sample at a time (weights: language 13." in first
    assert re.search(r"a checkpoint takes 0\.\d+ GB of disk, free are", first)
    assert re.search(r"it takes [\d.]+ (h|days) to [\d.]+ days, evaluations [\d.]+ h", first)
    assert second.endswith("how long it takes on CPU is not known beforehand")


def test_adapters_are_counted_as_they_are_made() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("peft", reason="peft is not installed")
    from transformers import AutoModelForImageTextToText

    for family in tiny_models.FAMILIES:
        for targets in ("language", "all"):
            config = tiny_models.config(family)
            with torch.device("meta"):
                model = AutoModelForImageTextToText.from_config(config)
            adapters.attach(model, Lora(rank=4, targets=targets))
            counted = sum(one.numel() for one in adapters.trained(model).values())
            shape = shape_of("tiny", json.loads(config.to_json_string()), Parameters(0, 0, 0, 0, 0))
            lesson = Lesson(1, 10, 16)
            assert memory.small(shape, lesson, 4, sees=targets == "all") == counted


def test_what_fits_when_it_is_shared_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    lesson, shape = Lesson(1, 600, 1024, 101), known.find("qwen2.5-vl-7b")
    small = Device("cuda:0", "A small card", total=80 * 10**9)
    with pytest.raises(MachineError, match="with strategy: zero2 under training: it would need"):
        fitting.require(shape, lesson, small, tmp_path, Training())
    shared = fitting.needs(shape, lesson, small, Training(strategy="zero2"), "zero2", 8)
    assert sum(shared.values()) < 0.9 * 80e9


def test_a_step_sees_as_many_samples_on_another_number_of_cards() -> None:
    training = Training(batch_size=8, gradient_accumulation_steps=4)
    for devices, together, then in ((2, 64, (8, 4)), (1, 64, (8, 8)), (4, 64, (8, 2)), (16, 64, (4, 1))):
        found = kept(training, devices, together)
        assert (found.batch_size, found.gradient_accumulation_steps) == then
    assert kept(training, 3, 0) is training  # nobody wrote down how many
    with pytest.raises(MachineError, match="64 samples, which 3 devices cannot share"):
        kept(training, 3, 64)


def test_the_strategy_is_what_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    for settings, processes, chosen in (
        (Training(), 1, "alone"),
        (Training(), 8, "ddp"),
        (Training(offload_optimizer=True), 8, "zero2"),
        (Training(strategy="fsdp2", offload_optimizer=True), 8, "fsdp2"),
    ):
        assert strategy.chosen(settings, processes) == chosen
    assert not caplog.messages
    assert strategy.chosen(Training(strategy="zero2"), 1) == "alone"
    assert caplog.messages == ["one process has nobody to share with: zero2 has no effect"]
    with pytest.raises(ItemError, match="not ddp"):
        strategy.chosen(Training(strategy="ddp", offload_optimizer=True), 8)


def test_deepspeeds_own_keys_reach_it_and_what_has_no_effect_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "ds.json"
    optimizer = {"type": "AdamW", "params": {"lr": 1}}
    file.write_text(json.dumps({**ZERO2, "steps_per_print": 7, "optimizer": optimizer}))
    found = DeepSpeed.read(file)
    training = found.accumulated(found.over(Training(max_grad_norm=0.5)), devices=2)
    assert (training.strategy, training.offload_optimizer) == ("zero2", True)
    config = strategy.deepspeed("zero2", training, "bf16", 2)
    assert config["zero_optimization"]["stage"] == 2
    assert config["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert (config["steps_per_print"], config["gradient_clipping"]) == (7, 0.5)
    assert (config["train_batch_size"], config["gradient_accumulation_steps"]) == (256, 16)
    assert (config["bf16"]["enabled"], config["fp16"]["enabled"]) == (True, False)
    assert "optimizer" not in config
    assert caplog.messages == [
        "DeepSpeed's gradient_accumulation_steps has no effect: here it is 16",
        "DeepSpeed's gradient_clipping has no effect: here it is 0.5",
        "DeepSpeed's optimizer has no effect: training: has it",
    ]


def test_without_deepspeed_it_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match="DS_BUILD_OPS=0 pip install deepspeed --no-build-isolation"):
        strategy.arguments("zero2", Training(), "bf16", "cuda", 2)
