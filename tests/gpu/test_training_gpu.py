"""A training on a real card: its numbers, its kernels, its memory, and how soon it stops."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests import lessons

torch = pytest.importorskip("torch", exc_type=ImportError)
pytest.importorskip("accelerate", reason="the extra training is not installed")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine shows torch no GPU")

from tests.bench import training as bench  # noqa: E402
from tests.unit.test_training import Job, losses  # noqa: E402
from tests.workers import answers, finish, worker  # noqa: E402
from worker.classification.teaching import Teaching  # noqa: E402
from worker.engines.device import look  # noqa: E402
from worker.items import Answer  # noqa: E402
from worker.tasks.task import Stopped  # noqa: E402
from worker.training import core, record  # noqa: E402
from worker.training.core import Run, Trained  # noqa: E402


class OnCard(Job):
    def __init__(self, file: Path, scratch: Path) -> None:
        super().__init__(file, scratch)
        self.teaching = Teaching.of(file, "", "", "cuda")

    def learn(self, stop_at: int = 0) -> Trained:
        workspace, settings = self.workspace(), self.teaching.settings
        progress = workspace.progress

        def progressed(at: int, *given: Any, **figures: float) -> None:
            progress(at, *given, **figures)
            if at == stop_at:
                self.stop.set("moved", 30.0)

        workspace.progress = progressed  # type: ignore[method-assign]
        run = Run(workspace, self.stop, "cuda", "run")
        try:
            done = core.train(
                lambda: self.made(self.teaching.course()), settings.training, settings.monitor, run
            )
        except Stopped:
            workspace.wait()
            raise
        assert done
        return done


def lesson(folder: Path, training: str) -> Path:
    file = lessons.write(folder, dropout=0.0)
    file.write_text(file.read_text().replace("training:\n", f"training:\n  {training}\n"))
    return file


@pytest.mark.parametrize("training", ["precision: bf16", "precision: fp16", "method: lora", "method: qlora"])
def test_it_learns_in_what_the_card_has(training: str, tmp_path: Path) -> None:
    if training.endswith("bf16") and not next(look("cuda")).bf16:
        pytest.skip("this card has no bf16")
    if training.endswith("qlora"):
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    done = OnCard(lesson(tmp_path / "lesson", training), tmp_path).learn()
    assert min(losses(done)) < losses(done)[0]
    lines = record.read(dict(done.record.files())[record.METRICS])
    assert max(one.get("perf/gpu_memory_gb", 0.0) for one in lines) > 0


def test_a_batch_is_found_by_what_the_driver_saw(tmp_path: Path) -> None:
    file = lesson(tmp_path / "lesson", "effective_batch: 8")
    text = file.read_text().replace("batch_size: 4", "batch_size: auto")
    file.write_text(text.replace("  gradient_accumulation_steps: 2\n", ""))
    done = OnCard(file, tmp_path).learn()
    assert done.record.standing.batch == 8
    assert done.record.standing.card == next(look("cuda")).name


def test_the_kernels_are_those_that_were_tried_and_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    job = OnCard(lesson(tmp_path / "lesson", "precision: auto"), tmp_path)
    kernels = job.teaching.course().model.config._attn_implementation
    assert kernels in ("flash_attention_2", "sdpa")
    assert len([one for one in caplog.messages if kernels in one]) == 1


def test_told_to_stop_its_checkpoint_is_whole_soon(tmp_path: Path) -> None:
    job = OnCard(lesson(tmp_path / "lesson", "method: lora"), tmp_path)
    began = time.monotonic()
    with pytest.raises(Stopped):
        job.learn(stop_at=3)
    assert time.monotonic() - began < 30 + 120, "with loading"
    assert job.last()[0] == 3


@pytest.mark.parametrize("name", ["LoRA, SDPA, bf16, checkpointing", "LoRA, SDPA, bf16"])
def test_seven_billion_take_the_memory_that_was_planned(name: str, tmp_path: Path) -> None:
    way = next(one for one in bench.FULL.ways if one.name == name)
    bench.lay_out(bench.FULL, tmp_path)
    if bench.planned(tmp_path, bench.FULL, way) > torch.cuda.mem_get_info()[0]:
        pytest.skip("this card has too little memory")
    told = bench.apart(bench.FULL, way, tmp_path)
    assert told["planned"] == pytest.approx(told["peak"], rel=0.15)
    assert 0 < told["stop_s"] < 30


def test_two_cards_train_one_model(tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip(f"needs 2 GPUs for NCCL, and there is {torch.cuda.device_count()}")
    file = lesson(tmp_path / "lesson", "strategy: ddp")
    queue = tmp_path / "queue"
    code, said = finish(worker("run", queue, "--gpus", "0,1", "--task", "classify-train", file), 600)
    assert code == 0, said
    (result,) = answers(queue).values()
    assert isinstance(result.outcome, Answer)
    assert "2 processes share the training by ddp" in said
    assert "gloo" not in said
