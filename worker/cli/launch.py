"""`worker launch`: the same verbs and words for every place."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli import STOPPED, tell_error
from worker.cli.options import Duration, recipe_options
from worker.launch.launcher import LAUNCHERS, find

if TYPE_CHECKING:
    from worker.launch.launch import Launch, Receipt
    from worker.launch.launcher import Look, Standing

NAMELESS = "work"
DEFAULTS = {"auto_envvar_prefix": "WORKER_LAUNCH", "help_option_names": ["-h", "--help"]}
TRIES = 10


class Launchers(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(LAUNCHERS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        return _verbs(name) if name in LAUNCHERS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Places"):
            formatter.write_dl([(name, about) for name, (_, _, about) in LAUNCHERS.items()])


@click.group(
    "launch",
    cls=Launchers,
    context_settings=DEFAULTS,
    epilog="Every option has a variable: --queue is WORKER_LAUNCH_QUEUE.",
)
def command() -> None:
    """Start workers elsewhere, watch them, fetch the answers."""


def _verbs(launcher: str) -> click.Group:
    group = click.Group(launcher, help=f"{LAUNCHERS[launcher][2]}.", context_settings=DEFAULTS)
    own: Sequence[Callable[[Any], Any]] = importlib.import_module(f"worker.cli.launch_{launcher}").OPTIONS
    names = {option.name for option in _declared(own)}

    def verb(name: str, call: Callable[..., Any], options: Sequence[Callable[[Any], Any]]) -> None:
        def run(**said: Any) -> Any:
            return call(launcher, **said)

        for option in reversed(options):
            run = option(run)
        group.add_command(click.command(name, help=call.__doc__, context_settings=DEFAULTS)(run))

    def asked(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(launcher: str, **said: Any) -> Any:
            """The launcher's own options apart."""
            return call(launcher, own={name: said.pop(name) for name in names}, **said)

        run.__doc__ = call.__doc__
        return run

    verb("render", asked(_render), [*ASKED, *own, TO])
    verb("cost", asked(_cost), [*ASKED, *own, JSON])
    verb("submit", asked(_submit), [*ASKED, *own, YES])
    verb("watch", _watch, [NAME, FETCH, TRIES_OPTION, JSON])
    verb("fetch", _fetch, [NAME, OUT])
    verb("cancel", _cancel, [NAME])
    verb("delete", _delete, [NAME, YES])
    return group


def _declared(options: Sequence[Callable[[Any], Any]]) -> list[click.Parameter]:
    def nothing() -> None: ...

    for option in options:
        option(nothing)
    found: list[click.Parameter] = getattr(nothing, "__click_params__", [])
    return found


ASKED = (
    click.argument("paths", nargs=-1, metavar="[PATH…]"),
    click.option(
        "--hw", required=True, envvar="WORKER_HW", metavar="NAME", help="the machines: env/NAME.env"
    ),
    click.option("--name", default="", help="of this launch  [default: the queue's, or the first PATH's]"),
    click.option("--queue", default="", help="as the workers see it  [default: made for this launch]"),
    click.option(
        "--out", default="", metavar="DIR", help="where the answers go here  [default: run/NAME-results]"
    ),
    recipe_options(required=False),
    click.option(
        "--workers", type=click.IntRange(1), default=1, show_default=True, help="how many machines or tasks"
    ),
    click.option("--gpus", type=click.IntRange(0), help="cards of each  [default: 1, or 0 with --hw cpu]"),
    click.option("--time-limit", type=Duration(), help="of each job: 12h  [default: the place's own]"),
    click.option("--image", default="", help="registry/name:tag of the worker's image"),
    click.option(
        "--env", "environment", multiple=True, metavar="NAME=VALUE", help="for the workers; no secrets"
    ),
    click.option(
        "--price",
        type=click.FloatRange(0),
        metavar="USD",
        help="of one card and hour  [default: our table's]",
    ),
)
NAME = click.argument("name", default="", metavar="[NAME]")
YES = click.option("--yes", is_flag=True, help="do not ask")
OUT = click.option("--out", default="", metavar="DIR", help="where the answers go  [default: as submitted]")
TO = click.option(
    "--to", type=click.Path(path_type=Path, file_okay=False), help="write the files here, not to stdout"
)
JSON = click.option("--json", is_flag=True, help="for machines")
FETCH = click.option("--fetch", is_flag=True, help="fetch the answers when all is done")
TRIES_OPTION = click.option(
    "--tries",
    type=click.IntRange(0),
    default=TRIES,
    show_default=True,
    help="most submissions after preemptions",
)


def _render(launcher: str, own: Mapping[str, Any], to: Path | None, **said: Any) -> None:
    """Write what submit would hand over, and touch nothing."""
    launch = _launch(own, **said)
    found = find(launcher)
    found.check(launch)
    files = found.render(launch)
    for name, text in files.items():
        if to is None:
            click.echo(f"# {name}\n{text}" if len(files) > 1 else text, nl=False)
        else:
            to.mkdir(parents=True, exist_ok=True)
            (to / name).write_text(text)
            click.echo(to / name)


def _cost(launcher: str, own: Mapping[str, Any], json: bool, **said: Any) -> None:
    """What it will cost, before anything is spent."""
    from worker.launch import cost
    from worker.queue.text import dumps

    launch = _launch(own, **said)
    found = find(launcher)
    found.check(launch)
    priced = found.cost(launch)
    click.echo(dumps(priced.as_json()) if json else "\n".join(cost.lines(priced)))


def _submit(launcher: str, own: Mapping[str, Any], yes: bool, **said: Any) -> None:
    """Bring the inputs, enqueue them, start the workers. Again: goes on where it stands."""
    from worker.errors import UsageError
    from worker.launch import cost
    from worker.launch.launch import Receipts

    launch = _launch(own, **said)
    found = find(launcher)
    found.check(launch)
    click.echo("\n".join(cost.lines(found.cost(launch))), err=True)
    if not yes and not click.confirm(f"Start {launch.name}?", err=True):
        raise UsageError("nothing was made, nothing is spent")
    receipts = Receipts(launcher)
    receipt = found.submit(launch, receipts.find(launch.name), _say, receipts.keep)
    receipts.keep(receipt)
    jobs = ", ".join(receipt.jobs)
    _say(f"{launch.name}: submitted as {jobs}; see `worker launch {launcher} watch {launch.name}`")


def _watch(launcher: str, name: str, fetch: bool, tries: int, json: bool) -> int:
    """How far the work is and who works on it, until all is done. What was preempted is submitted again."""
    from worker.clock import Clock
    from worker.launch.launch import Receipts
    from worker.launch.watching import watch

    receipts, found = Receipts(launcher), find(launcher)
    receipt = receipts.need(name)
    show = _shown(receipt, json)
    after, seen, standing = watch(found, receipt, tries, Clock(), show, _say, receipts.keep)
    if not seen.is_over:
        tell_error(
            f"{after.name}: {standing.said}, and work is left"
            f"; {standing.remedy or f'see worker launch {launcher} submit'}"
        )
        return STOPPED if standing.state == "again" else 1
    return _fetch(launcher, after.name, "") if fetch else int(bool(seen.failed))


def _fetch(launcher: str, name: str, out: str) -> int:
    """Write the answers here: final_results.json, summary.json, report.html."""
    from worker.launch.launch import Receipts

    receipt = Receipts(launcher).need(name)
    folder = Path(out or receipt.launch.out or f"run/{receipt.name}-results")
    return 0 if find(launcher).fetch(receipt, folder, _say) else 1


def _cancel(launcher: str, name: str) -> None:
    """End the workers. Queue and answers stay: the same submit goes on."""
    from worker.launch.launch import Receipts

    receipts = Receipts(launcher)
    if after := find(launcher).cancel(receipts.need(name), _say):
        receipts.keep(after)


def _delete(launcher: str, name: str, yes: bool) -> None:
    """Remove what this launch made, and nothing else."""
    from worker.errors import UsageError
    from worker.launch.launch import Receipts

    receipts = Receipts(launcher)
    receipt = receipts.need(name)
    made = ", ".join(receipt.made) or "nothing"
    if not yes and not click.confirm(f"Delete {made}?", err=True):
        raise UsageError("nothing was deleted")
    find(launcher).delete(receipt, _say)
    receipts.drop(receipt.name)


def _launch(own: Mapping[str, Any], **said: Any) -> Launch:
    from worker.errors import UsageError
    from worker.launch.here import CHECKOUT
    from worker.launch.launch import Launch, is_name
    from worker.launch.order import read_profile

    profile = read_profile(CHECKOUT, said["hw"], os.environ)
    environment = dict(_assigned(one) for one in said["environment"])
    name = said["name"] or _name_of(said["queue"] or next(iter(said["paths"]), ""))
    if not is_name(name):
        raise UsageError(
            f"--name '{name}': lower case letters, digits and hyphens, a letter first, 40 at most"
        )
    recipe = {
        option: said[option.replace("-", "_")] or ""
        for option in ("engine", "model", "revision", "screen", "screen-model")
    }
    params = [*said["settings"], *([f"lang={said['lang']}"] if said["lang"] else [])]
    gpus = said["gpus"]
    return Launch(
        name,
        profile,
        queue=said["queue"],
        out=said["out"],
        inputs=list(said["paths"]),
        task=said["task"] or "",
        recipe={option: value for option, value in recipe.items() if value},
        params=params,
        environment=environment,
        workers=said["workers"],
        gpus=(1 if profile.has_gpu else 0) if gpus is None else gpus,
        time_limit_s=said["time_limit"] or 0,
        image=said["image"],
        price=said["price"],
        settings=dict(own),
    )


def _assigned(said: str) -> tuple[str, str]:
    name, equals, value = said.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise click.UsageError(f"--env {name}: write NAME=VALUE")
    return name, value


def _name_of(path: str) -> str:
    """clips from az://bucket/My clips/"""
    last = next((part for part in reversed(path.split("/")) if part), NAMELESS)
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-0123456789")[:40].strip("-") or NAMELESS


def _shown(receipt: Receipt, json: bool) -> Callable[[Look, Standing], None]:
    import sys

    from worker.cli.screen import Screen
    from worker.queue.text import dumps

    screen = Screen(sys.stdout, in_place=not json)

    def show(look: Look, standing: Standing) -> None:
        if json:
            state = {"state": standing.state, "said": standing.said}
            screen.show([dumps({**look.json, "launch": receipt.name, "scheduler": state})])
        else:
            screen.show([f"{receipt.name}  {standing.said}", *look.lines])

    return show


def _say(line: str) -> None:
    click.echo(line, err=True)
