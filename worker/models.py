"""A model that is one file travels with the queue: whoever works on it needs nothing but the queue's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker.engines.choice import Choice, engine_type
from worker.errors import MachineError, UsageError
from worker.jobs.checkpoints import hash_file
from worker.queue import layout
from worker.queue.recipe import Recipe
from worker.queue.store import Store
from worker.tasks.registry import AnyTask

MOST_GB = 2.0
HASH = "sha256:"


def is_file(revision: str) -> bool:
    return revision.startswith(HASH)


def choose(task: type[AnyTask], engine: str | None, model: str | None, revision: str | None) -> Choice | None:
    """What a person asked for, made complete or refused. Without a word: the engine that needs nothing."""
    if not task.engines:
        if engine or model or revision:
            raise UsageError(f"task {task.name} uses no model: leave --engine, --model and --revision out")
        return None
    name = engine or (_first_with_a_model(task) if model else next(iter(task.engines)))
    if name not in task.engines:
        known = ", ".join(task.engines)
        raise UsageError(f"task {task.name} has no engine '{name}'; it has {known}")
    kind = engine_type(task.engines[name]).model
    if kind == "none":
        if model or revision:
            raise UsageError(f"engine {name} uses no model: leave --model and --revision out")
        return Choice(name)
    if model is None:
        raise UsageError(f"engine {name} needs --model, the {kind} that holds its weights")
    if kind == "folder":
        return Choice(name, model, revision)
    found = revision_of(Path(model))
    if revision not in (None, found):
        raise UsageError(f"--model {model} is {found}, and not --revision {revision}")
    return Choice(name, Path(model).name, found)


def _first_with_a_model(task: type[AnyTask]) -> str:
    kinds = {name: engine_type(where).model for name, where in task.engines.items()}
    return next((name for name, kind in kinds.items() if kind != "none"), next(iter(kinds)))


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
    """The recipe's engine, its model's file fetched into `folder` and checked."""
    if recipe.engine is None:
        return None
    revision = recipe.revision or ""
    if not is_file(revision):
        return Choice(recipe.engine, recipe.model, recipe.revision)
    file = folder / f"{revision.removeprefix(HASH)}{Path(recipe.model or '').suffix}"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        store.download(layout.model(revision.removeprefix(HASH)), file)
    if revision_of(file) != revision:
        raise MachineError(f"{store.url}: the model {recipe.model} is damaged, its sha256 is another one")
    return Choice(recipe.engine, recipe.model, recipe.revision, file)
