"""`worker launch`: the same verbs and words for every place."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli import STOPPED, tell_error
from worker.cli.options import Duration, recipe_options
from worker.harmless import harmless
from worker.launch.launcher import LAUNCHERS, find
from worker.redact import redact

if TYPE_CHECKING:
    from worker.cli.screen import Screen
    from worker.launch.launch import Launch, Receipt, Receipts
    from worker.launch.launcher import Look, Standing

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
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_text(text, encoding="utf-8")
            click.echo(to / name)


def _cost(launcher: str, own: Mapping[str, Any], json: bool, **said: Any) -> None:
    """What it will cost, before anything is spent."""
    from worker.cli.screen import json_line
    from worker.launch import cost

    launch = _launch(own, **said)
    found = find(launcher)
    found.check(launch)
    priced = found.cost(launch)
    click.echo(json_line(priced.as_json()) if json else "\n".join(cost.lines(priced)))


def _submit(launcher: str, own: Mapping[str, Any], yes: bool, **said: Any) -> None:
    """Bring the inputs, enqueue them, start the workers. Again: goes on where it stands."""
    from worker.launch import cost
    from worker.launch.asked import refuse_other
    from worker.launch.launch import Receipts

    launch = _launch(own, **said)
    receipts, found = Receipts(launcher), find(launcher)
    if known := receipts.find(launch.name):
        known = replace(known, cancelled=False)
    refuse_other(launch, known, is_named=bool(said["name"]))
    found.check(launch)
    click.echo("\n".join(cost.lines(found.cost(launch))), err=True)
    _agree(f"Start {launch.name}?", yes, "nothing was made, nothing is spent")
    receipt = found.submit(launch, known, _say, receipts.keep)
    receipts.keep(receipt)
    jobs = ", ".join(receipt.jobs)
    _say(f"{launch.name}: submitted as {jobs}; see `worker launch {launcher} watch {launch.name}`")


def _watch(launcher: str, name: str, fetch: bool, tries: int, json: bool) -> int:
    """How far the work is and who works on it, until all is done. What was preempted is submitted again.

    Exit codes: 0 all done, 1 some items failed or the job did, 75 work is left: submit or watch again."""
    from worker.cli.screen import Screen
    from worker.clock import Clock
    from worker.launch.launch import Receipts
    from worker.launch.watching import watch

    receipts = Receipts(launcher)
    receipt = receipts.need(name)
    screen = Screen(sys.stdout, in_place=not json)

    def say(line: str) -> None:
        screen.leave()
        _say(line)

    try:
        seen, standing = watch(
            find(launcher), receipts, receipt.name, tries, Clock(), _shown(receipt.name, screen, json), say
        )
    except KeyboardInterrupt:
        these = f"worker launch {launcher}"
        tell_error(
            f"the workers of {receipt.name} go on; `{these} watch {receipt.name}` looks again, "
            f"`{these} cancel {receipt.name}` ends them"
        )
        return STOPPED
    if not seen.is_over:
        remedy = standing.remedy or f"the same `worker launch {launcher} submit` goes on"
        tell_error(f"{receipt.name}: {standing.said}, and work is left; {remedy}")
        return 1 if standing.state == "failed" else STOPPED
    return _fetch(launcher, receipt.name, "") if fetch else int(bool(seen.failed))


def _fetch(launcher: str, name: str, out: str) -> int:
    """Write the answers here: final_results.json, summary.json, report.html."""
    from worker.launch.launch import Receipts

    receipt = Receipts(launcher).need(name)
    folder = Path(out or receipt.launch.out or f"run/{receipt.name}-results")
    return 0 if find(launcher).fetch(receipt, folder, _say) else 1


def _cancel(launcher: str, name: str) -> None:
    """End the workers. Queue and answers stay: the same submit goes on."""
    from worker.launch.launch import Receipts

    find(launcher).cancel(_cancelled(Receipts(launcher), name), _say)


def _delete(launcher: str, name: str, yes: bool) -> None:
    """Remove what this launch made, and nothing else."""
    from worker.launch.launch import Receipts

    receipts = Receipts(launcher)
    receipt = receipts.need(name)
    made = ", ".join(receipt.made) or "nothing"
    _agree(f"Delete {made}?", yes, f"nothing was deleted ({made} would be)")
    find(launcher).delete(_cancelled(receipts, receipt.name), _say)
    receipts.drop(receipt.name)


def _cancelled(receipts: Receipts, name: str) -> Receipt:
    """Written down first: who watches it elsewhere would submit again what ends."""
    receipt = replace(receipts.need(name), cancelled=True)
    receipts.keep(receipt)
    return receipt


def _launch(own: Mapping[str, Any], **said: Any) -> Launch:
    from worker.launch.asked import launch_of
    from worker.launch.here import CHECKOUT

    return launch_of(CHECKOUT, said, own)


def _agree(question: str, yes: bool, without: str) -> None:
    """By --yes, or by a person who is there to be asked."""
    from worker.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{without}: nobody is here to be asked, so say --yes")
    if not click.confirm(question, err=True):
        raise UsageError(without)


def _shown(name: str, screen: Screen, json: bool) -> Callable[[Look, Standing], None]:
    from worker.cli.screen import json_line

    def show(look: Look, standing: Standing) -> None:
        if json:
            screen.show([json_line({**look.json, "launch": name, "scheduler": asdict(standing)})])
            return
        # who waits would wait for ever for what only a person can mend
        remedy = [f"  {standing.remedy}"] if standing.remedy and not look.is_over else []
        screen.show(
            [harmless(redact(line)) for line in (f"{name}  {standing.said}", *remedy)] + [*look.lines]
        )

    return show


def _say(text: str) -> None:
    for line in text.splitlines():
        click.echo(harmless(redact(line)), err=True)
