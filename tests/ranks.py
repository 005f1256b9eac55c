"""Lessons that several processes learn together: `learn` starts them, and each runs this file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Lesson:
    file: str
    store: str
    """a folder: the queue that has the checkpoints"""
    epoch: int = 1
    training: dict[str, Any] = field(default_factory=dict)
    """what is otherwise than in the file"""
    stop_at: int = 0
    """after this step it is told to stop"""
    copy: str = ""
    """where the queue is copied to afterwards, for others to go on with"""


@dataclass(frozen=True, slots=True)
class Learnt:
    stopped: bool
    error: str
    weights: list[str]
    """their hash in each process"""
    losses: list[float]
    tried: list[dict[str, float]]


def learn(folder: Path, lessons: Sequence[Lesson], processes: int = 2) -> list[Learnt]:
    """One after the other, in the same processes: to start them takes long. One is this one."""
    folder.mkdir(parents=True, exist_ok=True)
    if processes == 1:
        alone = [_learn(one, folder / f"scratch-{at}", 0) for at, one in enumerate(lessons)]
        return [Learnt(**{**one, "weights": [one["weights"]]}) for one in alone]
    told = folder / "lessons.json"
    told.write_text(json.dumps([asdict(one) for one in lessons]))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), "-m", "tests.ranks", str(told)]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-20000:]
    said = [json.loads((folder / f"learnt-{rank}.json").read_text()) for rank in range(processes)]
    return [
        Learnt(**{**first, "weights": [one[at]["weights"] for one in said]})
        for at, first in enumerate(said[0])
    ]


def main(told: Path) -> None:
    from torch import distributed

    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    learnt = []
    for at, one in enumerate(json.loads(told.read_text())):
        learnt.append(_learn(Lesson(**one), told.parent / f"scratch-{rank}-{at}", rank))
    (told.parent / f"learnt-{rank}.json").write_text(json.dumps(learnt))
    distributed.destroy_process_group()


def _learn(lesson: Lesson, scratch: Path, rank: int) -> dict[str, Any]:
    from worker.classification.teaching import Teaching
    from worker.errors import WorkerError
    from worker.jobs.stopping import StopFlag
    from worker.jobs.workspace import Claim, Workspace
    from worker.queue.store import open_store
    from worker.tasks.task import Stopped
    from worker.training import core, record
    from worker.training.core import Run
    from worker.training.course import Course
    from worker.training.world import entered

    scratch.mkdir()
    Path(lesson.store).mkdir(exist_ok=True)
    stop, claim = StopFlag(), Claim("feed", lesson.epoch, lambda: True, lambda: True)
    workspace = Workspace(open_store(lesson.store), claim, scratch, 2, lambda _: None, lambda: None)
    progress = workspace.progress

    def progressed(step: int, *given: Any, **figures: float) -> None:
        assert rank == 0
        progress(step, *given, **figures)
        if step == lesson.stop_at:
            stop.set("moved", 30.0)

    def alive() -> None:
        assert rank == 0

    workspace.progress = progressed  # type: ignore[method-assign]
    teaching = Teaching.of(Path(lesson.file), "", "", "cpu")
    with entered("cpu") as those:
        teaching = teaching.inspected(None, alive, those)
    made: list[Course] = []

    def make() -> Course:
        made.append(teaching.course())
        return made[-1]

    training = teaching.settings.training.model_copy(update=lesson.training)
    monitor = teaching.settings.monitor.model_copy(update={"tensorboard": False})
    stopped, error = False, ""
    try:
        core.train(make, training, monitor, Run(workspace, stop, "cpu", "run"))
    except Stopped:
        stopped = True
        workspace.wait()
    except WorkerError as wrong:
        error = str(wrong)
    if lesson.copy and rank == 0:
        shutil.copytree(lesson.store, lesson.copy)
    metrics = scratch / "record" / record.METRICS
    lines = record.read(metrics) if metrics.exists() else []
    return {
        "stopped": stopped,
        "error": error,
        "weights": _hash(made[-1].model) if made else "",
        "losses": [one["training/loss"] for one in lines if "training/loss" in one],
        "tried": [one for one in lines if "eval/overall_loss" in one],
    }


def _hash(model: Any) -> str:
    """As they are in this process; of what is shared out, all of it."""
    digest = hashlib.sha256()
    for _, tensor in sorted(model.state_dict().items()):
        whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        digest.update(whole.contiguous().cpu().float().numpy().tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
