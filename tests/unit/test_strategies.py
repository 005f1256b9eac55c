"""Several processes learn what one learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import lessons
from tests.ranks import Learnt, Lesson, learn

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

STEPS = 8


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return lessons.write(tmp_path_factory.mktemp("lesson"), dropout=0.0)


class Queues:
    def __init__(self, file: Path, folder: Path) -> None:
        self._file, self._folder = file, folder

    def lesson(self, queue: str, epoch: int = 1, stop_at: int = 0, **training: Any) -> Lesson:
        # of a batch of three some tests are left over, which fill up a last batch
        changed = {"max_steps": STEPS, "eval_batch_size": 3, **training}
        return Lesson(str(self._file), str(self._folder / queue), epoch, changed, stop_at)


@pytest.fixture
def queues(file: Path, tmp_path: Path) -> Queues:
    return Queues(file, tmp_path)


def alike(one: Learnt, other: Learnt, within: float = 1e-5) -> None:
    assert one.losses == pytest.approx(other.losses, abs=within)
    assert [tried["step"] for tried in one.tried] == [6, 8]
    for tried, expected in zip(one.tried, other.tried, strict=True):
        assert tried == pytest.approx(expected, abs=within)


@pytest.mark.timeout(600)
def test_two_processes_learn_what_one_learns_from_twice_as_many_batches(
    queues: Queues, tmp_path: Path
) -> None:
    (alone,) = learn(tmp_path / "one", [queues.lesson("alone", gradient_accumulation_steps=2)], 1)
    two = {"gradient_accumulation_steps": 1}
    together, stopped, resumed = learn(
        tmp_path / "two",
        [
            queues.lesson("together", **two),
            queues.lesson("stopped", stop_at=4, **two),
            queues.lesson("stopped", epoch=2, **two),
        ],
    )
    alike(together, alone)
    assert together.weights[0] == together.weights[1]
    assert stopped.stopped
    assert resumed == together
