"""What a training tells of itself: metrics.jsonl, TensorBoard, W&B. It goes on where a checkpoint left it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worker.training.settings import Monitor

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
_STANDING = "standing.json"
_EVENTS = "tensorboard"


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


class Record:
    """`folder`: on this machine, the record's own. `before`: a checkpoint that is gone on from. `speaks`: one
    of several processes does; the others only know how it stands."""

    def __init__(
        self, folder: Path, monitor: Monitor, wandb: str, before: Path | None, *, speaks: bool = True
    ) -> None:
        self.standing = Standing(wandb=wandb)
        self._folder = folder
        self._speaks = speaks
        self._events = self._run = None
        if before and (before / folder.name).is_dir():
            self.standing = Standing(**json.loads((before / folder.name / _STANDING).read_text()))
        if not speaks:
            return
        if before and (before / folder.name).is_dir():
            shutil.copytree(before / folder.name, folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._events = _tensorboard(folder / _EVENTS) if monitor.tensorboard else None
        self._run = _wandb(folder, monitor, self.standing.wandb) if monitor.wandb != "off" else None

    def write(self, step: int, values: Mapping[str, float | str]) -> None:
        if not self._speaks:
            return
        with (self._folder / METRICS).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"step": step, **values}) + "\n")
        numbers = {name: one for name, one in values.items() if not isinstance(one, str)}
        if self._events:
            for name, one in numbers.items():
                self._events.add_scalar(name, one, step)
        if self._run:
            self._run.log(numbers, step=step)

    def save(self, into: Path) -> None:
        """Into a checkpoint."""
        if self._events:
            self._events.flush()
        (self._folder / _STANDING).write_text(json.dumps(asdict(self.standing)))
        shutil.copytree(self._folder, into / self._folder.name, ignore=_links)

    def close(self) -> None:
        if self._events:
            self._events.close()
        if self._run:
            self._run.finish()

    def files(self) -> Iterator[tuple[str, Path]]:
        """With the names that people see."""
        for file in sorted(self._folder.rglob("*")):
            if file.is_file() and not file.is_symlink() and file.name != _STANDING:
                yield file.relative_to(self._folder).as_posix(), file


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _links(folder: str, names: list[str]) -> set[str]:
    """W&B points at its latest run and log; a checkpoint keeps files alone."""
    return {name for name in names if Path(folder, name).is_symlink()}


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("no TensorBoard here: %s has the metrics all the same", METRICS)
        return None
    return SummaryWriter(str(folder))


def _wandb(folder: Path, monitor: Monitor, run: str) -> Any:
    try:
        import wandb
    except ImportError:
        log.warning("monitor.wandb is %s, and wandb is not installed: it is left out", monitor.wandb)
        return None
    return wandb.init(
        project=monitor.wandb_project,
        id=run,
        resume="allow",
        mode="online" if monitor.wandb == "online" else "offline",
        dir=str(folder),
    )
