"""Stopped or killed, an inspector learns as one that nobody disturbed; and PEFT takes what it made."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests import board_lessons
from tests.unit.test_training import Hook, Job, KilledError, losses
from worker.engines import loading
from worker.engines.choice import Choice
from worker.inspector import model
from worker.inspector.reading import Reader
from worker.inspector.samples import shown
from worker.inspector.teaching import Teaching, publish
from worker.items import Answer, Item, Result
from worker.jobs.stopping import StopFlag
from worker.tasks.chapters import Curves, Sheet, Shown
from worker.tasks.pcb_train import PcbTrain, PcbTrainParams
from worker.tasks.task import Stopped
from worker.training import adapters, record
from worker.training.core import Trained

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
peft = pytest.importorskip("peft", reason="peft is not installed")

STEPS = 10


class BoardJob(Job):
    def __init__(self, file: Path, scratch: Path) -> None:
        super().__init__(file, scratch, Teaching.of(file, "", "", "cpu"))


def told(done: Trained) -> list[dict[str, Any]]:
    lines = record.read(dict(done.record.files())[record.METRICS])
    return [one for one in lines if "eval/loss" in one]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return board_lessons.write(tmp_path_factory.mktemp("lesson"), "qwen2_5_vl", side=112)


@pytest.fixture(scope="module")
def undisturbed(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BoardJob, Trained]:
    job = BoardJob(file, tmp_path_factory.mktemp("undisturbed"))
    return job, job.go_on()


def test_it_learns_and_keeps_the_best(undisturbed: tuple[BoardJob, Trained]) -> None:
    _, done = undisturbed
    assert [line["step"] for line in told(done)] == [4, 8, 10]
    assert losses(done)[-1] < 0.95 * losses(done)[0]
    best = max(told(done), key=lambda line: line["eval/score"])
    assert done.best_step == best["step"]
    assert {"eval/f1", "eval/map50", "eval/map50_95", "eval/readable"} <= best.keys()


def test_killed_again_and_again_it_ends_with_the_same_adapters(
    file: Path, undisturbed: tuple[BoardJob, Trained], tmp_path: Path
) -> None:
    job, chance = BoardJob(file, tmp_path), random.Random(7)
    for kind, at in (("step", 2), ("evaluation", 4), ("step", 7)):
        with pytest.raises(KilledError):
            job.go_on(_deadly(kind, at, chance.randint(0, 3)))
    done = job.go_on()
    assert job.last() == undisturbed[0].last()
    assert told(done) == told(undisturbed[1])


def test_told_to_stop_while_it_is_asked_about_boards_it_saves_and_another_goes_on(
    file: Path, undisturbed: tuple[BoardJob, Trained], tmp_path: Path
) -> None:
    job = BoardJob(file, tmp_path)
    seen = 0

    def stopping(kind: str, step: int) -> None:
        nonlocal seen
        seen += kind == "evaluation" and step == 4
        if seen == 5:  # three batches of loss come before
            job.stop.set("moved", 30.0)

    with pytest.raises(Stopped):
        job.go_on(stopping)
    assert job.last()[0] == 4
    done = job.go_on()
    assert job.last() == undisturbed[0].last()
    assert told(done) == told(undisturbed[1])


@pytest.mark.parametrize(
    ("family", "method"), [("qwen2_5_vl", "qlora"), ("qwen3_vl", "qlora"), ("qwen3_vl", "lora")]
)
def test_peft_takes_what_was_published_and_says_the_same(family: str, method: str, tmp_path: Path) -> None:
    """With four bits and layers that compute again: it was asked, learnt on, and was asked again."""
    if method == "qlora":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    file = board_lessons.write(tmp_path / "lesson", family, side=112, boards=3, held=2)
    text = file.read_text().replace("use_4bit: false", f"use_4bit: {str(method == 'qlora').lower()}")
    text = text.replace("max_steps: 10", "max_steps: 3").replace("eval_log_freq: 4", "eval_log_freq: 1")
    file.write_text(text.replace("targets: all", f"targets: {'all' if method == 'lora' else 'language'}"))
    job = BoardJob(file, tmp_path)
    assert job.teaching.settings.training.gradient_checkpointing
    done = job.go_on()
    assert told(done)[-1]["eval/loss"] < told(done)[0]["eval/loss"]
    folder = published(job, done, tmp_path / "taken")
    mine = model.new(job.teaching.base, "cpu", job.teaching.settings.training).eval()
    adapters.load(mine, _named_as_here(folder))
    theirs = peft.PeftModel.from_pretrained(_base(job.teaching.base, method), folder).eval()
    for module in theirs.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # another kernel, which rounds otherwise
    reader = Reader.of(job.teaching.base)
    batch = dict(reader.learn([shown(one) for one in job.teaching.val[:2]]))
    del batch["labels"]
    with torch.no_grad():
        ours, other = mine(**batch).logits, theirs(**batch).logits
        assert torch.equal(ours, other)
        with theirs.disable_adapter():
            assert not torch.allclose(theirs(**batch).logits, other, atol=1e-3)
    told_base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert told_base == str(job.teaching.base)


def test_the_task_answers_and_its_report_shows_where_it_errs(
    undisturbed: tuple[BoardJob, Trained], file: Path, tmp_path: Path
) -> None:
    job = BoardJob(file, tmp_path)
    workspace = job.workspace()
    task = PcbTrain(PcbTrainParams())
    task.open("cpu")
    answer = task.run(Item("item", "config.yaml", file=file), workspace, StopFlag())
    assert isinstance(answer, Answer)
    assert (answer.keys["best_step"], answer.keys["steps"]) == (undisturbed[1].best_step, STEPS)
    assert answer.keys["samples"] == {"train": 16, "val": 6, "asked": 4}
    assert answer.keys["base"]["revision"].startswith("tree:")
    there = {"adapter_config.json", "adapter_model.safetensors", "metrics.jsonl", "answers.jsonl"}
    assert {*there, "record.zip", "worst-01.jpg"} <= workspace.published.keys()
    result = Result("item", "config.yaml", answer, files=dict.fromkeys(workspace.published, ""))
    read = {name: _bytes(job, where, tmp_path / "file") for name, where in workspace.published.items()}
    how, tried, worst = task.chapters(result, read.__getitem__)
    assert {one.title[0] for one in how.parts if isinstance(one, Curves)} >= {"Loss"}
    assert isinstance(tried.parts[0], Sheet)
    assert len(tried.parts[0].rows) == 3
    assert isinstance(worst.parts[0], Shown)
    assert {*worst.parts[0].pictures} <= workspace.published.keys()
    assert task.row(result)["Best step"] == f"{answer.keys['best_step']} of {STEPS}"


def _deadly(kind: str, at: int, after: int) -> Hook:
    left = after

    def hook(what: str, step: int) -> None:
        nonlocal left
        if what == kind and step >= at:
            if kind == "step" or left == 0:
                raise KilledError
            left -= 1

    return hook


def _base(folder: Path, method: str) -> Any:
    return loading.load(
        Choice("base", "base", file=folder),
        "cpu",
        architectures="AutoModelForImageTextToText",
        quantise="nf4" if method == "qlora" else "none",
        wanted_numbers="fp32",
    ).model


def _named_as_here(folder: Path) -> Path:
    from safetensors.torch import load_file, save_file

    found = load_file(folder / "adapter_model.safetensors")
    plain = {
        name.removeprefix("base_model.model.").replace(".weight", ".default.weight"): one
        for name, one in found.items()
    }
    save_file(plain, folder / "model.safetensors")
    return folder


def published(job: Job, done: Trained, into: Path) -> Path:
    workspace = job.workspace()
    publish(done, job.teaching, workspace)
    into.mkdir()
    for name, source in workspace.published.items():
        job.store.download(source, into / name)
    return into


def _bytes(job: Job, source: str, file: Path) -> bytes:
    job.store.download(source, file)
    return file.read_bytes()
