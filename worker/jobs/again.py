"""A retry of a job goes on where the try before was cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from worker.items import MACHINE_KINDS, Item
from worker.queue import layout
from worker.queue.shards import pack
from worker.queue.store import Store

CUT_OFF = MACHINE_KINDS | {"error", "memory", "timeout", "crashed", "crashed-worker"}
"""failures in the middle of the work; any other kind is the task's own word on its item"""


def go_on(
    store: Store, items: Sequence[Item], kinds: Mapping[str, str | None], *, fresh: bool = False
) -> list[Item]:
    """The items, as their last tries had them, told whose checkpoints they go on from.

    `kinds`: of the failures, by id; None: it was answered. `fresh`: all begin anew."""
    names = (entry.name for entry in store.list(layout.JOBS))
    with_checkpoints = {name.split("/")[1] for name in names if layout.checkpoint_of(name)}
    cut_off = {item.id for item in items if kinds.get(item.id) in CUT_OFF and not fresh}
    return [replace(i, after=_last(i, with_checkpoints) if i.id in cut_off else "") for i in items]


def _last(item: Item, with_checkpoints: set[str]) -> str:
    """A job has its shard to itself. A try that made no checkpoint hands on what it began from."""
    shard = pack([item]).name
    return shard if shard in with_checkpoints else item.after
