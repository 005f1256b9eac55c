"""The model of a recipe, named so that it is the same one on every machine, and found on this one.

One file travels with the queue. A folder is known by its name and a hash of what is in it, a model of the
hub by its commit; they are too large to travel, so each machine has them somewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from worker.engines import checkpoint, hub
from worker.engines.choice import Choice, engine_type
from worker.errors import MachineError, UsageError
from worker.inputs import clean
from worker.jobs.checkpoints import hash_file
from worker.queue import layout
from worker.queue.recipe import Recipe, Screen, require
from worker.queue.store import Store
from worker.tasks import registry
from worker.tasks.registry import AnyTask

MOST_GB = 2.0
HASH = "sha256:"
HERE, FOLDERS = "WORKER_MODEL", "WORKER_MODELS"
"""where this machine has the model of a recipe, and a folder of such folders"""


def is_file(revision: str | None) -> TypeGuard[str]:
    return revision is not None and revision.startswith(HASH)


def is_folder(revision: str | None) -> bool:
    return revision is not None and revision.startswith(checkpoint.TREE)


def choose(task: type[AnyTask], engine: str | None, model: str | None, revision: str | None) -> Choice | None:
    """What a person asked for, made complete or refused. Without a word: the engine that needs nothing."""
    if not task.engines:
        if engine or model or revision:
            raise UsageError(f"task {task.name} uses no model: leave --engine, --model and --revision out")
        return None
    name = engine_of(task, engine, model)
    if name not in task.engines:
        known = ", ".join(task.engines)
        raise UsageError(f"task {task.name} has no engine '{name}'; it has {known}")
    kind = engine_type(task.engines[name]).model
    if kind == "none":
        if model or revision:
            raise UsageError(f"engine {name} uses no model: leave --model and --revision out")
        return Choice(name)
    if model is None:
        raise UsageError(f"engine {name} needs --model, {_MEANS[kind]}")
    if kind == "name":
        return Choice(name, model, revision)
    if kind == "folder":
        return Choice(name, *_pinned(model, revision))
    found = revision_of(Path(model))
    if revision not in (None, found):
        raise UsageError(f"--model {model} is {found}, and not --revision {revision}")
    return Choice(name, Path(model).name, found)


def engine_of(task: type[AnyTask], engine: str | None, model: str | None) -> str:
    """Of a task that has some."""
    return engine or (_that_takes(task, model) if model else next(iter(task.engines)))


_MEANS = {
    "file": "the file that holds its weights",
    "folder": "the folder that holds its weights, or its name on the hub (owner/name)",
    "name": "its name there",
}


def _pinned(model: str, revision: str | None) -> tuple[str, str]:
    """Name and revision, the same on every machine that has this model."""
    if (folder := Path(model)).is_dir():
        checkpoint.check(folder)
        found = checkpoint.tree(folder)
        if revision not in (None, found):
            raise UsageError(f"--model {model} is {found}, and not --revision {revision}")
        return Path(clean(model)).name, found
    if not hub.is_name(model):
        raise UsageError(f"--model {model}: no such folder, and no name of the hub (owner/name)")
    if commit := hub.commit(model, revision or "main"):
        return model, commit
    raise UsageError(
        f"--model {model} is no folder, and of the hub's model it is not known which commit is meant: give "
        f"its 40 hex digits with --revision, or fetch it first: {hub.fetch(model, revision)}"
    )


def recognise(model: str, recipe: Recipe) -> None:
    """Of a queue that has its recipe --model may say where this machine keeps its folder."""
    if not Path(model).is_dir():
        raise UsageError(f"--model {model}: no such folder")
    if (found := checkpoint.tree(Path(model))) != recipe.revision:
        raise UsageError(f"--model {model} is {found}, and the queue's {recipe.model} {recipe.revision}")


def choose_screen(
    task: type[AnyTask], choice: Choice | None, screen: str | None, model: str | None
) -> Choice | None:
    """Who looks at all of an item on a CPU, and lets only what is suspicious to the engine that is chosen."""
    if screen is None:
        if model:
            raise UsageError("--screen-model is the model of a --screen: name that too")
        return None
    from worker.engines.engine import Finder, VisionEngine

    found = choose(task, screen, model, None)
    if choice is None or not issubclass(engine_type(task.engines[choice.engine]), VisionEngine):
        raise UsageError("--screen stands before a language model: name that with --engine")
    if found is None or not issubclass(engine_type(task.engines[found.engine]), Finder):
        raise UsageError(f"engine {screen} cannot be a --screen: it does not look at clips on a CPU")
    return found


def _that_takes(task: type[AnyTask], model: str) -> str:
    kinds = {name: engine_type(where).model for name, where in task.engines.items()}
    with_one = [name for name, kind in kinds.items() if kind != "none"] or [*kinds]
    looks_like = "folder" if Path(model).is_dir() else "file"
    return next((name for name in with_one if kinds[name] == looks_like), with_one[0])


def version(task: type[AnyTask], choice: Choice | None) -> str:
    """Of the rules that answer. The first version of an engine's goes without saying."""
    rules = engine_type(task.engines[choice.engine]).version if choice else "1"
    return task.version if rules == "1" else f"{task.version}.{rules}"


def revision_of(file: Path) -> str:
    """What a file's content is known by, on every machine."""
    try:
        if file.stat().st_size > MOST_GB * 1e9:
            raise UsageError(
                f"{file} is larger than {MOST_GB:g} GB: a model of one file is meant to be small"
            )
        return HASH + hash_file(file).sha256
    except OSError as error:
        raise UsageError(f"--model {file}: {error.strerror}; name the model's file") from None


def keep(store: Store, file: Path, revision: str, check: Callable[[Path], None]) -> None:
    """Into the queue, unless it is there; `check` looks at it first."""
    name = layout.model(revision.removeprefix(HASH))
    if store.head(name) is None:
        check(file)
        store.upload(name, file)


def choice_of(store: Store, recipe: Recipe, folder: Path) -> Choice | None:
    """The recipe's engine and its screen, and where their models lie here: one file is fetched into `folder`,
    folders are looked for."""
    if recipe.engine is None:
        return None
    engines = registry.find(recipe.task).engines
    screen = _choice(store, recipe.screen, engines, folder) if recipe.screen else None
    return replace(_choice(store, recipe, engines, folder), screen=screen)


def _choice(store: Store, recipe: Recipe | Screen, engines: Mapping[str, str], folder: Path) -> Choice:
    assert recipe.engine
    model, revision = recipe.model or "", recipe.revision or ""
    lies = None
    if is_file(revision):
        lies = _fetched(store, model, revision, folder)
    elif is_folder(revision):
        lies = _found(model, revision, require(store).model_at)
    elif hub.is_commit(revision) and engine_type(engines[recipe.engine]).model == "folder":
        lies = _snapshot(model, revision)
    return Choice(recipe.engine, recipe.model, recipe.revision, lies)


def lying(model: str, revision: str, place: str | None) -> Path:
    """Where this machine has the folder of a model that something else stands upon; `place`: where another
    had it."""
    return _snapshot(model, revision) if hub.is_commit(revision) else _found(model, revision, place)


def _fetched(store: Store, model: str, revision: str, folder: Path) -> Path:
    file = folder / f"{revision.removeprefix(HASH)}{Path(model).suffix}"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        store.download(layout.model(revision.removeprefix(HASH)), file)
    if revision_of(file) != revision:
        raise MachineError(f"{store.url}: the model {model} is damaged, its sha256 is another one")
    return file


def _found(model: str, revision: str, enqueued_from: str | None) -> Path:
    """The folder whose content is that of the recipe."""
    below = os.environ.get(FOLDERS)
    places = [os.environ.get(HERE), enqueued_from, str(Path(below, model)) if below else None]
    others = []
    for place in dict.fromkeys(Path(clean(one)) for one in places if one):
        if not place.is_dir():
            others.append(f"{place} is not there")
        elif (found := checkpoint.tree(place)) == revision:
            checkpoint.check(place)
            return place
        else:
            others.append(f"{place} is {found}")
    raise MachineError(
        f"this machine has no {model} {revision} ({'; '.join(others) or 'nobody said where'}): copy it here "
        f"whole, and name its folder with --model or the one above it with {FOLDERS}"
    )


def _snapshot(model: str, commit: str) -> Path:
    fetch = hub.fetch(model, commit)
    if (folder := hub.snapshot(model, commit)) is None:
        raise MachineError(f"this machine has no {model} {commit}: fetch it with {fetch}")
    try:
        checkpoint.check(folder)
    except UsageError as error:
        raise MachineError(f"{error} ({fetch})") from None
    return folder
