"""The recipe of a run: what is done to every item. It is frozen in run.json by the first who enqueues."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from worker.errors import UsageError
from worker.queue import layout
from worker.queue.protocol import SHARD_MOST, Sizes
from worker.queue.store import Store
from worker.queue.text import dumps, encode


class Screen(BaseModel):
    """Who looks first, before the engine that is dear."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str
    version: str = "1"
    """of its rules"""
    model: str | None = None
    revision: str | None = None


class Recipe(BaseModel):
    """Everything an answer depends on. Library versions and the device are provenance, not part of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    version: str = "1"
    """of the task's prompts and rules, and of its engine's"""
    params: dict[str, Any] = {}
    engine: str | None = None
    model: str | None = None
    revision: str | None = None
    screen: Screen | None = None

    @property
    def fingerprint(self) -> str:
        # a recipe without a screen has the fingerprint that it had before there were screens
        left_out = {"screen"} if self.screen is None else set()
        return hashlib.sha256(dumps(self.model_dump(exclude=left_out)).encode()).hexdigest()[:16]


class Run(BaseModel):
    """run.json"""

    model_config = ConfigDict(frozen=True, extra="ignore")

    protocol: int = 1
    fingerprint: str
    recipe: Recipe
    shard_size: int
    shard_least: int = SHARD_MOST
    """however short a list is"""
    model_at: str | None = None
    """the folder that the model lay in when the recipe was frozen: a hint, and no part of the fingerprint"""

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.shard_size, self.shard_least)


def load(store: Store) -> Run | None:
    data = store.get(layout.RUN)
    if data is None:
        return None
    try:
        run = Run.model_validate_json(data)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise UsageError(
            f"{store.url}/{layout.RUN} is not a recipe ({where}: {error.errors()[0]['msg']}); "
            "use another queue, or one written by this version"
        ) from None
    if run.protocol != 1:
        raise UsageError(f"{store.url} speaks protocol {run.protocol}, this worker 1: use a newer worker")
    return run


def require(store: Store) -> Run:
    run = load(store)
    if run is None:
        raise UsageError(
            f"{store.url} has no recipe yet: enqueue first "
            f"(worker enqueue {store.url} --task TASK PATH…), or run it with --task"
        )
    return run


def freeze(store: Store, recipe: Recipe, sizes: Sizes, model_at: str | None = None) -> Run:
    """Write run.json, or find the same recipe there; another recipe is refused (rule 9)."""
    run = Run(
        fingerprint=recipe.fingerprint,
        recipe=recipe,
        shard_size=sizes.usual,
        shard_least=sizes.least,
        model_at=model_at,
    )
    frozen = load(store)
    if frozen is None:
        store.create(layout.RUN, encode(run.model_dump()))
        frozen = require(store)
    if frozen.fingerprint != run.fingerprint:
        raise UsageError(
            f"{store.url} already holds another recipe ({differences(frozen.recipe, recipe)}): "
            "use a new queue for the new recipe"
        )
    return frozen


def differences(frozen: Recipe, asked: Recipe) -> str:
    """What a person must know to see why two recipes are not one."""
    was, now = _flat(frozen), _flat(asked)
    changed = [key for key in sorted(was | now) if was.get(key) != now.get(key)]
    return ", ".join(f"{key} is {was.get(key)!r} there, {now.get(key)!r} here" for key in changed)


def _flat(recipe: Recipe) -> dict[str, Any]:
    fields = recipe.model_dump()
    screen = {f"screen {key}": value for key, value in (fields.pop("screen") or {}).items()}
    return {**fields.pop("params"), **fields, **screen}
