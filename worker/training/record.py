"""What a training tells of itself: metrics.jsonl, TensorBoard, W&B. It goes on where a checkpoint left it.

A checkpoint has metrics.jsonl alone. The other two are written anew from it at a resume: their writers work
behind our back, so that what they have on the disk is neither whole nor of any known step."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import ZIP_DEFLATED, ZipFile

from worker.training.settings import Monitor

log = logging.getLogger(__name__)

RECORD = "record"
"""the folder, also in a checkpoint"""
METRICS = "metrics.jsonl"
_STANDING = "standing.json"
_EVENTS = "tensorboard"
_ZIP = "record.zip"
_DERIVED = shutil.ignore_patterns(_EVENTS, "wandb")


@dataclass(slots=True)
class Standing:
    """What must be known again after a resume."""

    best: float = float("-inf")
    best_step: int = 0
    evaluated: int = 0
    """the step at which the model was last tried"""
    wandb: str = ""
    """the run's id there"""
    samples: int = 0
    """that make a step, on all devices; 0: nobody wrote it down"""
    batch: int = 0
    """that fitted"""
    card: str = ""
    """whose memory that was"""
    halved: int = 0
    """how often by then it had not fitted into several processes"""

    @classmethod
    def read(cls, checkpoint: Path) -> Standing | None:
        file = checkpoint / RECORD / _STANDING
        return cls(**json.loads(file.read_text())) if file.is_file() else None


class Record:
    """`folder`: on this machine, the record's own. `before`: a checkpoint that is gone on from. `speaks`: one
    of several processes does; the others only know how it stands."""

    def __init__(
        self, folder: Path, monitor: Monitor, wandb: str, before: Path | None, *, speaks: bool = True
    ) -> None:
        self.latest: Callable[[], Mapping[str, str]] = dict
        """files of what was tried last, which are kept if it was the best"""
        self._folder = folder
        self._speaks = speaks
        self._events = self._run = None
        self.standing = (before and Standing.read(before)) or Standing(wandb=wandb)
        if not speaks:
            return
        if before and (before / RECORD).is_dir():
            shutil.copytree(before / RECORD, folder, ignore=_DERIVED)
        folder.mkdir(parents=True, exist_ok=True)
        self._events = _tensorboard(folder / _EVENTS) if monitor.tensorboard else None
        if monitor.wandb != "off":
            self._run = _wandb(folder, monitor.wandb_project, monitor.wandb, self.standing.wandb)
        if (folder / METRICS).is_file():
            for line in read(folder / METRICS):
                self._pass_on(line.pop("step"), line)

    def write(self, step: int, values: Mapping[str, float | str]) -> None:
        if not self._speaks:
            return
        with (self._folder / METRICS).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"step": step, **values}) + "\n")
        self._pass_on(step, values)

    def _pass_on(self, step: int, values: Mapping[str, float | str]) -> None:
        numbers = {name: one for name, one in values.items() if not isinstance(one, str)}
        if self._events:
            for name, one in numbers.items():
                self._events.add_scalar(name, one, step)
        if self._run and step >= self._run.starting_step:  # a server has what it was told before
            self._run.log(numbers, step=step)

    def put(self, name: str, text: str) -> None:
        """A file that is part of it."""
        if not self._speaks:
            return
        (self._folder / name).write_text(text, encoding="utf-8")

    def save(self, into: Path) -> None:
        """Into a checkpoint."""
        (self._folder / _STANDING).write_text(json.dumps(asdict(self.standing)))
        shutil.copytree(self._folder, into / self._folder.name, ignore=_DERIVED)

    def close(self) -> None:
        if self._events:
            self._events.close()
        if self._run:
            import wandb

            self._run.finish()
            wandb.teardown()  # only then its file is whole

    def pack(self, into: Path) -> Path:
        """All of it, for who wants to look at it with tools of his own."""
        packed = into / _ZIP
        with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
            for name, file in self.files():
                archive.write(file, name)
        return packed

    def files(self) -> Iterator[tuple[str, Path]]:
        """With the names that people see."""
        for file in sorted(self._folder.rglob("*")):
            if file.is_file() and not file.is_symlink() and file.name != _STANDING:
                yield file.relative_to(self._folder).as_posix(), file


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("no TensorBoard here: %s has the metrics all the same", METRICS)
        return None
    return SummaryWriter(str(folder))


def _wandb(folder: Path, project: str, mode: Literal["offline", "online"], run: str) -> Any:
    try:
        import wandb
    except ImportError:
        log.warning("monitor.wandb is %s, and wandb is not installed: it is left out", mode)
        return None
    return wandb.init(
        project=project,
        id=run,
        resume="allow",
        reinit="finish_previous",  # one that the memory did not suffice for
        mode="online" if mode == "online" else "offline",
        dir=str(folder),
    )
