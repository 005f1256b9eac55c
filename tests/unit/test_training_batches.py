"""A batch as large as fits is found before the training, which ends as if somebody had said it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests import lessons, tiny_models
from tests.unit.test_training import Job, told
from worker.engines.device import Device, look
from worker.errors import UnfitError
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Checkpoint
from worker.planning import known, memory
from worker.tasks.task import Stopped
from worker.training import feeding, fitting
from worker.training.batches import cut
from worker.training.core import Run
from worker.training.course import Course
from worker.training.flops import Learning
from worker.training.record import Standing
from worker.training.settings import DeepSpeed, Training

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from transformers import AutoConfig  # noqa: E402

from worker.classification.course import course  # noqa: E402
from worker.classification.model import Reader, _kind  # noqa: E402
from worker.training import measuring  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("room", "most", "fits", "tries"),
    [
        (100.0, 64, 8, [1, 2, 4, 8]),  # 16 would take 170
        (100.0, 4, 4, [1, 2, 4]),
        (25.0, 64, 1, [1]),
        (5.0, 64, 1, [1]),  # not even one: the training itself says so
        (1e9, 32, 32, [1, 2, 4, 8, 16, 32]),
    ],
)
def test_it_is_doubled_only_where_what_is_known_says_that_it_fits(
    room: float, most: int, fits: int, tries: list[int]
) -> None:
    tried: list[int] = []

    def peak(count: int) -> float:
        tried.append(count)
        return 10.0 + 10.0 * count

    assert measuring.largest(peak, 10.0, room, most) == fits
    assert tried == tries


def test_what_runs_out_all_the_same_is_not_taken() -> None:
    assert measuring.largest(lambda count: 10.0 * count if count < 8 else None, 0.0, 1e9, 64) == 4


@pytest.mark.parametrize(
    ("said", "devices", "batch", "steps"),
    [
        ({"batch_size": 8, "effective_batch": 32}, 1, 8, 4),
        ({"batch_size": 8, "effective_batch": 32}, 2, 8, 2),
        ({"batch_size": 8, "effective_batch": 12}, 1, 6, 2),
        ({"batch_size": 64, "effective_batch": 32}, 1, 32, 1),
        ({"batch_size": 8, "gradient_accumulation_steps": 3}, 1, 8, 3),
        ({"batch_size": "auto"}, 1, 1, 32),
    ],
)
def test_a_step_sees_as_many_samples_however_it_is_cut(
    said: dict[str, Any], devices: int, batch: int, steps: int
) -> None:
    found = cut(Training.model_validate(said), devices)
    assert (found.batch_size, found.gradient_accumulation_steps) == (batch, steps)


def test_a_step_that_devices_cannot_share_is_refused_and_deepspeeds_word_counts(tmp_path: Path) -> None:
    with pytest.raises(UnfitError, match="effective_batch 32 is no multiple of 3 devices"):
        cut(Training(effective_batch=32), 3)
    auto = Training.model_validate({"batch_size": "auto"})
    file = tmp_path / "deepspeed.json"
    file.write_text('{"train_batch_size": 256}')
    together = DeepSpeed.read(file)
    found = cut(together.accumulated(together.over(auto), devices=1))
    assert (found.measured, found.effective_batch, found.gradient_accumulation_steps) == (True, 256, 256)
    assert not replace(together, batch=8).over(auto).measured
    parts = replace(together, batch=4, accumulation=2, together=None)
    for training in (auto, Training(effective_batch=32)):
        found = cut(parts.accumulated(parts.over(training), devices=1))
        assert (found.batch_size, found.gradient_accumulation_steps) == (4, 2)


def test_bytes_that_live_at_once_are_counted_on_a_cpu() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.ReLU(), torch.nn.Linear(100, 100))
    for one in model.parameters():
        one.grad = torch.zeros_like(one)
    peaks = {}
    for rows in (100, 200, 400):
        with measuring.Living(model) as living:
            model(torch.ones(rows, 100)).sum().backward()
        peaks[rows] = living.most
    kept = 4 * 100 * 3  # what goes into the matrices, and what comes out
    assert kept * 100 <= peaks[100] <= 3 * kept * 100 + 4 * 100 * 100
    assert peaks[400] - peaks[200] == pytest.approx(2 * (peaks[200] - peaks[100]), rel=0.05)


def test_found_by_itself_or_said_the_batch_makes_the_same_weights_and_a_resume_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = lessons.write(tmp_path / "lesson")
    short = file.read_text().replace("max_steps: 24", "max_steps: 10")
    file.write_text(short)
    said = Job(file, tmp_path)
    whole = said.go_on()

    auto = short.replace("batch_size: 4", "batch_size: auto\n  effective_batch: 8")
    file.write_text(auto.replace("gradient_accumulation_steps: 2", ""))
    job = Job(file, tmp_path)
    tries = _so_that_four_fit(monkeypatch)

    def stopping(_: str, step: int) -> None:
        if step == 4:
            job.stop.set("moved", 30.0)

    with pytest.raises(Stopped):
        job.go_on(stopping)
    assert tries == [1, 2, 4]
    assert "4 samples at once, 2 times a step (so many fit)" in caplog.text
    done = job.go_on()
    assert tries == [1, 2, 4]
    assert "(as this training began)" in caplog.text
    assert job.last() == said.last()
    assert told(done) == told(whole)
    found = job.workspace().resume()
    assert found
    standing = json.loads((found.folder / "record" / "standing.json").read_text())
    assert (standing["batch"], standing["card"]) == (4, "CPU")


def _so_that_four_fit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tries are true ones; the memory there is is what six samples take."""
    tries: list[int] = []
    peak, largest = measuring.Trial.peak, measuring.largest

    def noted(trial: measuring.Trial, count: int) -> float | None:
        tries.append(count)
        return peak(trial, count)

    def in_little(tried: Any, fixed: float, room: float, most: int) -> int:
        one = peak(tried.__self__, 1)
        assert one
        assert fixed < one < room
        return largest(tried, fixed, fixed + 6 * (one - fixed), most)

    monkeypatch.setattr(measuring, "largest", in_little)
    monkeypatch.setattr(measuring.Trial, "peak", noted)
    return tries


def test_a_card_is_read_for_by_processes_that_have_a_whole_step_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(12))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    card, cpu = Device("cuda:0", "NVIDIA A100"), Device("cpu", "CPU")
    assert [feeding.readers(Training(), one) for one in (card, cpu)] == [8, 0]
    assert feeding.readers(Training(dataloader_num_workers=16), card) == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert feeding.readers(Training(), card) == 2
    assert feeding.ahead(Training(gradient_accumulation_steps=32), 8) == 4
    assert feeding.ahead(Training(), 8) == 2
    assert feeding.ahead(Training(), 0) is None


@pytest.mark.parametrize(("card", "batch"), [("CPU", 4), ("NVIDIA A100", 16)])
def test_on_another_card_it_is_measured_again(
    card: str, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "standing.json").write_text(json.dumps({"batch": 4, "card": card}))
    monkeypatch.setattr(measuring, "_tried_out", lambda *_: 20)
    assert _batch(tmp_path) == batch
    assert Standing.read(tmp_path / "elsewhere") is None
    assert _batch(tmp_path, 2, lambda fits: min(fits, 9)) == min(batch, 8)


def test_what_was_halved_before_a_checkpoint_is_not_halved_again_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "record").mkdir()
    standing = {"batch": 4, "card": "CPU", "halved": 1}
    (tmp_path / "record" / "standing.json").write_text(json.dumps(standing))
    assert [_batch(tmp_path, halved=times) for times in (0, 1, 2)] == [4, 4, 2]
    monkeypatch.setattr(measuring, "_tried_out", lambda *_: 20)
    elsewhere = iter([0, 16])
    assert _batch(tmp_path, 2, lambda _: next(elsewhere), halved=1) == 8, "another's card is another one"


def _batch(checkpoint: Path, devices: int = 1, agree: Callable[[int], int] = int, halved: int = 0) -> int:
    workspace: Any = SimpleNamespace(
        resume=lambda: Checkpoint(3, None, checkpoint), alive=lambda: None, halved=halved
    )
    auto = Training.model_validate({"batch_size": "auto", "effective_batch": 32})
    found = measuring.measured(pytest.fail, auto, Run(workspace, StopFlag(), "cpu", "run"), devices, agree)
    assert found
    return found.batch_size


@pytest.mark.parametrize("again", [True, False])
def test_a_step_takes_the_memory_that_was_planned_for_it(again: bool, tmp_path: Path) -> None:
    """As on a card: weights of 32 bits, products of 16."""
    shape = tiny_models.config("qwen2_5_vl").to_dict()
    text, eye = shape["text_config"], shape["vision_config"]
    text |= {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 4}
    text["rope_parameters"] |= {"mrope_section": [16, 24, 24]}
    del text["layer_types"]
    eye |= {"hidden_size": 256, "intermediate_size": 512, "out_hidden_size": 512}
    base = tiny_models.outline(tmp_path / "base", AutoConfig.for_model(**shape))
    tiny_models.normalisation(base, "qwen2_5_vl")
    reader, training = Reader.of(base, "?", 56), Training(precision="bf16", gradient_checkpointing=again)
    config = AutoConfig.from_pretrained(base)
    config.num_labels = 2
    rows: Any = [(np.zeros((reader.side, reader.side, 3), np.uint8), 0)]
    brought = course(_kind(config.model_type)(config), reader, [rows], {}, Learning.of(training))
    trial = measuring.Trial(brought, training, next(look("cpu")), lambda: None)
    beside = trial.peak(1)
    assert beside
    weights = sum(one.numel() * one.element_size() for one in brought.model.parameters())
    optimiser = memory.ADAM * weights / 4
    _, high, wide = reader.grid
    lesson = memory.Lesson(1, len(reader.ids), high * wide, 2, again)
    card = Device("cuda:0", "A card")
    planned = sum(fitting.needs(known.of_folder(base), lesson, card, training).values()) - memory.CONTEXT
    assert planned == pytest.approx(weights + optimiser + beside, rel=0.08)


def test_what_was_made_of_weights_for_a_product_is_not_kept(tmp_path: Path) -> None:
    file = lessons.write(tmp_path / "lesson")
    text = file.read_text().replace("max_steps: 24", "max_steps: 1\n  precision: bf16")
    file.write_text(text)
    job, kept = Job(file, tmp_path), []

    def watched(made: Course) -> Course:
        made.model.model.register_forward_pre_hook(
            lambda *_: kept.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        )
        return made

    job.made = watched
    job.go_on()
    assert set(kept) == {(True, False)}
