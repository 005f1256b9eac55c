"""A Qwen2.5-VL learns to inspect boards: how fast beside the plain recipe of Hugging Face, peft and its
Trainer, at the same batch, in how much memory, and whether a small one learns.

On a GPU the 7B's shape by QLoRA, with random weights, whose values change nothing about speed; elsewhere a
small one by LoRA. Each way is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests import board_lessons, tiny_models
from tests.bench.table import Figure, not_here, show
from tests.bench.training import _CLEAR, _kilobytes, little
from tests.workers import ROOT

LIMIT_S = 550
_TAUGHT_STEPS, _TAUGHT_BATCH = 300, 8


@dataclass(frozen=True, slots=True)
class Scale:
    who: str
    side: int
    """pixels of a board"""
    batch: int
    steps: int
    method: str
    precision: str
    clock: Callable[[], float]
    """on a CPU that others share, the seconds that the process had of it"""


LITTLE = Scale("a small model on a CPU, LoRA, CPU seconds", 160, 2, 8, "lora", "fp32", time.process_time)
FULL = Scale("the 7B's shape, QLoRA", 640, 4, 16, "qlora", "bf16", time.perf_counter)
_DEVICE = {LITTLE: "cpu", FULL: "cuda"}


def figures(scale: Scale, folder: Path) -> Iterator[Figure]:
    yield from compared(scale, folder)
    yield from learnt(folder / "taught")


def compared(scale: Scale, folder: Path) -> Iterator[Figure]:
    lay_out(scale, folder)
    aim = "1.3 times" if scale is FULL else ""
    try:
        plain, ours = (apart(scale, way, folder) for way in ("plain", "ours"))
    except RuntimeError as error:
        yield Figure(scale.who, not_here(error), aim)
        return
    for name, told in (("Hugging Face's peft and Trainer", plain), ("ours", ours)):
        memory = f"{told['peak'] / 1e9:.2f} GB"
        yield Figure(f"{scale.who}, {name}", f"{told['samples_per_second']:.2f} samples/s, {memory}")
    speed, less = (ours[one] / plain[one] for one in ("samples_per_second", "peak"))
    yield Figure(f"{scale.who}, ours beside it", f"{speed:.2f} times the speed, {less:.2f} the memory", aim)
    if "planned" in ours:
        off = ours["planned"] / ours["peak"] - 1
        figure = f"{ours['planned'] / 1e9:.1f} GB, {off:+.0%}"
        yield Figure(f"{scale.who}: planned memory", figure, "within 15 %")


def learnt(folder: Path) -> Iterator[Figure]:
    """40 drawn boards and their templates; 8 others and theirs are asked about."""
    _wide(folder)
    file = board_lessons.write(folder, "qwen2_5_vl", boards=40, held=8, side=112, most=1, dropout=0)
    told = file.read_text()
    for before, after in (
        ("max_steps: 10", f"max_steps: {_TAUGHT_STEPS}\n  gradient_checkpointing: false\n  warmup_steps: 10"),
        ("batch_size: 2", f"batch_size: {_TAUGHT_BATCH}"),
        ("accumulation_steps: 2", "accumulation_steps: 1"),
        ("rank: 4, alpha: 16, dropout: 0.1", "rank: 32, alpha: 64, dropout: 0"),
        ("learning_rate: 1e-2", "learning_rate: 3e-3"),
        ("save_steps: 3", "save_steps: 1000"),
        ("log_freq: 2, eval_log_freq: 4", f"log_freq: 10, eval_log_freq: {_TAUGHT_STEPS}"),
        ("boards: 4, max_tokens: 12", "boards: 16, max_tokens: 48"),
    ):
        assert before in told, before
        told = told.replace(before, after)
    file.write_text(told)
    began = time.perf_counter()
    lines = trained(file, folder / "scratch")
    took = time.perf_counter() - began
    losses = [line["training/loss"] for line in lines if "training/loss" in line]
    last = [line for line in lines if "eval/loss" in line][-1]
    yield Figure(
        f"a tiny model, {_TAUGHT_STEPS} steps of {_TAUGHT_BATCH} drawn boards",
        f"loss {losses[0]:.2f} → {losses[-1]:.2f}, on others {last['eval/loss']:.2f}; "
        f"{last['eval/readable']:.0%} of its answers right in form, F {last['eval/f1']:.0%}; {took:.0f} s",
    )


def _wide(folder: Path) -> None:
    tiny_models.checkpoint(folder / "base", "qwen2_5_vl", wide=0.15)


def trained(
    file: Path, scratch: Path, steps: int | None = None, made: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """It ends with so many steps; `made`: each of them."""
    from worker.inspector.teaching import Teaching
    from worker.jobs.stopping import StopFlag
    from worker.jobs.workspace import Claim, Workspace
    from worker.queue.store import open_store
    from worker.tasks.task import Stopped
    from worker.training import core, record

    scratch.mkdir()
    stop = StopFlag()

    last = 0

    def say(told: Any) -> None:
        nonlocal last
        if told.get("step", 0) > last:
            last = told["step"]
            made()
        if steps and last == steps:
            stop.set("moved", 600.0)

    claim = Claim("bench", 1, lambda: True, lambda: True)
    workspace = Workspace(open_store(f"memory://{uuid4().hex}"), claim, scratch, 2, say, lambda: None)
    teaching = Teaching.of(file, "", "", "cuda:0" if _on_a_gpu() else "cpu")
    settings = teaching.settings
    run = core.Run(workspace, stop, teaching.device, "bench")
    with suppress(Stopped):
        core.train(teaching.course, settings.training, settings.monitor, run)
    workspace.wait()
    return record.read(scratch / record.RECORD / record.METRICS)


def lay_out(scale: Scale, folder: Path) -> None:
    base = folder / "base"
    tiny_models.outline(base, tiny_models.seven_billion() if scale is FULL else little())
    tiny_models.normalisation(base, "qwen2_5_vl")
    tiny_models.random_model(base, _DEVICE[scale]).save_pretrained(base)
    count = scale.batch * scale.steps
    file = board_lessons.write(folder, "qwen2_5_vl", boards=count, held=1, side=scale.side, most=6)
    file.write_text(
        f"""
model: {{name: base, use_4bit: {str(scale.method == "qlora").lower()}}}
data: {{train: train.jsonl, val: val.jsonl, pictures: boards}}
training:
  max_steps: {10 * scale.steps}
  batch_size: {scale.batch}
  gradient_accumulation_steps: 1
  precision: {scale.precision}
  dataloader_num_workers: {4 if scale is FULL else 0}
  save_steps: 10000
validation: {{boards: 0}}
monitor:
  tensorboard: false
  all_freq: {{training_log_freq: 1000, eval_log_freq: 10000, perf_log_freq: {scale.steps // 2}}}
"""
    )


def apart(scale: Scale, way: str, folder: Path) -> dict[str, Any]:
    """In a process of its own, which gives all memory back."""
    threads = {"OMP_NUM_THREADS": "1"} if scale is LITTLE else {}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.pcb_train", "--one", way, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **threads},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it failed"])[-1])
    found: dict[str, Any] = json.loads(lines[-1])
    return found


# in processes of their own


def one(scale: Scale, way: str, folder: Path) -> dict[str, Any]:
    import torch
    import transformers  # noqa: F401 - what it takes is no memory of a training

    if scale is LITTLE:
        _CLEAR.write_text("5")  # the highest mark begins anew
    before = 0 if scale is FULL else _kilobytes("VmRSS")
    if way == "plain":
        told = plain(scale, folder)
    else:
        marks: list[float] = []
        scratch = folder / f"scratch-{uuid4().hex}"
        trained(folder / "config.yaml", scratch, scale.steps, lambda: marks.append(scale.clock()))
        told = pace(scale, marks)
    if scale is FULL:
        return {**told, "peak": torch.cuda.max_memory_allocated(), "planned": planned(scale, folder)}
    return {**told, "peak": (_kilobytes("VmHWM") - before) * 1024}


def plain(scale: Scale, folder: Path) -> dict[str, Any]:
    """As their page shows it: all of a model's own ways, and the loss that it works out itself. What it is
    given to read and to see is made by our code, which is faster than its processors."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import (
        AutoModelForImageTextToText,
        BitsAndBytesConfig,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from worker.inspector.reading import IGNORED, Reader
    from worker.inspector.samples import Samples, Shown
    from worker.inspector.teaching import Teaching

    teaching = Teaching.of(folder / "config.yaml", "", "", "cpu")
    reader: Reader = teaching.reader
    four = {"quantization_config": BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["model.visual", "lm_head"],
    )}  # fmt: skip
    made: Any = AutoModelForImageTextToText.from_pretrained(
        folder / "base",
        dtype=torch.bfloat16 if scale is FULL else torch.float32,
        attn_implementation="sdpa",
        device_map={"": 0} if scale is FULL else None,
        **(four if scale is FULL else {}),
    )
    if scale is FULL:
        made = prepare_model_for_kbit_training(made, gradient_checkpointing_kwargs={"use_reentrant": False})
    beside = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    made = get_peft_model(made, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=beside))
    made.enable_input_require_grads()
    marks: list[float] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(scale.clock())

    def collate(shown: list[Shown]) -> dict[str, Any]:
        inputs = dict(reader.learn(shown))
        said, ids = inputs.pop("labels"), inputs["input_ids"]
        del inputs["logits_to_keep"], inputs["position_ids"]
        labels = torch.full_like(ids, IGNORED)
        labels[:, -said.shape[1] :] = said
        picture = reader.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        mask = inputs.get("attention_mask", torch.ones_like(ids))
        return {
            **inputs,
            "labels": labels,
            "attention_mask": mask,
            "mm_token_type_ids": (ids == picture).int(),
        }

    with tempfile.TemporaryDirectory() as scratch:
        Trainer(
            model=made,
            args=TrainingArguments(
                output_dir=scratch,
                use_cpu=scale is LITTLE,
                bf16=scale is FULL,
                max_steps=scale.steps,
                per_device_train_batch_size=scale.batch,
                gradient_checkpointing=True,
                gradient_checkpointing_kwargs={"use_reentrant": False},
                dataloader_num_workers=4 if scale is FULL else 0,
                learning_rate=1e-4,
                save_strategy="no",
                report_to="none",
                remove_unused_columns=False,
                disable_tqdm=True,
            ),
            train_dataset=Samples(teaching.train, 42),
            data_collator=collate,
            callbacks=[Watch()],
        ).train()
    return pace(scale, marks)


def pace(scale: Scale, marks: list[float]) -> dict[str, Any]:
    """Of the second half of the steps."""
    half = len(marks) // 2
    return {"samples_per_second": scale.batch * (len(marks) - half) / (marks[-1] - marks[half - 1])}


def planned(scale: Scale, folder: Path) -> float:
    """What torch sees of it: all but the context."""
    from worker.engines.device import Device
    from worker.inspector.teaching import Teaching
    from worker.planning import known, memory
    from worker.training import fitting

    teaching = Teaching.of(folder / "config.yaml", "", "", "cpu")
    tokens, patches = max(map(teaching.reader.length, teaching.train))
    lesson = memory.Lesson(scale.batch, tokens, patches)
    items = fitting.needs(
        known.of_folder(folder / "base"), lesson, Device("cuda:0", "the bench's"), teaching.settings.training
    )
    return sum(items.values()) - memory.CONTEXT


def _on_a_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def main(arguments: list[str]) -> int:
    missing = [name for name in ("torch", "accelerate", "peft") if not find_spec(name)]
    if missing:
        print(f"pcb_train is not measured: {missing[0]} is not installed")  # noqa: T201
        return 3
    scale = FULL if _on_a_gpu() and "--tiny" not in arguments else LITTLE
    if arguments[:1] == ["--one"]:
        print(json.dumps(one(scale, arguments[1], Path(arguments[2]))))  # noqa: T201
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        show("pcb_train", figures(scale, Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
