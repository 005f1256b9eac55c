"""A Qwen2.5-VL with a head for classes is trained in several ways: how fast, and in how much memory.

On a GPU the 7B's shape with random weights, whose values change nothing about speed; elsewhere a small one.
Each way is a process of its own, or two. The peer is Hugging Face's Trainer as its page shows it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests import tiny_models
from tests.bench.table import Figure, not_here, show
from tests.workers import ROOT

CLASSES = 101
PROMPT = "What is in this picture?"
LIMIT_S = 550
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    kernels: str = "sdpa"
    precision: str = "auto"
    checkpointing: bool = False
    method: str = "full"
    strategy: str = "auto"
    ranks: int = 1
    plain: bool = False
    """by the peer"""
    beside: str = ""
    """the way that it is compared with; empty: the first"""


@dataclass(frozen=True, slots=True)
class Scale:
    """What the machine can bear."""

    device: str
    pixels: int
    batch: int
    steps: int
    ways: Sequence[Way]


LITTLE = Scale(
    "cpu",
    pixels=112,
    batch=4,
    steps=12,
    ways=(
        Way("Hugging Face's Trainer, eager", "eager", "fp32", plain=True),
        Way("eager", "eager", "fp32"),
        Way("SDPA", precision="fp32"),
        Way("SDPA, bf16", precision="bf16", beside="SDPA"),
        Way("SDPA, gradient checkpointing", precision="fp32", checkpointing=True, beside="SDPA"),
        Way("LoRA", precision="fp32", method="lora", beside="SDPA"),
        Way("2 processes, DDP", precision="fp32", strategy="ddp", ranks=2, beside="SDPA"),
        Way("2 processes, ZeRO-2", precision="fp32", strategy="zero2", ranks=2, beside="2 processes, DDP"),
        Way("2 processes, FSDP2", precision="fp32", strategy="fsdp2", ranks=2, beside="2 processes, DDP"),
    ),
)
FULL = Scale(
    "cuda",
    pixels=448,
    batch=16,
    steps=16,
    ways=(
        Way(
            "Hugging Face's Trainer, LoRA, SDPA, bf16, checkpointing",
            "sdpa",
            "bf16",
            True,
            "lora",
            plain=True,
        ),
        Way("LoRA, SDPA, bf16, checkpointing", "sdpa", "bf16", True, "lora"),
        Way("LoRA, SDPA, bf16", "sdpa", "bf16", method="lora"),
        Way("LoRA, eager, bf16", "eager", "bf16", method="lora", beside="LoRA, SDPA, bf16"),
        Way(
            "LoRA, FlashAttention-2, bf16",
            "flash_attention_2",
            "bf16",
            method="lora",
            beside="LoRA, SDPA, bf16",
        ),
        Way("all of it, SDPA, bf16, checkpointing", "sdpa", "bf16", True),
        Way("all of it, DDP", "sdpa", "bf16", True, strategy="ddp", ranks=2),
        Way("all of it, ZeRO-2", "sdpa", "bf16", True, strategy="zero2", ranks=2, beside="all of it, DDP"),
        Way("all of it, FSDP2", "sdpa", "bf16", True, strategy="fsdp2", ranks=2, beside="all of it, DDP"),
    ),
)


def figures(scale: Scale, folder: Path) -> Iterator[Figure]:
    lay_out(scale, folder)
    who = "the 7B's shape" if scale.device == "cuda" else "a small model on a CPU"
    seen: dict[str, dict[str, Any]] = {}
    for way in scale.ways:
        name = f"{who}, {way.name}"
        if why := _lacks(scale, way):
            yield Figure(name, not_here(why))
            continue
        try:
            told = seen[way.name] = apart(scale, way, folder)
        except RuntimeError as error:
            yield Figure(name, not_here(error))
            continue
        yield Figure(name, _told(way, told, seen), "40 % MFU" if scale.device == "cuda" else "")
        if told.get("planned"):
            off = told["planned"] / told["peak"] - 1
            yield Figure(
                f"{name}: planned memory", f"{told['planned'] / 1e9:.1f} GB, {off:+.0%}", "within 15 %"
            )
        if told.get("stop_s"):
            yield Figure(
                f"{name}: told to stop, until its checkpoint is whole", f"{told['stop_s']:.1f} s", "30 s"
            )


def _told(way: Way, told: dict[str, Any], seen: dict[str, dict[str, Any]]) -> str:
    text = f"{told['samples_per_second']:.2f} samples/s, {told['peak'] / 1e9:.2f} GB a process"
    if isinstance(told.get("mfu"), float):
        text += f", {told['mfu']:.0%} MFU"
    beside = seen.get(way.beside) if way.beside else next(iter(seen.values()))
    if beside and beside is not told:
        speed, memory = (told[one] / beside[one] for one in ("samples_per_second", "peak"))
        text += (
            f": {speed:.2f} times the speed and {memory:.2f} times the memory of {way.beside or 'the first'}"
        )
    return text


def _lacks(scale: Scale, way: Way) -> str:
    if way.method != "full" and not find_spec("peft"):
        return "peft is not installed"
    if way.strategy == "zero2" and not find_spec("deepspeed"):
        return "deepspeed is not installed"
    if way.kernels == "flash_attention_2" and not find_spec("flash_attn"):
        return "FlashAttention-2 is not installed"
    if scale.device == "cuda" and way.ranks > 1:
        import torch

        if torch.cuda.device_count() < way.ranks:
            return f"{torch.cuda.device_count()} GPU"
    return ""


def lay_out(scale: Scale, folder: Path) -> None:
    shape = tiny_models.seven_billion() if scale.device == "cuda" else little()
    tiny_models.outline(folder / "model", shape)
    tiny_models.normalisation(folder / "model", "qwen2_5_vl")


def little() -> Any:
    """Large enough that its products count, and not python."""
    told = tiny_models.config("qwen2_5_vl").to_dict()
    text, eye = told["text_config"], told["vision_config"]
    text |= {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6}
    text["rope_parameters"] |= {"mrope_section": [8, 12, 12]}
    del text["layer_types"]
    eye |= {"hidden_size": 256, "intermediate_size": 512, "out_hidden_size": 256}
    from transformers import AutoConfig

    return AutoConfig.for_model(**told)


def apart(scale: Scale, way: Way, folder: Path) -> dict[str, Any]:
    """In processes of their own, which give all memory back."""
    command = [sys.executable]
    if way.ranks > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(way.ranks)]
    command += ["-m", "tests.bench.training", "--one", scale.device, json.dumps(asdict(way)), str(folder)]
    threads = {"OMP_NUM_THREADS": "1"} if scale.device == "cpu" else {}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **threads},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = [
            line for line in done.stderr.splitlines() if re.match(r"(\[rank\d+\]: )?\w*(Error|Exit)\b", line)
        ]
        raise RuntimeError((said or ["it failed"])[-1])
    found: dict[str, Any] = json.loads(lines[-1])
    return found


# in processes of their own


def one(scale: Scale, way: Way, folder: Path) -> dict[str, Any] | None:
    import torch

    from worker.classification.course import course
    from worker.classification.model import Reader
    from worker.training.flops import Learning

    reader = Reader.of(folder / "model", PROMPT, scale.pixels)
    rows = Samples(reader.side, scale.batch * scale.steps * way.ranks)
    torch.manual_seed(0)
    if scale.device == "cpu":
        _CLEAR.write_text("5")  # the highest mark begins anew
    elif (need := planned(folder, scale, way)) > (room := torch.cuda.mem_get_info()[0]):
        raise MemoryError(f"planned are {need / 1e9:.0f} GB, and the card has {room / 1e9:.0f}")
    before = 0 if scale.device == "cuda" else _kilobytes("VmRSS")
    made = model(folder / "model", scale, way)
    training = settings(scale, way)
    tests: Any = {"drawn": Samples(reader.side, way.ranks)}
    brought = course(made, reader, [rows], tests, Learning.of(training))  # type: ignore[list-item]
    brought = replace(brought, told=lambda _: {})  # of noise there is nothing to be told
    told = _plain(brought, scale, way) if way.plain else _ours(brought, scale, way, training)
    if told is None:
        return None
    if scale.device == "cuda":
        return {
            **told,
            "peak": torch.cuda.max_memory_allocated(),
            "planned": planned(folder, scale, way),
        }
    return {**told, "peak": (_kilobytes("VmHWM") - before) * 1024}


class Samples:
    """Pictures of noise, made where they are read."""

    def __init__(self, side: int, count: int) -> None:
        self._side, self._count = side, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> tuple[Any, int]:
        import numpy as np

        drawn = np.random.default_rng(at).integers(0, 256, (self._side, self._side, 3), np.uint8)
        return drawn, at % CLASSES


def model(folder: Path, scale: Scale, way: Way) -> Any:
    import torch
    from transformers import AutoConfig

    from worker.classification.model import HEAD, _kind
    from worker.training import adapters
    from worker.training.settings import Lora

    config = AutoConfig.from_pretrained(folder, attn_implementation=way.kernels)
    config.num_labels = CLASSES
    numbers = torch.bfloat16 if way.method != "full" and way.precision == "bf16" else torch.float32
    torch.set_default_dtype(numbers)
    with torch.device(scale.device):
        made = _kind(config.model_type)(config)
    torch.set_default_dtype(torch.float32)
    return adapters.attach(made, Lora(), HEAD) if way.method != "full" else made


def settings(scale: Scale, way: Way) -> Any:
    from worker.training.settings import Training

    return Training.model_validate(
        {
            "max_steps": 10 * scale.steps if way.ranks == 1 else scale.steps,
            "batch_size": scale.batch,
            "precision": way.precision,
            "gradient_checkpointing": way.checkpointing,
            "method": way.method,
            "strategy": way.strategy,
            "dataloader_num_workers": 4 if scale.device == "cuda" else 0,
            "save_steps": 10_000,
            "learning_rate": 1e-4,
        }
    )


def _ours(brought: Any, scale: Scale, way: Way, training: Any) -> dict[str, Any] | None:
    from worker.jobs.stopping import StopFlag
    from worker.jobs.workspace import Claim, Workspace
    from worker.queue.store import open_store
    from worker.tasks.task import Stopped
    from worker.training import core, record
    from worker.training.settings import Frequencies, Monitor

    every = Frequencies(training_log_freq=1000, eval_log_freq=10_000, perf_log_freq=scale.steps // 2)
    monitor, stop = Monitor(all_freq=every, tensorboard=False), StopFlag()
    with tempfile.TemporaryDirectory() as scratch:
        claim = Claim("bench", 1, lambda: True, lambda: True)
        store = open_store(f"memory://{uuid4().hex}")
        told_to: list[float] = []

        def say(told: Any) -> None:
            if way.ranks == 1 and told.get("step") == scale.steps and not told_to:
                told_to.append(time.perf_counter())
                stop.set("moved", 600.0)

        workspace = Workspace(store, claim, Path(scratch), 2, say, lambda: None)
        run = core.Run(workspace, stop, scale.device, "bench")
        try:
            if core.train(lambda: brought, training, monitor, run) is None:
                return None
        except Stopped:
            workspace.wait()
        ended = time.perf_counter()
        lines = record.read(Path(scratch) / "record" / record.METRICS)
    last = [line for line in lines if "perf/mfu" in line][-1]
    told = {name.removeprefix("perf/"): value for name, value in last.items()}
    return {**told, "stop_s": ended - told_to[0] if told_to else 0.0}


def _plain(brought: Any, scale: Scale, way: Way) -> dict[str, Any]:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    marks: list[float] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as scratch:
        Trainer(
            model=brought.model,
            args=TrainingArguments(
                output_dir=scratch,
                use_cpu=scale.device == "cpu",
                bf16=way.precision == "bf16",
                max_steps=scale.steps,
                per_device_train_batch_size=scale.batch,
                gradient_checkpointing=way.checkpointing,
                gradient_checkpointing_kwargs={"use_reentrant": False} if way.checkpointing else None,
                dataloader_num_workers=4 if scale.device == "cuda" else 0,
                learning_rate=1e-4,
                save_strategy="no",
                report_to="none",
                remove_unused_columns=False,
                label_names=["labels"],
                disable_tqdm=True,
            ),
            train_dataset=brought.train,
            data_collator=brought.collate,
            compute_loss_func=brought.loss,
            callbacks=[Watch()],
        ).train()
    half = len(marks) // 2
    return {"samples_per_second": scale.batch * (len(marks) - half) / (marks[-1] - marks[half - 1])}


def planned(folder: Path, scale: Scale, way: Way) -> float:
    """What torch sees of it: all but the context."""
    from worker.classification.model import Reader
    from worker.engines.device import Device
    from worker.planning import known, memory
    from worker.training import fitting, strategy

    reader = Reader.of(folder / "model", PROMPT, scale.pixels)
    high, wide = reader.grid[1:]
    lesson = memory.Lesson(scale.batch, len(reader.ids), high * wide, CLASSES, way.checkpointing)
    training = settings(scale, way)
    shared = strategy.chosen(training, way.ranks)
    card = Device(f"{scale.device}:0", "the bench's")
    items = fitting.needs(known.of_folder(folder / "model"), lesson, card, training, shared, way.ranks)
    return sum(items.values()) - memory.CONTEXT


def _kilobytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--one"]:
        device, way, folder = arguments[1:]
        scale = FULL if device == "cuda" else LITTLE
        if (told := one(scale, Way(**json.loads(way)), Path(folder))) is not None:
            print(json.dumps(told))  # noqa: T201
        return 0
    if not find_spec("torch") or not find_spec("accelerate"):
        print("training is not measured: pip install 'gpu-batch-worker[training]'")  # noqa: T201
        return 3
    import torch

    scale = FULL if torch.cuda.is_available() and "--tiny" not in arguments else LITTLE
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        show("training", figures(scale, Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
