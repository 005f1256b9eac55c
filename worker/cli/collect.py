"""`worker collect`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from worker.queue.store import Store


@click.command(short_help="write results, summary and report into a folder")
@click.argument("queue")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="default: QUEUE-results")
def command(queue: str, out: Path | None) -> int:
    """Write the answers of a finished QUEUE into a folder: final_results.json, summary.json, report.html.

    Exit code 1: some items failed, or lines of the inbox were refused."""
    from worker.queue.store import open_store
    from worker.report.collect import default_out

    return collect_and_tell(open_store(queue), out or default_out(queue))


def collect_and_tell(store: Store, out: Path) -> int:
    """Collect, and say how it went and where to read on. → exit code"""
    from worker.cli.table import table
    from worker.report.collect import collect

    collected = collect(store, out)
    summary = collected.summary
    rows = [[name, f"{summary[name]:,}"] for name in ("total", "ok", "failed")]
    rows += [[f"  {kind}", f"{count:,}"] for kind, count in summary["failures"].items()]
    if summary["refused"]:
        rows.append(["refused lines", f"{len(summary['refused']):,}"])
    click.echo("\n".join([*table(rows), f"see {collected.report}"]))
    return 1 if summary["failed"] or summary["refused"] else 0
