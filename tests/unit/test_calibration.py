"""What calibrates is what was learnt and what will be asked: the same tokens, the same pixels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import board_lessons, tiny_models
from worker.inspector import reading
from worker.inspector import samples as lessons
from worker.quantising import samples

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_board_is_shown_as_in_training(family: str, tmp_path: Path) -> None:
    board_lessons.write(tmp_path, family, boards=1, side=100)
    calibrating, learning = samples.Reader.of(tmp_path / "base"), reading.Reader.of(tmp_path / "base")
    boards = tmp_path / "boards"
    drawn = samples.read(tmp_path / "train.jsonl", boards, 1)[0]
    learnt = lessons.read(tmp_path / "train.jsonl", boards, learning.sight)
    (one,) = [row for row in learnt if row.files == drawn.pictures]
    mine, _ = calibrating.inputs(drawn)
    theirs = learning.learn([lessons.shown(one)])
    ids = theirs["input_ids"][0].tolist()
    assert mine["input_ids"][0].tolist()[: len(ids)] == ids  # the template goes on behind an answer's end
    assert torch.equal(mine["pixel_values"], theirs["pixel_values"])
    assert mine["image_grid_thw"].tolist() == theirs["image_grid_thw"].tolist()
