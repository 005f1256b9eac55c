"""From a file of settings to a course, and from a course to adapters that people take home."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.boards import copper, marking
from worker.engines import hub
from worker.engines.device import look
from worker.inspector import asking, model, room, samples, verdict
from worker.inspector.chapters import worst_name
from worker.inspector.course import BEST_BY, course
from worker.inspector.reading import Reader
from worker.inspector.samples import Sample, Samples
from worker.inspector.settings import Inspection, require_data, told_over
from worker.inspector.verdict import ANSWERS
from worker.items import Json
from worker.jobs.workspace import Workspace
from worker.planning import known
from worker.planning.memory import Lesson
from worker.planning.seconds import Seen
from worker.training import base, world
from worker.training.fitting import Amount
from worker.training.flops import Learning
from worker.training.record import METRICS
from worker.training.settings import read as read_settings

if TYPE_CHECKING:
    from worker.training.core import Trained
    from worker.training.course import Course

_MEASURED = ("f1", "precision", "recall", "map50", "map50_95", "readable")


@dataclass(frozen=True, slots=True)
class Teaching:
    settings: Inspection
    base: Path
    reader: Reader
    train: Sequence[Sample]
    val: Sequence[Sample]
    pictures: Path
    device: str

    @classmethod
    def of(cls, file: Path, data: str, pictures: str, device: str) -> Teaching:
        settings = told_over(read_settings(file, Inspection), data, pictures)
        beside = file.resolve().parent
        train, val = (beside / one for one in require_data(settings.data))
        root = beside / settings.data.pictures if settings.data.pictures else train.parent
        lies = hub.find(settings.model.name, beside)
        base.require_whole(lies)
        reader = Reader.of(lies)
        rows, held = (samples.read(one, root, reader.sight) for one in (train, val))
        return cls(settings, lies, reader, rows, held, root, device)

    def require_room(self, folder: Path, keep: int) -> None:
        """Before anything is loaded: whether this machine can do it at all."""
        training, lengths = self.settings.training, [self.reader.length(one) for one in self.train]
        tokens, patches = max(lengths)
        lesson = Lesson(1, tokens, patches, checkpointing=training.gradient_checkpointing)
        shape, device = known.of_folder(self.base), next(look(self.device))
        room.require(shape, lesson, device, folder, training, self._amount(patches), keep)

    def _amount(self, patches: int) -> Amount:
        training, every = self.settings.training, self.settings.monitor.all_freq.eval_log_freq
        side = self.reader.sight.merge
        each = training.batch_size * training.gradient_accumulation_steps
        together = training.effective_batch or each * world.size()
        steps = training.max_steps or training.num_epochs * len(self.train) / together
        seen = Seen((1, side, patches // side))
        return Amount(seen, steps * together, len(self.val) * max(1, steps / every))

    @property
    def asked(self) -> list[Sample]:
        return asking.chosen(self.val, self.settings.validation.boards)

    def course(self) -> Course:
        training, asked = self.settings.training, self.asked
        made = model.new(self.base, self.device, training)
        batch = training.eval_batch_size or training.batch_size
        asker = asking.Asker(made, self.reader, asked, batch, self.settings.validation.max_tokens)
        seed = training.seed if self.settings.data.turned else None
        learning = Learning.of(training, head="nothing")
        return course(made, self.reader, Samples(self.train, seed), Samples(self.val), asker, asked, learning)

    def told(self, done: Trained) -> dict[str, Json]:
        """Of the best adapters, as they were tried while they were trained."""
        said = done.tried(BEST_BY, "loss")
        training, stands_on = self.settings.training, base.known(self.settings.model.name, self.base)
        return {
            **{name: round(said[f"eval/{name}"], 4) for name in _MEASURED if f"eval/{name}" in said},
            "loss": round(said["eval/loss"], 4),
            "best_step": done.best_step,
            "steps": done.steps,
            "method": training.method,
            "base": {"name": stands_on.name, "revision": stands_on.revision},
            "samples": {"train": len(self.train), "val": len(self.val), "asked": len(self.asked)},
        }


def publish(done: Trained, teaching: Teaching, workspace: Workspace) -> None:
    """The best adapters, as PEFT keeps them, and what was written down on the way."""
    folder = workspace.folder / "published"
    folder.mkdir(exist_ok=True)
    stands_on = base.known(teaching.settings.model.name, teaching.base)
    for file in model.publish(done.model, stands_on, teaching.settings.training.lora, folder):
        workspace.publish(file.name, file)
    files = dict(done.record.files())
    workspace.publish(METRICS, files[METRICS])
    if ANSWERS in files:
        workspace.publish(ANSWERS, files[ANSWERS])
        answers = verdict.read(files[ANSWERS].read_text(encoding="utf-8"))
        _publish_worst(verdict.worst(answers), teaching, folder, workspace)
    packed = done.record.pack(folder)
    workspace.publish(packed.name, packed)
    shutil.rmtree(done.model, ignore_errors=True)


def _publish_worst(
    worst: Sequence[verdict.Answered], teaching: Teaching, folder: Path, workspace: Workspace
) -> None:
    """Each board twice: with the boxes that are labelled, and with those that were found."""
    for number, one in enumerate(worst, 1):
        file = folder / worst_name(number)
        board = copper.read(teaching.pictures / one.name)
        file.write_bytes(marking.beside(board, one.labelled, one.found))
        workspace.publish(file.name, file)
