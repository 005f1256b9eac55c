"""What a training writes down goes on where its checkpoint left it."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.training.record import METRICS, Record, read
from worker.training.settings import Monitor

PLAIN = Monitor(tensorboard=False)


def test_lines_behind_the_checkpoint_are_gone_and_those_before_it_stay(tmp_path: Path) -> None:
    first = Record(tmp_path / "a" / "record", PLAIN, "run", None)
    first.write(1, {"training/loss": 2.0, "perf/mfu": "unknown"})
    first.standing.best, first.standing.best_step = 0.5, 1
    (tmp_path / "checkpoint").mkdir()
    first.save(tmp_path / "checkpoint")
    first.write(2, {"training/loss": 1.0})
    second = Record(tmp_path / "b" / "record", PLAIN, "run", tmp_path / "checkpoint")
    second.write(2, {"training/loss": 1.5})
    assert read(dict(second.files())[METRICS]) == [
        {"step": 1, "training/loss": 2.0, "perf/mfu": "unknown"},
        {"step": 2, "training/loss": 1.5},
    ]
    assert (second.standing.best, second.standing.best_step) == (0.5, 1)


def test_tensorboard_reads_the_same_names(tmp_path: Path) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    record = Record(tmp_path / "record", Monitor(), "run", None)
    record.write(3, {"eval/overall_accuracy": 0.25, "perf/mfu": "unknown"})
    record.close()
    (file,) = (tmp_path / "record" / "tensorboard").iterdir()
    found = events.EventAccumulator(str(file)).Reload()
    assert [(one.step, one.value) for one in found.Scalars("eval/overall_accuracy")] == [(3, 0.25)]
    assert found.Tags()["scalars"] == ["eval/overall_accuracy"]


def test_a_run_of_wandb_goes_on_under_its_id_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    offline = Monitor(tensorboard=False, wandb="offline")
    first = Record(tmp_path / "a" / "record", offline, "feed", None)
    first.write(1, {"training/loss": 2.0})
    (tmp_path / "checkpoint").mkdir()
    first.save(tmp_path / "checkpoint")
    first.close()
    second = Record(tmp_path / "b" / "record", offline, "another", tmp_path / "checkpoint")
    second.write(2, {"training/loss": 1.0})
    second.close()
    kept = {name for name, _ in second.files() if name.endswith(".wandb")}
    assert {Path(name).name for name in kept} == {"run-feed.wandb"}
