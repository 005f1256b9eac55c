"""A checkpoint of another training is taken whole, and of the same model, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worker.errors import ItemError
from worker.training.beginning import find, require_same

numpy = pytest.importorskip("numpy")
safetensors = pytest.importorskip("safetensors.numpy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoint-1000"
    made.mkdir()
    (made / "trainer_state.json").write_text('{"global_step": 1000, "max_steps": 2000}')
    (made / "config.json").write_text(
        json.dumps({"id2label": {"1": "dog", "0": "cat", "10": "emu", "2": "eel"}})
    )
    safetensors.save_file({"a": numpy.zeros(1), "b": numpy.zeros(1)}, made / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt"):
        (made / name).touch()
    return made


def of(*names: str, size: int = 1) -> dict[str, Any]:
    return {name: numpy.zeros(size) for name in names}


def test_a_trainers_folder_says_its_step(folder: Path, tmp_path: Path) -> None:
    found = find("checkpoint-1000", folder.parent, tmp_path)
    assert (found.step, found.folder) == (1000, folder)
    require_same(of("a", "b"), ["cat", "dog", "eel", "emu"], found)


def test_what_would_be_left_random_or_begun_anew_is_refused(folder: Path, tmp_path: Path) -> None:
    found = find("checkpoint-1000", folder.parent, tmp_path)
    with pytest.raises(ItemError, match="another model: 2 tensors differ, such as b"):
        require_same(of("a", "c"), ["cat", "dog", "eel", "emu"], found)
    with pytest.raises(ItemError, match="another model: 2 tensors differ, such as a"):
        require_same(of("a", "b", size=2), ["cat", "dog", "eel", "emu"], found)
    with pytest.raises(ItemError, match=r"4 classes \(cat, dog, eel, …\) apart, and the data sets have 2"):
        require_same(of("a", "b"), ["cat", "dog"], found)
    (folder / "optimizer.pt").unlink()
    with pytest.raises(ItemError, match=r"it lacks optimizer\.pt"):
        find("checkpoint-1000", folder.parent, tmp_path)


def test_what_is_neither_a_checkpoint_nor_a_queue_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=r"no checkpoint of a Trainer .*, and no queue"):
        find("gone/checkpoint-7", tmp_path, tmp_path)
