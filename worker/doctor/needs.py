"""What the work that is meant takes here: the plan's figures, for the cards and cores that were seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worker.doctor.facts import Amount, Gpus, Model, Need, Room, Wanted
from worker.errors import WorkerError
from worker.hardware import gpus
from worker.planning import kinds, known
from worker.planning.ghosts import GhostParams, GhostProbing
from worker.planning.machine import Machine
from worker.planning.shape import Shape
from worker.planning.work import Asked, Needs
from worker.tasks.task import Params


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    params: Params
    needs: Needs


def of(wanted: Wanted, seen: Gpus, room: Room, model: Model | None) -> Need | None:
    """None: no plan knows such work, or not with such a model."""
    names = kinds.of(wanted.task or "")
    try:
        shape = known.find(wanted.model) if wanted.model and not Path(wanted.model).is_file() else None
        steps = [_step(name, wanted.model, shape, _machine(seen, room)) for name in names]
    except WorkerError:
        return None
    return _most(steps, here=model is not None and model.there) if steps else None


def _machine(seen: Gpus, room: Room) -> Machine:
    card = gpus.find(seen.cards[0].name) if seen.cards else None
    cores = max(1, int(min(room.cores, room.quota or room.cores)))
    return Machine(card.hw if card else gpus.NO_GPU, max(1, len(seen.cards)), cores)


def _step(name: str, model: str | None, shape: Shape | None, machine: Machine) -> Step:
    work = kinds.find(name)()
    params = _ghost_params(model, shape) if isinstance(work, GhostProbing) else work.params_type()
    usual = work.usual_model(params)
    shape = (shape or known.find(usual)) if usual else None
    batch = work.batch(params, machine, shape) or 1
    return Step(name, params, work.needs(Asked(machine, params, batch, shape)))


def _ghost_params(model: str | None, shape: Shape | None) -> GhostParams:
    if shape:
        return GhostParams(engine="videochat2" if shape.family == "videochat2" else "qwen")
    return GhostParams(engine="detector" if model else "motion")


def _most(steps: list[Step], *, here: bool) -> Need:
    """`here`: the model was fetched already."""
    disks = {one.name: one.needs.disk.fetched() if here else one.needs.disk for one in steps}
    return Need(
        gpu=max((Amount(one.name, one.needs.gpu_total / 1e9) for one in steps), key=_size),
        ram=max((Amount(one.name, one.needs.ram_total / 1e9) for one in steps), key=_size),
        disk=max((Amount(name, disk.now / 1e9) for name, disk in disks.items()), key=_size),
        # who means one step alone keeps nothing for the next
        at_last=max(disk.all for disk in disks.values()) / 1e9 if len(steps) > 1 else 0.0,
        four_bits=any(_in_four_bits(one.params) for one in steps),
    )


def _size(amount: Amount) -> float:
    return amount.gigabytes


def _in_four_bits(params: Params) -> bool:
    return getattr(params, "method", "") == "qlora" or getattr(params, "quantise", "") == "nf4"
