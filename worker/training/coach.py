"""Hugging Face's Trainer, bent where a stop or another worker comes between.

Its own way is kept but for this: evaluation takes no random numbers from the training and can be cut short,
so that a run that was interrupted ends like one that was not; and checkpoints go to the workspace."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Checkpoint, Workspace
from worker.tasks.task import Stopped
from worker.training.course import Course, Tried
from worker.training.record import RECORD, Record
from worker.training.settings import Frequencies

log = logging.getLogger(__name__)

_UNSEEN = ["past_key_values", "hidden_states", "attentions", "rope_deltas"]
"""of what a model gives, no part of its answer"""


class CutShort(Exception):
    """Told to stop in the middle of an evaluation: it is made up for by whoever goes on."""


class Coach(Trainer):  # type: ignore[misc]
    def __init__(self, course: Course, record: Record, **given: Any) -> None:
        self.control: Any
        super().__init__(
            model=course.model,
            train_dataset=course.train,
            eval_dataset=course.tests,
            data_collator=course.collate,
            compute_loss_func=course.loss,
            **given,
        )
        self._course = course
        self._record = record
        self._makes_up = bool(self.args.eval_on_start)
        """for an evaluation that was cut short before"""

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        try:
            with torch.random.fork_rng():
                tried = {name: self._try(test) for name, test in self._course.tests.items()}
        except CutShort:
            if self._makes_up or self.state.global_step >= self.state.max_steps:
                raise Stopped from None  # the last checkpoint is as good as one made now
            self.control.should_save = self.control.should_training_stop = True
            return {}
        self._makes_up = False
        metrics = dict(self._course.measure(tried))
        self._record.latest = partial(self._course.told, tried)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _try(self, test: Any) -> Tried:
        found = self.evaluation_loop(
            self.get_eval_dataloader(test), "", prediction_loss_only=False, ignore_keys=_UNSEEN
        )
        return Tried(found.metrics["eval_loss"], found.predictions, found.label_ids)


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Saves what is due, and what a stop leaves time for."""

    def __init__(
        self, workspace: Workspace, stop: StopFlag, record: Record, best_by: str, found: Checkpoint | None
    ) -> None:
        self._workspace = workspace
        self._stop = stop
        self._record = record
        self._best_by = best_by
        self._found = found
        """what it goes on from"""
        self._best_found: Path | None = None
        self._score: tuple[int, float] | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if self._best_found and self._found:
            best, self._best_found = self._best_found, None
            self._hand_over(self._found.step, best)
        if state.global_step >= state.max_steps:
            control.should_evaluate = True
        elif self._stop:
            control.should_evaluate = False
            control.should_save = control.should_training_stop = True

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        self._workspace.alive()
        if self._stop:
            raise CutShort

    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        metrics: Mapping[str, float],
        **_: Any,
    ) -> None:
        step, score, standing = state.global_step, metrics[self._best_by], self._record.standing
        self._score = step, score
        standing.evaluated = step
        is_best = score > standing.best
        if is_best:
            standing.best, standing.best_step = score, step
            control.should_save = True
            for name, text in self._record.latest().items():
                self._record.put(name, text)
        told = {f"eval/{name}": one for name, one in metrics.items()}
        told[f"best_{self._best_by}"], told["best_model_step"] = standing.best, standing.best_step
        self._record.write(step, told)
        if is_best and self._found and self._found.step == step:
            self._keep_found(Path(args.output_dir) / f"checkpoint-{step}")

    def _keep_found(self, folder: Path) -> None:
        """It was made up for, and it is the best: saved anew, with its score, as soon as a step was made.
        Before that its own folder is still read, and to save the model now would change its random state."""
        assert self._found
        shutil.copytree(self._found.folder, folder, ignore=shutil.ignore_patterns(RECORD))
        self._record.save(folder)
        self._best_found = folder

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        step = state.global_step
        saved = Path(args.output_dir) / f"checkpoint-{step}"
        self._record.save(saved)
        self._hand_over(step, saved)

    def _hand_over(self, step: int, saved: Path) -> None:
        score = self._score[1] if self._score and self._score[0] == step else None
        with self._workspace.checkpoint(step, score) as folder:
            for file in saved.iterdir():
                shutil.move(file, folder / file.name)
        shutil.rmtree(saved)


class Meter(TrainerCallback):  # type: ignore[misc]
    """How it goes, and how fast; before the keeper, so that a checkpoint holds what was told before it."""

    def __init__(
        self, workspace: Workspace, record: Record, every: Frequencies, flops: float, peak: float | None
    ) -> None:
        self._workspace = workspace
        self._record = record
        self._every = every
        self._flops = flops
        self._peak = peak
        """FLOP/s of the device; None: nobody knows"""
        self._since = time.perf_counter()
        self._seconds, self._steps = 0.0, 0
        self._figures: dict[str, float] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._seconds += time.perf_counter() - self._since
        self._steps += 1
        self._workspace.progress(state.global_step, state.max_steps, **self._figures)
        if state.global_step % self._every.perf_log_freq == 0:
            self._tell(state.global_step, args.train_batch_size * args.gradient_accumulation_steps)
        self._since = time.perf_counter()

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        self._since = time.perf_counter()

    on_save = on_evaluate

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:  # noqa: ARG002
        if "loss" not in logs:
            return
        told = {
            "training/loss": logs["loss"],
            "training/lr": logs["learning_rate"],
            "training/grad_norm": logs.get("grad_norm", 0.0),
            "training/epoch": state.epoch,
        }
        self._figures = {"loss": logs["loss"], "lr": logs["learning_rate"]}
        self._record.write(state.global_step, told)
        self._since = time.perf_counter()

    def _tell(self, step: int, samples: int) -> None:
        each = self._seconds / self._steps
        self._seconds, self._steps = 0.0, 0
        used = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        self._record.write(
            step,
            {
                "perf/mfu": self._flops * samples / each / self._peak if self._peak else "unknown",
                "perf/step_time": each,
                "perf/samples_per_second": samples / each,
                "perf/gpu_memory_gb": used / 1e9,
            },
        )
