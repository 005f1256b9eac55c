"""`worker collect`"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("queue")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="default: QUEUE-results")
@click.option(
    "--labels",
    metavar="CSV",
    type=click.Path(path_type=Path),
    help="what is true: the report tells the score",
)
def command(queue: str, out: Path | None, labels: Path | None) -> int:
    """Write the answers of a finished QUEUE into a folder: final_results.json, summary.json, report.html.

    Exit code 1: some items failed, or lines of the inbox were refused."""
    from worker.cli.outcome import outcome
    from worker.queue.store import open_store
    from worker.report.collect import collect
    from worker.report.files import default_out

    collected = collect(open_store(queue), out or default_out(queue), labels)
    click.echo("\n".join(outcome(collected)))
    return 0 if collected.complete else 1
