"""Killed, stopped or short of memory, a training ends like one that nobody disturbed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests import lessons, tiny_models
from worker.classification.course import loss
from worker.classification.teaching import Teaching
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Claim, Workspace
from worker.queue.store import Store, open_store
from worker.tasks.task import Stopped
from worker.training import core, record
from worker.training.batches import halved
from worker.training.core import Run, Trained
from worker.training.course import Course
from worker.training.settings import Training

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

STEPS = 24
Hook = Callable[[str, int], None]


class KilledError(BaseException):
    """Nothing is written any more after it."""


class Job:
    """One job, held by one worker after the other."""

    def __init__(self, file: Path, scratch: Path, teaching: Any = None) -> None:
        self.store: Store = open_store(f"memory://{uuid4().hex}")
        self.teaching = teaching or Teaching.of(file, "", "", "cpu")
        self.stop = StopFlag()
        self.made: Callable[[Course], Course] = lambda course: course
        self._scratch = scratch
        self._epoch = 0

    def workspace(self) -> Workspace:
        self._epoch += 1
        folder = self._scratch / uuid4().hex
        folder.mkdir(parents=True)
        claim = Claim("feed", self._epoch, lambda: True, lambda: True)
        return Workspace(self.store, claim, folder, 2, lambda _: None, lambda: None)

    def go_on(self, hook: Hook = lambda *_: None) -> Trained:
        workspace = self.workspace()
        self.stop = StopFlag()
        _hook(workspace, hook)
        settings = self.teaching.settings
        try:
            return core.train(
                lambda: self.made(self.teaching.course()),
                settings.training,
                settings.monitor,
                Run(workspace, self.stop, "cpu", "run"),
            )
        except Stopped:
            workspace.wait()  # as the loop of jobs does
            raise

    def last(self) -> tuple[int, bytes]:
        """The step of the newest checkpoint, and its weights."""
        found = self.workspace().resume()
        assert found
        return found.step, (found.folder / "model.safetensors").read_bytes()


def _hook(workspace: Workspace, hook: Hook) -> None:
    """Called when a step was made, and between the batches of an evaluation."""
    step = 0
    progress, alive = workspace.progress, workspace.alive

    def progressed(at: int, *given: Any, **figures: float) -> None:
        nonlocal step
        step = at
        progress(at, *given, **figures)
        hook("step", step)

    def lived() -> None:
        alive()
        hook("evaluation", step)

    workspace.progress, workspace.alive = progressed, lived  # type: ignore[method-assign]


def told(done: Trained) -> list[dict[str, Any]]:
    """The metrics that do not depend on the machine; a loss is the mean since the one before, or a resume."""
    lines = record.read(dict(done.record.files())[record.METRICS])
    return [one for one in lines if "eval/overall_loss" in one]


def losses(done: Trained) -> list[float]:
    lines = record.read(dict(done.record.files())[record.METRICS])
    return [one["training/loss"] for one in lines if "training/loss" in one]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return lessons.write(tmp_path_factory.mktemp("lesson"))


@pytest.fixture(scope="module")
def undisturbed(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Trained]:
    job = Job(file, tmp_path_factory.mktemp("undisturbed"))
    return job, job.go_on()


@pytest.fixture
def job(file: Path, tmp_path: Path) -> Job:
    return Job(file, tmp_path)


def test_it_learns_and_writes_down_how(undisturbed: tuple[Job, Trained]) -> None:
    _, done = undisturbed
    lines = record.read(dict(done.record.files())[record.METRICS])
    assert {name for line in lines for name in line} == {
        "step",
        *(f"training/{name}" for name in ("loss", "lr", "grad_norm", "epoch")),
        *(f"eval/{name}" for name in ("overall_loss", "overall_accuracy", "colours_accuracy")),
        "best_overall_accuracy",
        "best_model_step",
        *(
            f"perf/{name}"
            for name in ("mfu", "step_time", "samples_per_second", "data_wait", "gpu_memory_gb")
        ),
    }
    assert [line["step"] for line in told(done)] == [6, 12, 18, 24]
    assert max(line["eval/overall_accuracy"] for line in told(done)) >= 0.9
    assert all(0 < line["perf/data_wait"] < 1 for line in lines if "perf/data_wait" in line)
    assert {line["perf/mfu"] for line in lines if "perf/mfu" in line} == {"unknown"}  # a CPU's peak


def test_killed_five_times_at_random_it_ends_with_the_same_weights(
    job: Job, undisturbed: tuple[Job, Trained]
) -> None:
    chance = random.Random(7)

    def deadly(kind: str, at: int) -> Hook:
        def hook(what: str, step: int) -> None:
            if what == kind and step >= at:
                raise KilledError

        return hook

    for at in sorted(chance.randint(1, STEPS - 1) for _ in range(5)):
        with pytest.raises(KilledError):
            job.go_on(deadly(chance.choice(["step", "evaluation"]), at))
    done = job.go_on()
    assert job.last() == undisturbed[0].last()
    assert told(done) == told(undisturbed[1])
    assert (done.best_step, done.steps) == (undisturbed[1].best_step, STEPS)


@pytest.mark.parametrize("at", [5, 6])
def test_told_to_stop_it_saves_where_it_is_and_another_goes_on_there(
    at: int, job: Job, undisturbed: tuple[Job, Trained]
) -> None:
    def stopping(_: str, step: int) -> None:
        if step == at:
            job.stop.set("moved", 30.0)

    with pytest.raises(Stopped):
        job.go_on(stopping)
    assert job.last()[0] == at
    done = job.go_on()
    assert job.last() == undisturbed[0].last()
    assert told(done) == told(undisturbed[1])  # what the stop cut off was tried by the next one


def test_evaluations_may_be_cut_short_again_and_again(job: Job, undisturbed: tuple[Job, Trained]) -> None:
    def stopping(at: int) -> Hook:
        def hook(kind: str, step: int) -> None:
            if kind == "evaluation" and step == at:
                job.stop.set("moved", 30.0)

        return hook

    for at, saved in ((6, 6), (0, 6), (12, 12), (24, 20)):  # 0: while it makes up for the last one
        with pytest.raises(Stopped):
            job.go_on(stopping(at))
        assert job.last()[0] == saved
    done = job.go_on()
    assert job.last() == undisturbed[0].last()
    assert told(done) == told(undisturbed[1])


def test_the_best_model_is_kept_where_only_the_one_who_went_on_could_try_it(job: Job) -> None:
    scores = iter([1.0, 0.5, 0.4, 0.3])

    def falling(course: Course) -> Course:
        def measure(tried: Mapping[str, Any]) -> Mapping[str, float]:
            return {**course.measure(tried), "overall_accuracy": next(scores)}

        return replace(course, measure=measure)

    def stopping(kind: str, step: int) -> None:
        if kind == "evaluation" and step == 6:
            job.stop.set("moved", 30.0)

    job.made = falling
    with pytest.raises(Stopped):
        job.go_on(stopping)
    step, weights = job.last()
    assert step == 6
    done = job.go_on()
    assert done.best_step == 6
    assert (done.model / "model.safetensors").read_bytes() == weights


def test_with_checkpointed_gradients_and_loading_processes_it_goes_on_alike(
    job: Job, file: Path, tmp_path: Path
) -> None:
    changed = {"gradient_checkpointing": True, "dataloader_num_workers": 2}
    settings = job.teaching.settings
    training = settings.training.model_copy(update=changed)
    other = Job(file, tmp_path)
    job.teaching = other.teaching = replace(
        job.teaching, settings=settings.model_copy(update={"training": training})
    )

    def stopping(_: str, step: int) -> None:
        if step == 8:  # in the second of four epochs
            job.stop.set("moved", 30.0)

    with pytest.raises(Stopped):
        job.go_on(stopping)
    job.go_on()
    other.go_on()
    assert job.last() == other.last()


def test_what_is_finished_is_not_trained_again(job: Job, undisturbed: tuple[Job, Trained]) -> None:
    job.go_on()
    steps: list[int] = []
    done = job.go_on(lambda _, step: steps.append(step))
    assert steps == []
    assert (done.steps, done.best_step) == (STEPS, undisturbed[1].best_step)


def test_a_batch_that_does_not_fit_is_halved_and_a_step_sees_as_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def small(course: Course) -> Course:
        def loss(outputs: Any, labels: Any, **given: Any) -> Any:
            if len(labels) > 2 and course.model.training:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return course.loss(outputs, labels, **given)

        return replace(course, loss=loss)

    file = lessons.write(tmp_path / "lesson", dropout=0.0)
    file.write_text(file.read_text().replace("max_steps: 24", "max_steps: 8"))
    whole, halves = Job(file, tmp_path), Job(file, tmp_path)
    halves.made = small
    one, other = whole.go_on(), halves.go_on()
    assert "a batch of 4 does not fit: going on with 2, 4 of them a step" in caplog.text
    assert other.steps == one.steps
    assert losses(other)[:4] == pytest.approx(losses(one)[:4], abs=1e-3)


@pytest.mark.parametrize(
    ("batch", "accumulation", "then"), [(8, 4, (4, 8)), (6, 1, (3, 2)), (5, 1, (1, 5)), (1, 8, None)]
)
def test_a_halved_batch_keeps_the_samples_of_a_step(
    batch: int, accumulation: int, then: tuple[int, int] | None
) -> None:
    found = halved(Training(batch_size=batch, gradient_accumulation_steps=accumulation))
    assert (found and (found.batch_size, found.gradient_accumulation_steps)) == then


def test_a_step_has_the_same_loss_however_it_is_cut_into_batches() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    whole = loss({"logits": logits}, labels)
    cut = [loss({"logits": logits[part]}, labels[part], 5) for part in (slice(0, 4), slice(4, 5))]
    assert torch.allclose(whole, sum(cut))


@pytest.mark.timeout(1800)
def test_it_learns_real_pictures_far_above_chance(tmp_path: Path) -> None:
    root = os.environ.get("WORKER_TEST_DATA")
    if not root:
        pytest.skip("WORKER_TEST_DATA is not set")
    tiny_models.checkpoint(tmp_path / "base", "qwen2_5_vl", wide=0.1)
    file = tmp_path / "cifar10.yaml"
    file.write_text(f"""
model: {{pretrained_name: base, num_labels: 10, pixels: 112}}
training: {{max_steps: 250, learning_rate: 1e-3, batch_size: 16, warmup_steps: 25, save_steps: 125}}
monitor: {{all_freq: {{training_log_freq: 25, eval_log_freq: 125, perf_log_freq: 25}}}}
datasets: {{cifar10: "{Path(root).resolve() / "cifar10"}"}}
""")
    done = Job(file, tmp_path).go_on()
    assert max(line["eval/cifar10_accuracy"] for line in told(done)) >= 0.2  # of ten classes


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small products are not worth the waiting of one thread for another."""
    torch.set_num_threads(1)
