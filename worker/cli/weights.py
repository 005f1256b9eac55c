"""worker weights"""

from __future__ import annotations

import shlex
from pathlib import Path

import click


@click.command("weights")
@click.argument("url")
@click.argument("sha256")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("run/weights"),
    show_default=True,
    help="where it is kept",
)
def command(url: str, sha256: str, to: Path) -> int:
    """Fetch the model's file at URL (https:// or file://), and keep it if SHA256 is its hash."""
    from worker.weights import fetch

    file = fetch(url, sha256, to)
    click.echo(file)
    click.echo(f"worker run QUEUE --task ghost-probing --model {shlex.quote(str(file))} PATH…", err=True)
    return 0
