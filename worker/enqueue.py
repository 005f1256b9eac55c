"""From what a person names to shards in the queue: recipe frozen, inputs found, items added."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from worker import models
from worker.engines.choice import Choice, engine_type
from worker.errors import UsageError
from worker.inputs import NOT_FOUND, clean, lies_there
from worker.items import Item
from worker.queue import intake, layout
from worker.queue.inbox import keep
from worker.queue.intake import Added
from worker.queue.lines import Refused
from worker.queue.protocol import Sizes
from worker.queue.recipe import Recipe, Run, Screen, freeze, require
from worker.queue.store import Store, open_store
from worker.queue.superseded import Contents, key, supersede
from worker.queue.tally import Tally
from worker.queue.text import encode
from worker.redact import redact
from worker.tasks import params, registry
from worker.tasks.registry import AnyTask
from worker.tasks.task import JobTask


@dataclass(frozen=True, slots=True)
class Wanted:
    """The recipe as the command line says it; without a task the queue's own counts."""

    task: str | None = None
    engine: str | None = None
    model: str | None = None
    revision: str | None = None
    settings: Sequence[str] = ()
    screen: str | None = None
    screen_model: str | None = None


@dataclass(frozen=True, slots=True)
class Brought:
    added: Added
    superseded: int = 0
    """items that count no longer, for their file has another content by now"""
    again: int = 0
    """items asked for again: they failed for want of the content that lies there now"""


@dataclass(frozen=True, slots=True)
class Enqueued:
    added: Added
    refused: Sequence[Refused]
    skipped: Mapping[str, int]
    """ending → how many files of that the task does not take"""
    superseded: int
    """as Brought says"""
    again: int


def agree(store: Store, wanted: Wanted) -> Run:
    """Freeze the wanted recipe, or find the one that stands."""
    recipe = _recipe(store, wanted)
    task = registry.find(recipe.task)
    for model, chosen in ((wanted.model, recipe), (wanted.screen_model, recipe.screen)):
        if model and chosen and models.is_file(chosen.revision):
            check = engine_type(task.engines[chosen.engine or ""]).check
            models.keep(store, Path(model), chosen.revision, check)
    # a job has its shard, and so its checkpoints, to itself
    sizes = Sizes(1) if issubclass(task, JobTask) else Sizes.of(task.seconds_per_item)
    at = clean(wanted.model) if wanted.model and models.is_folder(recipe.revision) else None
    return freeze(store, recipe, sizes, at)


def enqueue(store: Store, wanted: Wanted, paths: Sequence[str], root: str | None) -> Enqueued:
    """Nothing is frozen before the inputs are found: a mistyped path leaves no recipe behind."""
    from worker.sources import find, resolve  # late: a worker that only works looks for no inputs

    recipe = _recipe(store, wanted)
    task = registry.find(recipe.task)
    named = find(paths, task, recipe.params, root, intake.roots(store))
    run = agree(store, wanted)
    refused: list[Refused] = []
    if named.root is None:
        items = _items(resolve(named.wishes, task, run.fingerprint, []), refused)
        brought = Brought(intake.add(store, run.sizes, items))
    else:
        # a URL may carry a secret; what is recorded names the place alone
        place = open_store(named.root).url if "?" in named.root else named.root
        intake.add_root(store, place)
        items = _items(resolve(named.wishes, task, run.fingerprint, [named.root]), refused)
        brought = bring(store, run, items, place, named.root)
    _keep(store, paths, refused)
    return Enqueued(brought.added, refused, named.skipped, brought.superseded, brought.again)


def bring(store: Store, run: Run, items: Iterable[Item], place: str, location: str) -> Brought:
    """Files below a recorded place, which lies at `location`. Where one had another content before, that
    counts no longer."""
    keys: set[str] = set()
    contents = Contents(store, keys)
    added = intake.add(store, run.sizes, _noted(items, keys), contents.see)
    intake.add_origin(store, place, added.shards)
    if _is_first(store, added):
        return Brought(added)
    places = {one: one for one in intake.roots(store)} | {place: location}
    origins = intake.origins(store) if len(places) > 1 else {}
    superseded, back = supersede(store, contents, lies_there(places, origins))
    return Brought(added, superseded, _ask_again(store, run.sizes, back))


def _is_first(store: Store, added: Added) -> bool:
    """The first list of a queue supersedes nothing."""
    return {layout.shard_of(entry.name) for entry in store.list(layout.ITEMS)} <= set(added.shards)


def _ask_again(store: Store, sizes: Sizes, back: Collection[str]) -> int:
    """An item whose file has its content back may have been tried while another one lay there."""
    if not back:
        return 0
    look = Tally(store, lambda result: result.kind).look()
    return intake.retry(
        store, sizes, [look.items[i] for i in sorted(back) if look.answers.get(i) in NOT_FOUND]
    )


def _items(found: Iterable[Item | Refused], refused: list[Refused]) -> Iterator[Item]:
    """One by one, as there may be a million; what is none is kept aside."""
    for one in found:
        if isinstance(one, Refused):
            refused.append(one)
        else:
            yield one


def _noted(items: Iterable[Item], keys: set[str]) -> Iterator[Item]:
    for item in items:
        keys.add(key(item))
        yield item


def _recipe(store: Store, wanted: Wanted) -> Recipe:
    if wanted.task is None:
        frozen = None if any(astuple(replace(wanted, model=None))) else require(store).recipe
        if frozen is None or (wanted.model and not models.is_folder(frozen.revision)):
            raise UsageError(
                "--engine, --model, --revision, --screen, --screen-model, --lang and --set "
                "belong to a --task: name it too"
            )
        if wanted.model:
            models.recognise(wanted.model, frozen)
        return frozen
    task = registry.find(wanted.task)
    choice = models.choose(task, wanted.engine, wanted.model, wanted.revision)
    screen = models.choose_screen(task, choice, wanted.screen, wanted.screen_model)
    return Recipe(
        task=task.name,
        version=models.version(task, choice),
        params=params.parse_settings(task, wanted.settings).model_dump(mode="json"),
        engine=choice.engine if choice else None,
        model=choice.model if choice else None,
        revision=choice.revision if choice else None,
        screen=_screen(task, screen) if screen else None,
    )


def _screen(task: type[AnyTask], screen: Choice) -> Screen:
    rules = engine_type(task.engines[screen.engine]).version
    return Screen(engine=screen.engine, version=rules, model=screen.model, revision=screen.revision)


def _keep(store: Store, paths: Sequence[str], refused: Sequence[Refused]) -> None:
    """What could not be an item is told in the results too, until the same command finds no fault."""
    said = encode([[one.line, one.why] for one in refused])
    name = redact(" ".join(paths).encode(errors="replace").decode())
    if "-" in paths:  # each standard input is another list
        name = f"{name} {hashlib.sha256(said).hexdigest()[:8]}"
    known = any(e.name.startswith(layout.takings(name)) for e in store.list(layout.TAKEN))
    if refused or known:
        keep(store, name, said, refused)
