"""classify-train: a vision language model learns to tell classes of pictures apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from worker.errors import ItemError
from worker.items import Answer, Failure, Item, Result
from worker.tasks.task import JobTask, Params, Stopped

if TYPE_CHECKING:
    from worker.classification.teaching import Teaching
    from worker.jobs.stopping import StopFlag
    from worker.jobs.workspace import Workspace
    from worker.tasks.chapters import Chapter
    from worker.training.world import World


class ClassifyTrainParams(Params):
    data: str = ""
    """a folder with train and test in it, for settings that name no datasets; seen from their file"""
    deepspeed_config: str = ""
    """a DeepSpeed JSON, seen from there too: what it says of batches and precision counts more"""
    resume_from: str = ""
    """a checkpoint of another training to go on from: a Trainer's folder, seen from there too, or a queue, or
    QUEUE/checkpoint-1000. Its own newest one is gone on from by itself"""


class ClassifyTrain(JobTask[ClassifyTrainParams]):
    name = "classify-train"
    about = "fine-tune a vision language model to classify pictures, as a YAML file says"
    params_type = ClassifyTrainParams
    suffixes = frozenset({".yaml", ".yml"})
    spans = True
    _device = "cpu"

    def open(self, device: str) -> None:
        self._device = device

    def run(self, item: Item, workspace: Workspace, stop: StopFlag) -> Answer | Failure:
        from worker.classification.teaching import Teaching
        from worker.training.world import entered

        if item.file is None:
            raise ItemError("missing", "there is no file of settings")
        params = self.params_of(item)
        teaching = Teaching.of(item.file, params.data, params.deepspeed_config, self._device)
        teaching.require_room(workspace.folder)
        with entered(self._device) as those:
            return self._taught(teaching, those, item, workspace, stop)

    def _taught(
        self, teaching: Teaching, those: World, item: Item, workspace: Workspace, stop: StopFlag
    ) -> Answer:
        from worker.classification.teaching import publish
        from worker.training.beginning import find
        from worker.training.core import Run, train

        params = self.params_of(item)
        assert item.file

        def alive() -> None:
            workspace.alive()
            if stop:
                raise Stopped

        found = workspace.resume()
        teaching = teaching.inspected(found.folder if found else None, alive, those)
        settings = teaching.settings
        begin = partial(find, params.resume_from, item.file.resolve().parent, workspace.folder)
        run = Run(workspace, stop, self._device, item.id, teaching.beside)
        if params.resume_from:
            run = replace(run, begin=begin)
        done = train(teaching.course, settings.training, settings.monitor, run)
        if done is None:
            return Answer({})  # the first of the ranks gives it
        told = teaching.told(done)
        publish(done, teaching, workspace)
        return Answer({**told, "classes": teaching.classes})

    def chapters(self, result: Result, read: Callable[[str], bytes]) -> Sequence[Chapter]:
        from worker.classification.chapters import chapters

        assert isinstance(result.outcome, Answer)
        return [*chapters(result.outcome.keys, list(result.files), read)]

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        keys = result.outcome.keys
        return {
            "Accuracy": f"{keys['overall_accuracy']:.1%}",
            **{name: f"{one:.1%}" for name, one in keys["datasets"].items()},
            "Loss": f"{keys['overall_loss']:.3f}",
            "Best step": f"{keys['best_model_step']} of {keys['steps']}",
        }
