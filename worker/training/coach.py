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
from accelerate.utils import AutocastKwargs
from transformers import Trainer, TrainerCallback

from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Checkpoint, Workspace
from worker.tasks.task import Stopped
from worker.training import adapters, chance
from worker.training.course import Course, Tried
from worker.training.record import RECORD, Record
from worker.training.settings import Frequencies
from worker.training.sharded import Fsdp, Sharded, Zero, read_states, read_weights
from worker.training.strategy import Strategy, is_sharded, require
from worker.training.world import World

log = logging.getLogger(__name__)

_OPTIMIZER, _SCHEDULER = "optimizer.pt", "scheduler.pt"
_UNSEEN = ["past_key_values", "hidden_states", "attentions", "rope_deltas"]
"""of what a model gives, no part of its answer"""


class CutShort(Exception):
    """Told to stop in the middle of an evaluation: it is made up for by whoever goes on."""


class Coach(Trainer):  # type: ignore[misc]
    def __init__(
        self, course: Course, record: Record, world: World, strategy: Strategy, **given: Any
    ) -> None:
        self.control: Any
        self._world = world
        self._strategy = strategy
        super().__init__(
            model=course.model,
            train_dataset=course.train,
            eval_dataset=course.tests,
            data_collator=course.collate,
            compute_loss_func=course.loss,
            **given,
        )
        # each weight is used once in a pass: copies in 16 bits that are kept until its end save nothing
        self.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
        self._course = course
        self._record = record
        self._makes_up = bool(self.args.eval_on_start)
        """for an evaluation that was cut short before"""

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Any] | None = None) -> None:
        if not adapters.is_partial(self.model):
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            adapters.save(self.model, Path(output_dir or self.args.output_dir), state_dict)

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
        loss = found.metrics["eval_loss"]
        if self._world.size > 1:  # theirs weighs in what filled up the last batches
            outputs = {"logits": torch.from_numpy(found.predictions)}
            loss = float(self._course.loss(outputs, torch.from_numpy(found.label_ids)))
        return Tried(loss, found.predictions, found.label_ids)

    # what is shared out is loaded and saved as if it were not

    def create_optimizer(self, *given: Any, **named: Any) -> Any:
        made = super().create_optimizer(*given, **named)
        self._learnt = [list(group["params"]) for group in made.param_groups]
        return made

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, checkpoint: str | None) -> Any:
        if not is_sharded(self._strategy):
            found = super()._prepare_for_training(max_steps, train_dataloader, checkpoint)
            require(self._strategy, self.model_wrapped, self._world)
            return found
        if checkpoint:
            self._load_from_checkpoint(checkpoint)
        found = super()._prepare_for_training(max_steps, train_dataloader, None)
        require(self._strategy, self.model_wrapped, self._world)
        if checkpoint:
            self._sharded().restore(Path(checkpoint), read_states(Path(checkpoint, _OPTIMIZER)))
            self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, _SCHEDULER), weights_only=True))
        return found

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if adapters.is_partial(self.model):
            adapters.load(self.model, Path(resume_from_checkpoint))
        elif is_sharded(self._strategy):
            found = self.model.load_state_dict(read_weights(Path(resume_from_checkpoint)), strict=False)
            self._issue_warnings_after_load(found)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if is_sharded(self._strategy):
            self._save(output_dir, state_dict=self._sharded().weights(self._world.is_first))
        else:
            super().save_model(output_dir, _internal_call)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not is_sharded(self._strategy):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        states = self._sharded().states(self._world.is_first)
        if self._world.is_first:
            torch.save(states, Path(output_dir, _OPTIMIZER))
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, _SCHEDULER))

    def _sharded(self) -> Sharded:
        if self._strategy == "fsdp2":
            return Fsdp(self.model, self.optimizer)
        return Zero(self.deepspeed, self._learnt)

    # of several processes each has random numbers of its own, and a checkpoint has them all

    def _save_rng_state(self, output_dir: str) -> None:
        if self._world.size == 1:
            super()._save_rng_state(output_dir)
            return
        for rank, state in enumerate(self._world.gather(chance.state())):
            Path(output_dir, f"rng_state_{rank}.pth").write_bytes(state)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        whole = sorted(Path(checkpoint).glob("rng_state*.pth"))
        if len(whole) != self._world.size:
            chance.begin(self.args.seed + self.state.global_step, self._world.rank)
        elif self._world.size == 1:
            super()._load_rng_state(checkpoint)
        else:
            chance.restore(Path(checkpoint, f"rng_state_{self._world.rank}.pth"))


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Saves what is due, and what a stop leaves time for."""

    def __init__(
        self,
        workspace: Workspace,
        stop: StopFlag,
        record: Record,
        best_by: str,
        world: World,
        found: Checkpoint | None,
    ) -> None:
        self._workspace = workspace
        self._stop = stop
        self._record = record
        self._best_by = best_by
        self._world = world
        self._found = found
        """what it goes on from"""
        self._best_found: Path | None = None
        self._score: tuple[int, float] | None = None

    def on_train_begin(self, args: Any, *_: Any, **__: Any) -> None:
        if self._world.size > 1:
            chance.begin(args.seed, self._world.rank)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if self._best_found and self._found:
            best, self._best_found = self._best_found, None
            self._hand_over(self._found.step, best)
        if state.global_step >= state.max_steps:
            control.should_evaluate = True
        elif self._world.agree(bool(self._stop)):
            control.should_evaluate = False
            control.should_save = control.should_training_stop = True

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        if self._world.is_first:
            self._workspace.alive()
        if self._world.agree(bool(self._stop)):
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
        is_best = self._world.agree(score > standing.best)
        if is_best:
            standing.best, standing.best_step = score, step
            control.should_save = True
            for name, text in self._record.latest().items():
                self._record.put(name, text)
        told = {f"eval/{name}": one for name, one in metrics.items()}
        told[f"best_{self._best_by}"], told["best_model_step"] = standing.best, standing.best_step
        self._record.write(step, told)
        if self._world.is_first and is_best and self._found and self._found.step == step:
            self._keep_found(Path(args.output_dir) / f"checkpoint-{step}")

    def _keep_found(self, folder: Path) -> None:
        """It was made up for, and it is the best: saved anew, with its score, as soon as a step was made.
        Before that its own folder is still read, and to save the model now would change its random state."""
        assert self._found
        shutil.copytree(self._found.folder, folder, ignore=shutil.ignore_patterns(RECORD))
        self._record.save(folder)
        self._best_found = folder

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if self._world.is_first:
            step = state.global_step
            saved = Path(args.output_dir) / f"checkpoint-{step}"
            self._record.save(saved)
            self._hand_over(step, saved)
        self._world.wait()

    def _hand_over(self, step: int, saved: Path) -> None:
        score = self._score[1] if self._score and self._score[0] == step else None
        with self._workspace.checkpoint(step, score) as folder:
            for file in saved.iterdir():
                shutil.move(file, folder / file.name)
        shutil.rmtree(saved)


class Meter(TrainerCallback):  # type: ignore[misc]
    """How it goes, and how fast; before the keeper, so that a checkpoint holds what was told before it."""

    def __init__(
        self,
        workspace: Workspace,
        record: Record,
        every: Frequencies,
        flops: float,
        peak: float | None,
        world: World,
    ) -> None:
        self._workspace = workspace
        self._record = record
        self._every = every
        self._flops = flops
        self._peak = peak
        """FLOP/s of the device; None: nobody knows"""
        self._world = world
        self._since = time.perf_counter()
        self._seconds, self._waited, self._steps = 0.0, 0.0, 0
        """`_waited`: until the samples of a step were there"""
        self._figures: dict[str, float] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._since = time.perf_counter()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._waited += time.perf_counter() - self._since

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._seconds += time.perf_counter() - self._since
        self._steps += 1
        if self._world.is_first:
            self._workspace.progress(state.global_step, state.max_steps, **self._figures)
        if state.global_step % self._every.perf_log_freq == 0:
            samples = args.train_batch_size * args.gradient_accumulation_steps * self._world.size
            self._tell(state.global_step, samples)
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
        self._figures |= {"loss": logs["loss"], "lr": logs["learning_rate"]}
        self._record.write(state.global_step, told)
        self._since = time.perf_counter()

    def _tell(self, step: int, samples: int) -> None:
        peak = self._peak and self._peak * self._world.size
        each, waited = self._seconds / self._steps, self._waited / self._seconds
        self._seconds, self._waited, self._steps = 0.0, 0.0, 0
        self._figures["data_wait"] = waited
        used = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        self._record.write(
            step,
            {
                "perf/mfu": self._flops * samples / each / peak if peak else "unknown",
                "perf/step_time": each,
                "perf/samples_per_second": samples / each,
                "perf/data_wait": waited,
                "perf/gpu_memory_gb": used / 1e9,
            },
        )
