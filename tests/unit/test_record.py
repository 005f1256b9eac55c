"""What a training writes down goes on where its checkpoint left it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from worker.training import record
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
    written = Record(tmp_path / "record", Monitor(), "run", None)
    written.write(3, {"eval/overall_accuracy": 0.25, "perf/mfu": "unknown"})
    written.close()
    (file,) = (tmp_path / "record" / "tensorboard").iterdir()
    found = events.EventAccumulator(str(file)).Reload()
    assert [(one.step, one.value) for one in found.Scalars("eval/overall_accuracy")] == [(3, 0.25)]
    assert found.Tags()["scalars"] == ["eval/overall_accuracy"]


def test_a_killed_training_leaves_no_step_twice_in_tensorboard(tmp_path: Path) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    second = killed_and_resumed(tmp_path, Monitor())
    (file,) = (file for name, file in second.files() if name.startswith("tensorboard/"))
    found = events.EventAccumulator(str(file)).Reload()
    assert [(one.step, one.value) for one in found.Scalars("training/loss")] == [(1, 2.0), (2, 1.5), (3, 0.5)]


def test_a_run_of_wandb_goes_on_under_its_id_with_each_step_once_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    secret = "0123456789abcdef" * 2 + "deadbeef"
    monkeypatch.setenv("WANDB_API_KEY", secret)
    second = killed_and_resumed(tmp_path, Monitor(tensorboard=False, wandb="offline"))
    (run,) = (file for name, file in second.files() if name.endswith(".wandb"))
    assert run.name == "run-feed.wandb"
    assert [(row["_step"], row["training/loss"]) for row in history(run)] == [(1, 2.0), (2, 1.5), (3, 0.5)]
    kept = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in kept if secret.encode() in file.read_bytes()]
    assert secret not in "".join(capfd.readouterr())


def test_a_server_is_not_told_again_what_it_was_told_before_the_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    online = SimpleNamespace(starting_step=3, log=lambda _, step: told.append(step))
    monkeypatch.setattr(record, "_wandb", lambda *_: online)
    first = Record(tmp_path / "a" / "record", PLAIN, "feed", None)
    first.write(1, {"training/loss": 2.0})
    (tmp_path / "checkpoint").mkdir()
    first.save(tmp_path / "checkpoint")
    second = Record(
        tmp_path / "b" / "record", Monitor(tensorboard=False, wandb="online"), "feed", tmp_path / "checkpoint"
    )
    for step in (2, 3, 4):
        second.write(step, {"training/loss": 1.0})
    assert told == [3, 4]
    assert [one["step"] for one in read(dict(second.files())[METRICS])] == [1, 2, 3, 4]


def killed_and_resumed(folder: Path, monitor: Monitor) -> Record:
    """A checkpoint at step 1, death behind step 2, and another that goes on to step 3."""
    first = Record(folder / "a" / "record", monitor, "feed", None)
    first.write(1, {"training/loss": 2.0})
    (folder / "checkpoint").mkdir()
    first.save(folder / "checkpoint")
    first.write(2, {"training/loss": 1.0})
    first.close()  # what it has written by then is not read again
    second = Record(folder / "b" / "record", monitor, "another", folder / "checkpoint")
    second.write(2, {"training/loss": 1.5})
    second.write(3, {"training/loss": 0.5})
    second.close()
    return second


def history(file: Path) -> list[dict[str, Any]]:
    """What W&B's file holds: records of protobuf in blocks of 32 KiB, as LevelDB's log has them."""
    from wandb.proto.wandb_internal_pb2 import Record as Told

    data, at, rows, torn = file.read_bytes(), 7, [], b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        torn += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            told, torn = Told.FromString(torn), b""
            items = told.history.item
            rows += [{one.key or one.nested_key[0]: json.loads(one.value_json) for one in items}] * bool(
                items
            )
    return rows
