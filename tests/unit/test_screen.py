"""--screen: who may stand before whom, and how its model comes along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_asking import Scripted
from tests.unit.test_ghost_probing import Told
from worker import models
from worker.engines.engine import VisionEngine
from worker.enqueue import Wanted, agree
from worker.errors import UsageError
from worker.queue import layout
from worker.queue.recipe import Recipe, Screen, differences
from worker.queue.store import open_store
from worker.tasks.ghost_probing import GhostProbing


class Filed(Told):
    model = "file"

    @classmethod
    def check(cls, file: Path) -> None:
        pass


class Named(Scripted):
    model = "name"


ENGINES = {"motion": Told, "detector": Filed, "named": Named}


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GhostProbing, "engines", {name: name for name in ENGINES})
    for module in ("models", "enqueue"):
        monkeypatch.setattr(f"worker.{module}.engine_type", ENGINES.__getitem__)
    assert issubclass(Named, VisionEngine)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "small.onnx"
    file.write_bytes(b"weights")
    return file


def wanted(**changed: Any) -> Wanted:
    return Wanted(**{"task": "ghost-probing", "engine": "named", "model": "big", **changed})


def test_the_screens_model_travels_with_the_queue(tmp_path: Path, weights: Path) -> None:
    store = open_store(str(tmp_path / "queue"), make=True)
    run = agree(store, wanted(screen="detector", screen_model=str(weights)))
    revision = models.revision_of(weights)
    assert run.recipe.screen == Screen(engine="detector", model="small.onnx", revision=revision)
    weights.unlink()
    choice = models.choice_of(store, run.recipe, tmp_path / "models")
    assert choice
    assert (choice.engine, choice.model) == ("named", "big")
    assert choice.screen
    assert choice.screen.file
    assert choice.screen.file.read_bytes() == b"weights"
    assert [entry.name for entry in store.list(layout.MODELS)] == [
        layout.model(revision.removeprefix(models.HASH))
    ]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"screen_model": "x.onnx"}, "--screen-model is the model of a --screen"),
        ({"screen": "none"}, "has no engine 'none'"),
        ({"screen": "detector"}, "engine detector needs --model"),
        ({"screen": "motion", "screen_model": "x.onnx"}, "engine motion uses no model"),
        ({"screen": "named", "screen_model": "x"}, "cannot be a --screen"),
        ({"screen": "motion", "engine": "motion", "model": None}, "stands before a language model"),
    ],
)
def test_a_screen_that_makes_no_sense_is_refused(tmp_path: Path, changed: dict[str, Any], why: str) -> None:
    store = open_store(str(tmp_path / "queue"), make=True)
    with pytest.raises(UsageError, match=why):
        agree(store, wanted(**changed))
    assert store.get(layout.RUN) is None


def test_a_screen_is_part_of_the_recipe() -> None:
    plain, screened = Recipe(task="t"), Recipe(task="t", screen=Screen(engine="motion"))
    assert plain.fingerprint != screened.fingerprint
    assert "screen engine is None there, 'motion' here" in differences(plain, screened)
