"""What cannot fit is refused before a model is loaded: by the cards as they are, not as a profile says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from worker import models
from worker.engines.choice import LOCAL, Choice
from worker.errors import MachineError, WorkerError
from worker.hardware import cards, gpus
from worker.hardware.cards import Card
from worker.hardware.gpus import SHARE
from worker.planning import known
from worker.planning.ghosts import GhostParams, memory, params_of
from worker.planning.shape import Shape
from worker.queue.recipe import Recipe
from worker.queue.store import Store

QUERY = ("--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class Room:
    """Of one card."""

    label: str
    mib: int

    @property
    def total(self) -> int:
        return self.mib * gpus.MIB

    @property
    def usable(self) -> float:
        return gpus.room(self.mib)


def rooms(chosen: Sequence[Card], told: str) -> list[Room]:
    """`told`: what nvidia-smi answers to QUERY. Slices of cards, and those of other makers, are not in it."""
    found: dict[str, Room] = {}
    for line in told.splitlines():
        index, uuid, name, size = ([*map(str.strip, line.split(",")), "", "", ""])[:4]
        if size.isdecimal():
            found[index] = found[uuid] = Room(name, int(size))
    return [found[one.name] for one in chosen if one.name in found]


def refuse(store: Store, recipe: Recipe, chosen: Sequence[Card], workers: int) -> None:
    """Raises if not even one clip at a time fits; says nothing where something is not known."""
    if recipe.task != "ghost-probing" or recipe.engine not in LOCAL:
        return
    if found := rooms(chosen, cards.nvidia_smi(*QUERY)):
        try:
            shape = known.of_choice(_choice(store, recipe))
            params = params_of(recipe.engine, recipe.params)
        except (WorkerError, ValueError):
            return  # what is wrong there, the worker itself says best
        compare(shape, params, min(found, key=lambda one: one.mib), ceil(workers / len(chosen)))


def compare(shape: Shape, params: GhostParams, room: Room, workers: int = 1) -> None:
    """`workers` that share a card."""
    need = workers * sum(memory(shape, params, batch=1).values())
    if need <= room.usable:
        return
    small = params.model_copy(update={"quantise": "nf4"})
    less = workers * sum(memory(shape, small, batch=1).values())
    remedy = "a larger card or a smaller model"
    if workers > 1:
        remedy = "fewer --workers"
    elif params.quantise == "none" and shape.stored == "none" and less <= room.usable:
        remedy = f"another queue with --set quantise=nf4, {less / 1e9:.1f} GB"
    raise MachineError(
        f"{shape.name} needs {need / 1e9:.1f} GB of GPU memory, and {room.label} has {room.total / 1e9:.1f}, "
        f"of which {SHARE:.0%} may be used: take {remedy}; `worker plan` says more, --force tries it"
    )


def _choice(store: Store, recipe: Recipe) -> Choice:
    alone = recipe.model_copy(update={"screen": None})
    choice = models.choice_of(store, alone, Path())
    if choice is None or choice.file is None:
        raise MachineError("the model lies elsewhere")
    return choice
