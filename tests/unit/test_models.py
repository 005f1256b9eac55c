"""A recipe's model: the same one on every machine, and found on this one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest

from tests import checkpoints
from worker import models
from worker.engines import checkpoint
from worker.engines.choice import Choice
from worker.engines.engine import Reply, Request, VisionEngine
from worker.enqueue import Wanted, agree
from worker.errors import MachineError, UsageError
from worker.queue.recipe import load
from worker.queue.store import Store, open_store
from worker.tasks.ghost_probing import GhostProbing

COMMIT = "0123456789" * 4
names = count()


class Seeing(VisionEngine):
    about = "of this test"
    model = "folder"

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return [Reply("", 0) for _ in requests]


class Elsewhere(Seeing):
    model = "name"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Engines of this test, and a machine that has no model yet."""
    kinds: dict[str, type[VisionEngine]] = {"seeing": Seeing, "elsewhere": Elsewhere}
    engines: ClassVar = {**GhostProbing.engines, **{name: name for name in kinds}}
    monkeypatch.setattr(GhostProbing, "engines", engines)
    known = models.engine_type
    monkeypatch.setattr(models, "engine_type", lambda where: kinds.get(where) or known(where))
    for variable in (models.HERE, models.FOLDERS, "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture
def store() -> Store:
    return open_store(f"memory://models-{next(names)}")


def freeze(store: Store, model: Path | str, revision: str | None = None, engine: str = "seeing") -> None:
    agree(store, Wanted("ghost-probing", engine, str(model), revision))


def found(store: Store, tmp_path: Path) -> Choice:
    run = load(store)
    assert run
    choice = models.choice_of(store, run.recipe, tmp_path / "scratch")
    assert choice
    return choice


def fetch(tmp_path: Path, name: str = "owner/name", ref: str = "main") -> Path:
    """What `hf download` leaves."""
    below = tmp_path / "hf" / "hub" / f"models--{name.replace('/', '--')}"
    (below / "refs").mkdir(parents=True, exist_ok=True)
    (below / "refs" / ref).write_text(COMMIT)
    return checkpoints.write(below / "snapshots" / COMMIT)


def test_a_folder_is_found_where_it_was_enqueued_from(store: Store, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "here" / "model")
    freeze(store, folder)
    choice = found(store, tmp_path)
    assert choice == Choice("seeing", "model", checkpoint.tree(folder), folder)


def test_two_machines_with_the_folder_in_other_places_agree(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoints.write(tmp_path / "here" / "model")
    freeze(store, folder)
    there = tmp_path / "there" / "model"
    there.parent.mkdir()
    shutil.move(folder, there)
    freeze(store, there)
    monkeypatch.setenv("WORKER_MODELS", str(there.parent))
    assert found(store, tmp_path).file == there


def test_a_worker_may_say_where_its_machine_has_the_model(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoints.write(tmp_path / "model")
    freeze(store, folder)
    other = folder.rename(tmp_path / "another-name")
    agree(store, Wanted(model=str(other)))
    monkeypatch.setenv("WORKER_MODEL", str(other))
    assert found(store, tmp_path).file == other


def test_another_model_in_that_place_is_refused(store: Store, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model")
    freeze(store, folder)
    other = checkpoints.write(tmp_path / "other", {"a": b"\5" * 9000})
    with pytest.raises(UsageError, match=r"is tree:\w+, and the queue's model tree:"):
        agree(store, Wanted(model=str(other)))
    shutil.rmtree(folder)
    other.rename(folder)
    with pytest.raises(MachineError, match=rf"this machine has no model tree:\w+ \({folder} is tree:"):
        found(store, tmp_path)


def test_a_machine_without_the_folder_says_where_it_looked(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoints.write(tmp_path / "model")
    freeze(store, folder)
    shutil.rmtree(folder)
    monkeypatch.setenv("WORKER_MODELS", str(tmp_path / "models"))
    with pytest.raises(MachineError) as refused:
        found(store, tmp_path)
    for place in (folder, tmp_path / "models" / "model"):
        assert f"{place} is not there" in str(refused.value)


def test_where_the_folder_lay_is_no_part_of_the_recipe(store: Store, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model")
    freeze(store, folder)
    run = load(store)
    assert run
    assert run.model_at == str(folder)
    assert str(folder) not in json.dumps(run.recipe.model_dump())


def test_the_revision_of_a_folder_is_its_content(store: Store, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model")
    with pytest.raises(UsageError, match="and not --revision main"):
        freeze(store, folder, "main")
    freeze(store, folder, checkpoint.tree(folder))


def test_a_folder_that_cannot_be_loaded_freezes_no_recipe(store: Store, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(UsageError, match=r"has no config\.json"):
        freeze(store, tmp_path / "model")
    assert load(store) is None


def test_a_name_of_the_hub_is_pinned_to_what_was_fetched(store: Store, tmp_path: Path) -> None:
    folder = fetch(tmp_path)
    freeze(store, "owner/name")
    assert found(store, tmp_path) == Choice("seeing", "owner/name", COMMIT, folder)


@pytest.mark.parametrize("ref", ["v1.0", "refs/pr/3"])
def test_a_tag_is_pinned_to_its_commit(store: Store, tmp_path: Path, ref: str) -> None:
    fetch(tmp_path)
    (tmp_path / "hf/hub/models--owner--name/refs" / ref).parent.mkdir(parents=True, exist_ok=True)
    fetch(tmp_path, ref=ref)
    freeze(store, "owner/name", ref)
    assert found(store, tmp_path).revision == COMMIT


@pytest.mark.parametrize(
    ("revision", "said"),
    [(None, "hf download owner/name$"), ("v2", "hf download owner/name --revision v2$")],
)
def test_without_a_commit_nothing_is_frozen(
    store: Store, tmp_path: Path, revision: str | None, said: str
) -> None:
    if revision:
        fetch(tmp_path)
    with pytest.raises(UsageError, match=said):
        freeze(store, "owner/name", revision)
    assert load(store) is None


def test_weights_that_were_not_fetched_here_are_named_with_the_command(store: Store, tmp_path: Path) -> None:
    freeze(store, "owner/name", COMMIT)
    command = f"hf download owner/name --revision {COMMIT}"
    with pytest.raises(MachineError, match=command):
        found(store, tmp_path)
    (fetch(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(MachineError, match=rf"has no model\.safetensors.*{command}"):
        found(store, tmp_path)


def test_a_model_of_somebody_elses_server_is_not_looked_for(store: Store, tmp_path: Path) -> None:
    freeze(store, "owner/name", COMMIT, engine="elsewhere")
    assert found(store, tmp_path) == Choice("elsewhere", "owner/name", COMMIT)


def test_a_path_that_leads_nowhere_is_not_taken_for_a_name(store: Store, tmp_path: Path) -> None:
    for path in (str(tmp_path / "nothing"), "./nothing", "models/of/mine"):
        with pytest.raises(UsageError, match="no such folder, and no name of the hub"):
            freeze(store, path)


def test_a_folder_chooses_an_engine_that_takes_one(tmp_path: Path) -> None:
    folder, file = checkpoints.write(tmp_path / "model"), tmp_path / "detector.onnx"
    file.write_bytes(b"onnx")
    chosen = [models.choose(GhostProbing, None, str(one), None) for one in (folder, file)]
    assert [one and one.engine for one in chosen] == ["qwen", "detector"]


def test_only_the_place_of_a_folder_may_be_said_without_a_task(store: Store, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model")
    agree(store, Wanted("ghost-probing", "motion"))
    with pytest.raises(UsageError, match="belong to a --task"):
        agree(store, Wanted(model=str(folder)))
