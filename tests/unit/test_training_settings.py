"""What people write to have a model trained: one YAML file, and DeepSpeed's own JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker.classification.settings import Classification, require_sets
from worker.engines.device import Device
from worker.errors import ItemError, MachineError
from worker.planning import known
from worker.planning.memory import Lesson
from worker.training import fitting
from worker.training.settings import DeepSpeed, Training, read

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
    with pytest.raises(ItemError, match="256 is no multiple of 8 on 5 devices"):
        found.accumulated(training, devices=5)


def test_off_loaded_parameters_need_the_third_stage(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}))
    with pytest.raises(ItemError, match="needs ZeRO-3"):
        DeepSpeed.read(file)


def test_what_cannot_fit_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    lesson = Lesson(1, 600, 1024, 101)
    small = Device("cuda:0", "A small card", total=80 * 10**9)
    with pytest.raises(MachineError, match="GB to be trained in full"):
        fitting.require(known.find("qwen2.5-vl-7b"), lesson, small, tmp_path)
