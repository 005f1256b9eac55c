"""A model that is a folder, from the command line to the process that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import write
from tests.workers import answers, run
from worker.engines.checkpoint import tree
from worker.items import Answer


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """Enqueued where the model lay in a folder that is gone since."""
    folder = write(tmp_path / "model")
    code, said = run("enqueue", tmp_path / "queue", "--task", "modelled", "--model", folder, "one")
    assert code == 0, said
    folder.rename(tmp_path / "moved")
    return tmp_path / "queue"


def test_a_machine_says_where_its_model_lies_and_whose_code_may_run(queue: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    named = f"model@{tree(moved)}"
    code, said = run("run", queue, "--model", moved, "--allow-code", named)
    assert code == 0, said
    (result,) = answers(queue).values()
    assert isinstance(result.outcome, Answer)
    assert result.outcome.keys == {"at": str(moved), "allowed": [named]}


def test_a_machine_without_the_model_ends_with_one_line(queue: Path, tmp_path: Path) -> None:
    code, said = run("run", queue)
    assert code == 3, said
    assert "this machine has no model tree:" in said
    assert f"{tmp_path / 'model'} is not there" in said
    assert "Traceback" not in said


def test_code_that_is_not_pinned_is_refused_before_anything_starts(queue: Path) -> None:
    code, said = run("run", queue, "--allow-code", "model@main")
    assert (code, said.count("\n")) == (2, 1), said
    assert "--allow-code model@main: write NAME@REVISION" in said
