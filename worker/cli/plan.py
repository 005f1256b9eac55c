"""`worker plan`"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from worker.cli.options import Batch, settings_of

if TYPE_CHECKING:
    from worker.planning.shape import Shape
    from worker.planning.work import Work
    from worker.tasks.task import Params


class Gpus(click.ParamType[int]):
    """A number, or all: those of this machine."""

    name = "n|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "all":
            from worker.hardware import cards

            return max(1, len(cards.cards(cards.Machine())))
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is no number of GPUs; write one from 1, or all", param, ctx)
        return number


@click.command()
@click.argument("task", required=False)
@click.option("--engine", help="which kind of model answers")
@click.option("--model", help="a model that plans know, or the folder of one")
@click.option("--hw", metavar="NAME", help="the machine: the name of its profile")
@click.option("--gpus", type=Gpus(), default="1", show_default=True, help="how many of its GPUs")
@click.option(
    "--items", type=click.IntRange(0), help="clips, boards or pictures  [default: as in the reference]"
)
@click.option("--seconds-per-clip", type=click.FloatRange(0, min_open=True), help="how long a clip is")
@click.option("--batch", type=Batch(), default="auto", show_default=True, help="samples at once on a GPU")
@click.option(
    "--set", "settings", multiple=True, envvar="WORKER_SET", metavar="KEY=VALUE", help="a parameter"
)
@click.option("--price", metavar="USD|FILE", help="of one GPU and hour, or a table  [default: our own table]")
@click.option("--cores", type=click.IntRange(1), help="of the machine's CPU  [default: 8 a GPU]")
@click.option("--ram", type=click.FloatRange(0, min_open=True), help="GB of memory that the machine has")
@click.option("--disk", type=click.FloatRange(0, min_open=True), help="GB that are free on its disk")
@click.option("--json", is_flag=True, help="for machines")
def command(
    task: str | None,
    engine: str | None,
    model: str | None,
    hw: str | None,
    gpus: int,
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
    from worker.planning import kinds, money, plan
    from worker.planning.learnt import Learnt
    from worker.planning.machine import Machine
    from worker.queue.text import dumps
    from worker.tasks.params import parse_settings

    if task is None:
        click.echo("\n".join(plan_page.kinds(kinds.find(name) for name in kinds.KINDS)))
        return None
    kind = kinds.find(task)
    work = kind()
    if hw is None:
        raise UsageError(f"--hw says for which machine: {', '.join(sorted(HARDWARE))}")
    machine = Machine(hw, gpus, cores or 8 * gpus, ram, disk)
    reached, card = Learnt().of(machine.gpu)
    machine = replace(machine, reached=reached, reached_on=card)
    said = [("engine", engine), ("seconds_per_clip", seconds_per_clip)]
    wished = [f"{name}={value}" for name, value in said if value is not None]
    params = parse_settings(kind, settings_of([*wished, *settings], None))
    made = plan.make(
        work,
        params,
        machine,
        shape=_shape(work, params, model),
        batch=batch,
        items=items,
        price=money.find(hw, price),
    )
    click.echo(dumps(made.as_json()) if json else "\n".join(plan_page.page(made)))
    return None if made.fits else MachineError.exit_code


def _shape(work: Work[Any], params: Params, model: str | None) -> Shape | None:
    from worker.errors import UsageError
    from worker.planning import known

    usual = work.usual_model(params)
    if usual is None:
        if model:
            raise UsageError(f"a plan for {work.name} takes no --model here: leave it out")
        return None
    return known.find(model or usual)
