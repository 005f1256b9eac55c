"""`worker plan`"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import click

from worker.cli.options import BATCH, NumberOr, settings_of

if TYPE_CHECKING:
    from worker.planning.machine import Machine
    from worker.planning.plan import Plan
    from worker.planning.shape import Shape
    from worker.planning.work import Work
    from worker.tasks.task import Params


class Amount(click.FloatRange):
    """More than nothing, and no infinity."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        amount: float = super().convert(value, param, ctx)
        if not isfinite(amount):
            self.fail(f"{value!r} is no amount", param, ctx)
        return amount


@click.command()
@click.argument("task", required=False)
@click.option("--engine", help="which kind of model answers")
@click.option("--model", help="a model that plans know, or the folder of one")
@click.option("--hw", metavar="NAME", help="the machine: the name of its profile")
@click.option(
    "--gpus",
    type=NumberOr("all", "number of GPUs"),
    default="1",
    show_default=True,
    help="how many of its GPUs",
)
@click.option("--gpu-memory", type=Amount(), metavar="GB", help="of a card, as it is sold")
@click.option(
    "--items", type=click.IntRange(0), help="clips, boards or pictures  [default: as in the reference]"
)
@click.option("--seconds-per-clip", type=Amount(), help="how long a clip is")
@click.option("--batch", type=BATCH, default="auto", show_default=True, help="samples at once on a GPU")
@click.option(
    "--set", "settings", multiple=True, envvar="WORKER_SET", metavar="KEY=VALUE", help="a parameter"
)
@click.option("--price", metavar="USD|FILE", help="of one GPU and hour, or a table  [default: our own table]")
@click.option(
    "--cores",
    type=click.IntRange(1),
    help="of the machine's CPU  [default: 8 a GPU; with --gpus all this machine's]",
)
@click.option("--ram", type=Amount(), help="GB of memory that the machine has")
@click.option("--disk", type=Amount(), help="GB that are free on its disk")
@click.option("--json", is_flag=True, help="for machines")
def command(
    task: str | None,
    engine: str | None,
    model: str | None,
    hw: str | None,
    gpus: int | None,
    gpu_memory: float | None,
    items: int | None,
    seconds_per_clip: float | None,
    batch: int | None,
    settings: tuple[str, ...],
    price: str | None,
    cores: int | None,
    ram: float | None,
    disk: float | None,
    json: bool,
) -> int | None:
    """What TASK needs on a machine: memory, disk, time and money. Exit code 3: it does not fit.

    Without TASK: what there are plans for."""
    from worker.cli import plan_page
    from worker.errors import MachineError, UsageError
    from worker.hardware.gpus import HARDWARE
    from worker.planning import kinds
    from worker.queue.text import dumps

    if task is None:
        click.echo("\n".join(plan_page.kinds(kinds.find(name) for name in kinds.KINDS)))
        return None
    found = kinds.of(task) or [kinds.find(task).name]
    if hw is None:
        raise UsageError(f"--hw says for which machine: {', '.join(sorted(HARDWARE))}")
    machine = _machine(hw, gpus, gpu_memory, cores, ram, disk)
    said = [("engine", engine), ("seconds_per_clip", seconds_per_clip)]
    wished = [f"{name}={value}" for name, value in said if value is not None]
    stated = settings_of([*wished, *settings], None)
    plans = [_plan(name, machine, stated, model, batch, items, price) for name in found]
    pages = (dumps(one.as_json()) if json else "\n".join(plan_page.page(one)) for one in plans)
    click.echo(("\n" if json else "\n\n").join(pages))
    return None if all(one.fits for one in plans) else MachineError.exit_code


def _plan(
    task: str,
    machine: Machine,
    settings: Sequence[str],
    model: str | None,
    batch: int | None,
    items: int | None,
    price: str | None,
) -> Plan:
    from worker.planning import kinds, money, plan
    from worker.tasks.params import parse_settings

    kind = kinds.find(task)
    work = kind()
    params = parse_settings(kind, settings)
    return plan.make(
        work,
        params,
        machine,
        shape=_shape(work, params, model),
        batch=batch,
        items=items,
        price=money.find(machine.hw, price),
    )


def _machine(
    hw: str,
    count: int | None,
    gpu_memory: float | None,
    cores: int | None,
    ram: float | None,
    disk: float | None,
) -> Machine:
    """`count` None: the cards that are here, and the cores."""
    from worker.hardware import gpus
    from worker.planning import here
    from worker.planning.learnt import Learnt
    from worker.planning.machine import Machine

    card, said = gpus.of(hw), cores is not None or count is None
    if count is None:
        count, card = here.cards(card)
        cores = cores or here.cores()
    if gpu_memory and card:
        card = gpus.sized(card, gpu_memory)
    reached, reached_on = Learnt().of(card)
    return Machine(hw, count, cores or 8 * count, ram, disk, reached, reached_on, card, said)


def _shape(work: Work[Any], params: Params, model: str | None) -> Shape | None:
    from worker.errors import UsageError
    from worker.planning import known

    usual = work.usual_model(params)
    if usual is None:
        if model:
            raise UsageError(f"a plan for {work.name} takes no --model here: leave it out")
        return None
    return known.find(model or usual)
