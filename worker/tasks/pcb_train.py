"""pcb-train: a vision language model learns to inspect boards, by adapters beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from worker.errors import ItemError
from worker.items import Answer, Failure, Item, Result
from worker.tasks.task import JobTask, Params, models_of_the_item

if TYPE_CHECKING:
    from worker.jobs.stopping import StopFlag
    from worker.jobs.workspace import Workspace
    from worker.tasks.chapters import Chapter


class PcbTrainParams(Params):
    data: str = ""
    """a folder with train.jsonl and val.jsonl, as pcb-convert writes them; seen from the file"""
    pictures: str = ""
    """the folder in which their pictures' names begin: that of DeepPCB's list; seen from the file too"""


class PcbTrain(JobTask[PcbTrainParams]):
    name = "pcb-train"
    about = "fine-tune a vision language model on PCB defects, QLoRA or LoRA, as a YAML file says"
    params_type = PcbTrainParams
    suffixes = frozenset({".yaml", ".yml"})
    spans = True
    of_billions = True
    _device = "cpu"

    def open(self, device: str) -> None:
        self._device = device

    @models_of_the_item()
    def run(self, item: Item, workspace: Workspace, stop: StopFlag) -> Answer | Failure:
        from worker.inspector.teaching import Teaching, publish
        from worker.training.core import Run, train

        if item.file is None:
            raise ItemError("missing", "there is no file of settings")
        params = self.params_of(item)
        teaching = Teaching.of(item.file, params.data, params.pictures, self._device)
        teaching.require_room(workspace.folder, self.keep)
        settings = teaching.settings
        run = Run(workspace, stop, self._device, item.id)
        done = train(teaching.course, settings.training, settings.monitor, run)
        if done is None:
            return Answer({})  # the first of the ranks gives it
        told = teaching.told(done)
        publish(done, teaching, workspace)
        return Answer(told)

    def chapters(self, result: Result, read: Callable[[str], bytes]) -> Sequence[Chapter]:
        from worker.inspector.chapters import chapters

        return [*chapters(list(result.files), read)]

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        keys = result.outcome.keys
        shares = {"F": "f1", "mAP 50": "map50", "mAP 50-95": "map50_95"}
        return {
            **{name: f"{keys[key]:.1%}" for name, key in shares.items() if key in keys},
            "Loss": f"{keys['loss']:.3f}",
            "Best step": f"{keys['best_step']} of {keys['steps']}",
        }
