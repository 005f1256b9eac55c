"""What is saved on the way, and when: what is due, the best one, and what a stop leaves time for."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Checkpoint, Workspace
from worker.training import chance
from worker.training.record import RECORD, Record
from worker.training.world import World


class CutShort(Exception):
    """Told to stop in the middle of an evaluation: it is made up for by whoever goes on."""


class Keeper(TrainerCallback):  # type: ignore[misc]
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
