"""From a file of settings to a course, and from a course to a model that people take home."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile

from worker.classification import model
from worker.classification.course import BEST_BY, course
from worker.classification.datasets import Labelled, Pictures, classes_of, read
from worker.classification.model import LOOK, Reader
from worker.classification.settings import Classification, require_sets
from worker.engines import hub
from worker.engines.device import look
from worker.errors import ItemError
from worker.items import Json
from worker.jobs.workspace import Workspace
from worker.planning import known
from worker.planning.memory import Lesson
from worker.training import fitting, world
from worker.training.record import METRICS
from worker.training.record import read as read_record
from worker.training.settings import DeepSpeed
from worker.training.settings import read as read_settings

if TYPE_CHECKING:
    from worker.training.core import Trained
    from worker.training.course import Course

log = logging.getLogger(__name__)

_ZIP = "record.zip"
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

    @classmethod
    def of(cls, file: Path, data: str, deepspeed: str, device: str) -> Teaching:
        settings, beside = read_settings(file, Classification), file.resolve().parent
        if deepspeed:
            settings = _with(DeepSpeed.read(beside / deepspeed), settings)
        sets = require_sets(settings, data)
        train = {name: read(beside / one.train) for name, one in sets.items()}
        tests = {name: read(beside / one.test) for name, one in sets.items()}
        every = {
            f"{part} {name}": rows
            for part, some in (("train", train), ("test", tests))
            for name, rows in some.items()
        }
        classes = classes_of(every, settings.model.classes, settings.model.num_labels)
        return cls(settings, _base(settings.model.pretrained_name, beside), train, tests, classes, device)

    def require_room(self, folder: Path) -> None:
        """Before anything is loaded: whether this machine can do it at all."""
        reader, training = self._reader(), self.settings.training
        high, wide = reader.grid[1:]
        lesson = Lesson(1, len(reader.ids), high * wide, len(self.classes), training.gradient_checkpointing)
        fitting.require(known.of_folder(self.base), lesson, next(look(self.device)), folder, training)

    def course(self) -> Course:
        reader, training = self._reader(), self.settings.training
        made = model.new(
            self.base,
            self.classes,
            self.device,
            "auto" if training.memory_efficient_attention else "eager",
            training.seed,
        )
        return course(
            made,
            reader,
            [Pictures(rows, self.classes, reader.side) for rows in self.train.values()],
            {name: Pictures(rows, self.classes, reader.side) for name, rows in self.tests.items()},
        )

    def told(self, done: Trained) -> dict[str, Json]:
        """Of the best model, as it was tried while it was trained."""
        said = [
            one
            for one in read_record(dict(done.record.files())[METRICS])
            if one["step"] == done.best_step and f"eval/{BEST_BY}" in one
        ][-1]
        return {
            "overall_accuracy": round(said[f"eval/{BEST_BY}"], 6),
            "overall_loss": round(said["eval/overall_loss"], 4),
            "datasets": {name: round(said[f"eval/{name}_accuracy"], 6) for name in self.tests},
            "best_model_step": done.best_step,
            "steps": done.steps,
            "pictures": {
                "train": sum(map(len, self.train.values())),
                "test": sum(map(len, self.tests.values())),
            },
        }

    def look_file(self, folder: Path) -> Path:
        """How pictures are shown to the model: it travels with it."""
        file = folder / LOOK
        chosen = self.settings.model
        file.write_text(json.dumps({"prompt": chosen.prompt, "pixels": chosen.pixels}) + "\n")
        return file

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
    files = dict(done.record.files())
    workspace.publish(METRICS, files[METRICS])
    packed = workspace.folder / _ZIP
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for name, file in files.items():
            archive.write(file, name)
    workspace.publish(_ZIP, packed)
    shutil.rmtree(done.model, ignore_errors=True)


def _with(deepspeed: DeepSpeed, settings: Classification) -> Classification:
    training = deepspeed.accumulated(deepspeed.over(settings.training), world.size())
    return settings.model_copy(update={"training": training})


def _base(name: str, beside: Path) -> Path:
    if (folder := beside / name).is_dir():
        return folder
    commit = hub.commit(name, "main") if hub.is_name(name) else None
    if commit and (snapshot := hub.snapshot(name, commit)):
        return snapshot
    how = f": fetch it with {hub.fetch(name)}" if hub.is_name(name) else f", seen from {beside}"
    raise ItemError("no-model", f"pretrained_name {name} is not on this machine{how}")
