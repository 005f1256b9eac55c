"""From what a person names to shards in the queue: recipe frozen, inputs found, items added."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker import models
from worker.errors import UsageError
from worker.queue import intake, layout
from worker.queue.inbox import keep
from worker.queue.intake import Added
from worker.queue.lines import Refused
from worker.queue.protocol import shard_size
from worker.queue.recipe import Recipe, Run, freeze, require
from worker.queue.store import Store, open_store
from worker.queue.text import encode
from worker.redact import redact
from worker.sources import find, resolve
from worker.tasks import params, registry
from worker.tasks.task import JobTask


@dataclass(frozen=True, slots=True)
class Wanted:
    """The recipe as the command line says it; without a task the queue's own counts."""

    task: str | None = None
    engine: str | None = None
    model: str | None = None
    revision: str | None = None
    settings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Enqueued:
    added: Added
    refused: Sequence[Refused]


def agree(store: Store, wanted: Wanted) -> Run:
    """Freeze the wanted recipe, or find the one that stands."""
    recipe = _recipe(store, wanted)
    task = registry.find(recipe.task)
    if wanted.model and recipe.revision and models.is_file(recipe.revision):
        models.keep(store, Path(wanted.model), recipe.revision)
    # a job has its shard, and so its checkpoints, to itself
    size = 1 if issubclass(task, JobTask) else shard_size(task.seconds_per_item)
    return freeze(store, recipe, size)


def enqueue(store: Store, wanted: Wanted, paths: Sequence[str], root: str | None) -> Enqueued:
    """Nothing is frozen before the inputs are found: a mistyped path leaves no recipe behind."""
    recipe = _recipe(store, wanted)
    task = registry.find(recipe.task)
    named = find(paths, task, recipe.params, root, intake.roots(store))
    run = agree(store, wanted)
    if named.root is not None:
        # a URL may carry a secret; what is recorded names the place alone
        place = open_store(named.root).url if "?" in named.root else named.root
        intake.add_root(store, place)
    items, refused = resolve(named.wishes, task, run.fingerprint, [named.root] if named.root else [])
    added = intake.add(store, run.shard_size, items)
    _keep(store, paths, refused)
    return Enqueued(added, refused)


def _recipe(store: Store, wanted: Wanted) -> Recipe:
    if wanted.task is None:
        if wanted.engine or wanted.model or wanted.revision or wanted.settings:
            raise UsageError(
                "--engine, --model, --revision, --lang and --set belong to a --task: name it too"
            )
        return require(store).recipe
    task = registry.find(wanted.task)
    choice = models.choose(task, wanted.engine, wanted.model, wanted.revision)
    return Recipe(
        task=task.name,
        version=task.version,
        params=params.parse_settings(task, wanted.settings).model_dump(mode="json"),
        engine=choice.engine if choice else None,
        model=choice.model if choice else None,
        revision=choice.revision if choice else None,
    )


def _keep(store: Store, paths: Sequence[str], refused: Sequence[Refused]) -> None:
    """What could not be an item is told in the results too, until the same command finds no fault."""
    said = encode([[one.line, one.why] for one in refused])
    name = redact(" ".join(paths).encode(errors="replace").decode())
    if "-" in paths:  # each standard input is another list
        name = f"{name} {hashlib.sha256(said).hexdigest()[:8]}"
    known = any(e.name.startswith(layout.takings(name)) for e in store.list(layout.TAKEN))
    if refused or known:
        keep(store, name, said, refused)
