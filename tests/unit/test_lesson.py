"""The whole way with the other family: a lesson is learned, and its folder of files answers pictures."""

from __future__ import annotations

import csv
from pathlib import Path
from uuid import uuid4

import pytest

from tests import lessons
from worker.engines.choice import Choice
from worker.items import Answer, Item
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Claim, Workspace
from worker.queue.store import open_store
from worker.tasks.classify import Classify, ClassifyParams
from worker.tasks.classify_train import ClassifyTrain, ClassifyTrainParams

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")


def test_qwen3_vl_learns_and_its_folder_answers_what_its_predictions_say(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    file = lessons.write(tmp_path, family="qwen3_vl")
    (tmp_path / "colours" / "train" / "red" / "0.png").write_bytes(b"no picture")
    store = open_store(f"memory://{uuid4().hex}")
    (tmp_path / "room").mkdir()
    claim = Claim("feed", 1, lambda: True, lambda: True)
    workspace = Workspace(store, claim, tmp_path / "room", 2, lambda _: None, lambda: None)
    task = ClassifyTrain(ClassifyTrainParams())
    outcome = task.run(Item("food", file.name, file=file), workspace, StopFlag())
    assert isinstance(outcome, Answer)
    assert outcome.keys["overall_accuracy"] >= 0.9
    assert outcome.keys["pictures"] == {"train": 47, "test": 16, "left_out": 1}

    folder = tmp_path / "learned"
    folder.mkdir()
    for name, stored in workspace.published.items():
        store.download(stored, folder / name)
    asked = Classify(ClassifyParams(), Choice("classifier", folder.name, file=folder))
    asked.open("cpu")
    rows = [*csv.DictReader((folder / "predictions.csv").open())]
    pictures = [tmp_path / "colours" / "test" / row["picture"] for row in rows]
    told = asked.answer([asked.prepare(Item(one.name, one.name, file=one)) for one in pictures])
    assert [one.keys["class"] for one in told] == [row["said"] for row in rows]
    assert [one.keys["share"] for one in told] == pytest.approx(
        [float(row["share"]) for row in rows], abs=2e-3
    )
