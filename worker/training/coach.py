"""Hugging Face's Trainer, bent where a stop or another worker comes between.

Its own way is kept but for this: evaluation takes no random numbers from the training and can be cut short,
so that a run that was interrupted ends like one that was not; and checkpoints go to the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import AutocastKwargs
from transformers import Trainer

from worker.tasks.task import Stopped
from worker.training import adapters, chance
from worker.training.course import Course, Tried
from worker.training.keeper import CutShort
from worker.training.record import Record
from worker.training.sharded import Fsdp, Sharded, Zero, read_states, read_weights
from worker.training.strategy import Strategy, is_sharded, require
from worker.training.world import World

_OPTIMIZER, _SCHEDULER = "optimizer.pt", "scheduler.pt"
_UNSEEN = ["past_key_values", "hidden_states", "attentions", "rope_deltas"]
"""of what a model gives, no part of its answer"""


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
            preprocess_logits_for_metrics=course.said,
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
                tried |= self._course.ask(self._world, self._go_on)
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
        if self._world.size > 1 and not self._course.said:  # theirs weighs in what filled up the last batches
            outputs = {"logits": torch.from_numpy(found.predictions)}
            loss = float(self._course.loss(outputs, torch.from_numpy(found.label_ids)))
        return Tried(loss, found.predictions, found.label_ids)

    def _go_on(self) -> None:
        self.callback_handler.on_prediction_step(self.args, self.state, self.control)

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
