"""From a file of settings to a course, and from a course to a model that people take home."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from worker.classification import inspection, model, verdict
from worker.classification.chapters import worst_name
from worker.classification.course import BEST_BY, course
from worker.classification.datasets import Labelled, Pictures, classes_of, read
from worker.classification.inspection import LEFT_OUT, TEST, TRAIN, LeftOut, Sets
from worker.classification.model import LOOK, Reader
from worker.classification.settings import Classification, require_sets
from worker.classification.verdict import PREDICTIONS
from worker.engines import hub
from worker.engines.device import look
from worker.errors import UnfitError
from worker.items import Json
from worker.jobs.workspace import Workspace
from worker.media.picture import rgb
from worker.planning import known
from worker.planning.memory import Lesson
from worker.planning.seconds import Seen
from worker.training import base, fitting, world
from worker.training.adapters import FILE, Adapter
from worker.training.fitting import Amount
from worker.training.flops import Learning
from worker.training.record import METRICS, RECORD
from worker.training.settings import DeepSpeed
from worker.training.settings import read as read_settings
from worker.training.world import World

if TYPE_CHECKING:
    from worker.training.core import Trained
    from worker.training.course import Course

log = logging.getLogger(__name__)

_SMALL = 240
"""of the longer side of a picture that is shown"""
_READING = ("*token*", "vocab.json", "merges.txt", "chat_template*", "*processor_config.json")
"""of the base, which the model needs to read and see"""


@dataclass(frozen=True, slots=True)
class Teaching:
    settings: Classification
    base: Path
    train: Mapping[str, Sequence[Labelled]]
    tests: Mapping[str, Sequence[Labelled]]
    classes: list[str]
    device: str
    left_out: str | None = None
    """a table of what is of no use; None: nobody has looked"""

    @classmethod
    def of(cls, file: Path, data: str, deepspeed: str, device: str) -> Teaching:
        settings, beside = read_settings(file, Classification), file.resolve().parent
        if deepspeed:
            settings = _with(DeepSpeed.read(beside / deepspeed), settings)
        sets = require_sets(settings, data)
        roots = {name: one.root and beside / one.root for name, one in sets.items()}
        train = {name: read(beside / one.train, roots[name]) for name, one in sets.items()}
        tests = {name: read(beside / one.test, roots[name]) for name, one in sets.items()}
        every = {
            f"{part} {name}": rows
            for part, some in (("train", train), ("test", tests))
            for name, rows in some.items()
        }
        classes = classes_of(every, settings.model.classes, settings.model.num_labels)
        return cls(settings, hub.find(settings.model.pretrained_name, beside), train, tests, classes, device)

    def require_room(self, folder: Path) -> None:
        """Before anything is loaded: whether this machine can do it at all."""
        reader, training = self._reader(), self.settings.training
        seen = Seen(reader.grid)
        lesson = Lesson(1, len(reader.ids), seen.patches, len(self.classes), training.gradient_checkpointing)
        device = next(look(self.device))
        fitting.require(known.of_folder(self.base), lesson, device, folder, training, self._amount(seen))

    def inspected(
        self, before: Path | None, alive: Callable[[], None], those: World | None = None
    ) -> Teaching:
        """Without what is of no use. `before`: a checkpoint, whose holder has looked already. Of `those` who
        train together the first one looks."""
        those = those or World()
        sets = {(TRAIN, name): rows for name, rows in self.train.items()}
        sets |= {(TEST, name): rows for name, rows in self.tests.items()}
        here = inspection.digest(sets)
        if those.tell(here) != here:
            raise UnfitError("the data sets that lie here are not those that the first process has")
        out = self._looked_at(sets, before, alive) if those.is_first else []
        out = inspection.read(those.tell(inspection.written(out)))
        kept = inspection.without(sets, out)
        inspection.tell_empty(kept, self.classes)
        return replace(
            self,
            train={name: kept[TRAIN, name] for name in self.train},
            tests={name: kept[TEST, name] for name in self.tests},
            left_out=inspection.written(out),
        )

    def _looked_at(self, sets: Sets, before: Path | None, alive: Callable[[], None]) -> list[LeftOut]:
        told = before and before / RECORD / LEFT_OUT
        if told and told.is_file():
            return inspection.read(told.read_text(encoding="utf-8"))
        out = inspection.look(sets, self.classes, alive)
        inspection.require_most(sets, out, self.settings.left_out_most)
        return out

    @property
    def beside(self) -> Mapping[str, str]:
        """What the record has of it."""
        return {} if self.left_out is None else {LEFT_OUT: self.left_out}

    def _amount(self, seen: Seen) -> Amount:
        training, every = self.settings.training, self.settings.monitor.all_freq.eval_log_freq
        rows, tests = (sum(map(len, some.values())) for some in (self.train, self.tests))
        each = training.batch_size * training.gradient_accumulation_steps
        together = training.effective_batch or each * world.size()
        steps = training.max_steps or training.num_epochs * rows / together
        return Amount(seen, steps * together, tests * max(1, steps / every))

    def course(self) -> Course:
        reader, training = self._reader(), self.settings.training
        made = model.new(self.base, self.classes, self.device, training)
        return course(
            made,
            reader,
            [Pictures(rows, self.classes, reader.side) for rows in self.train.values()],
            {name: Pictures(rows, self.classes, reader.side) for name, rows in self.tests.items()},
            Learning.of(training),
        )

    def told(self, done: Trained) -> dict[str, Json]:
        """Of the best model, as it was tried while it was trained."""
        said = done.tried(BEST_BY, "overall_loss")
        return {
            "overall_accuracy": round(said[f"eval/{BEST_BY}"], 6),
            "overall_loss": round(said["eval/overall_loss"], 4),
            "datasets": {name: round(said[f"eval/{name}_accuracy"], 6) for name in self.tests},
            "best_model_step": done.best_step,
            "steps": done.steps,
            "pictures": {
                "train": sum(map(len, self.train.values())),
                "test": sum(map(len, self.tests.values())),
                "left_out": len(inspection.read(self.left_out or "")),
            },
        }

    def look_file(self, folder: Path) -> Path:
        """How pictures are shown to the model: it travels with it."""
        file = folder / LOOK
        chosen = self.settings.model
        file.write_text(json.dumps({"prompt": chosen.prompt, "pixels": chosen.pixels}) + "\n")
        return file

    def adapter(self) -> Adapter | None:
        """What was trained is no use without its base: which one that is travels with it."""
        training, name = self.settings.training, self.settings.model.pretrained_name
        if training.method == "full":
            return None
        return Adapter(base.known(name, self.base), training.method, training.lora)

    def _reader(self) -> Reader:
        return Reader.of(self.base, self.settings.model.prompt, self.settings.model.pixels)


def publish(done: Trained, teaching: Teaching, workspace: Workspace) -> None:
    """The best model, a folder that `classify` takes, and what was written down on the way."""
    for file in sorted(done.model.iterdir()):
        workspace.publish(file.name, file)
    for pattern in _READING:
        for file in sorted(teaching.base.glob(pattern)):
            workspace.publish(file.name, file)
    workspace.publish(LOOK, teaching.look_file(workspace.folder))
    if adapter := teaching.adapter():
        workspace.publish(FILE, adapter.write(workspace.folder))
    files = dict(done.record.files())
    for name in (METRICS, *teaching.beside):
        workspace.publish(name, files[name])
    if PREDICTIONS in files:
        workspace.publish(PREDICTIONS, files[PREDICTIONS])
        _publish_verdict(files[PREDICTIONS].read_text(encoding="utf-8"), teaching, workspace)
    packed = done.record.pack(workspace.folder)
    workspace.publish(packed.name, packed)
    shutil.rmtree(done.model, ignore_errors=True)


def _publish_verdict(predictions: str, teaching: Teaching, workspace: Workspace) -> None:
    """What was taken for what, and the pictures where it is surest and wrong."""
    folder = workspace.folder / "verdict"
    folder.mkdir(exist_ok=True)
    said = verdict.read(predictions)
    for name, text in verdict.files(said, teaching.classes).items():
        (folder / name).write_text(text, encoding="utf-8")
    rows = {(name, row.name): row for name, some in teaching.tests.items() for row in some}
    for number, one in enumerate(verdict.worst(said), 1):
        with rows[one.dataset, one.picture].open() as picture:
            small = rgb(picture)
            small.thumbnail((_SMALL, _SMALL))
            small.save(folder / worst_name(number), quality=85)
    for file in sorted(folder.iterdir()):
        workspace.publish(file.name, file)


def _with(deepspeed: DeepSpeed, settings: Classification) -> Classification:
    training = deepspeed.accumulated(deepspeed.over(settings.training), world.size())
    return settings.model_copy(update={"training": training})
