"""worker compare"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.errors import UsageError
from worker.harmless import harmless
from worker.items import Json

if TYPE_CHECKING:
    from worker.evaluation.comparison import Comparison

SHOWN = 20
_TYPED = click.core.ParameterSource.COMMANDLINE


@click.command("compare")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--merge", type=click.Choice(["any", "all", "weighted"]), help="make one run of both: yes when …"
)
@click.option("--weight", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="A's, of both")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="weighted sureness for a yes",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="where the merged run goes")
@click.option("--json", "as_json", is_flag=True, help="for a machine")
@click.pass_context
def command(
    context: click.Context,
    a: Path,
    b: Path,
    merge: str | None,
    weight: float,
    threshold: float,
    out: Path | None,
    as_json: bool,
) -> int:
    """Where the answers in folders A and B agree; with --merge, one run made of both."""
    from worker.evaluation.comparison import compare
    from worker.evaluation.verdicts import read_results, verdict
    from worker.queue.text import dumps

    if (merge is None) != (out is None):
        raise UsageError("--merge and --out belong together: say how and where to")
    given = [name for name in ("weight", "threshold") if context.get_parameter_source(name) is _TYPED]
    if given and merge != "weighted":
        raise UsageError(f"--{given[0]} is for a weighted merge alone: add --merge weighted, or leave it out")
    ours, theirs = read_results(a), read_results(b)
    comparison = compare([*map(verdict, ours["results"])], [*map(verdict, theirs["results"])])
    click.echo(dumps(comparison.document()) if as_json else "\n".join(lines(comparison)))
    if merge and out:
        _write(out, ours, theirs, merge, weight, threshold)
        click.echo(f"the merged run: {out}", err=True)
    return 0


def lines(found: Comparison) -> Iterator[str]:
    from worker.cli.table import table

    yield f"{found.compared} clips answered in both"
    yield ""
    yield from table(
        [
            ["", "B: yes", "B: no"],
            ["A: yes", str(len(found.both_yes)), str(len(found.only_a))],
            ["A: no", str(len(found.only_b)), str(len(found.both_no))],
        ]
    )
    yield ""
    if found.agreement is not None:
        beyond = "" if found.kappa is None else f", {found.kappa:.2f} beyond chance (kappa)"
        yield f"agreement {found.agreement:.1%}{beyond}"
    for what, names in (
        ("yes in A alone", found.only_a),
        ("yes in B alone", found.only_b),
        ("without an answer in one of them", found.failed),
        ("in one of them alone", found.missing),
        ("more than once in one of them, so neither compared nor merged", found.doubled),
    ):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield f"{what}: {', '.join(map(harmless, names[:SHOWN]))}{more}"


def _write(out: Path, a: Json, b: Json, merge: str, weight: float, threshold: float) -> None:
    from worker.evaluation.comparison import merge as merged
    from worker.evaluation.comparison import rule
    from worker.evaluation.verdicts import FILE, read_results
    from worker.queue.text import encode
    from worker.report.files import write_whole
    from worker.report.record import document

    how = {"rule": merge, "weight": weight, "threshold": threshold}
    head = {"task": a["task"], "fingerprint": f"{a['fingerprint']}+{b['fingerprint']}", "merged": how}
    if (out / FILE).exists() and (there := read_results(out)["fingerprint"]) != head["fingerprint"]:
        raise UsageError(f"--out {out} holds other answers ({there}): give a folder of its own")
    results = merged(a, b, rule(merge, weight, threshold))
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / FILE, document(head, map(encode, results)))
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}") from None
