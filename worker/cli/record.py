"""worker record"""

from __future__ import annotations

import select
from pathlib import Path

import click

from worker.cli.options import Duration
from worker.errors import UsageError


@click.command("record")
@click.argument("url")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--window", type=Duration(), default=10.0, show_default=True, help="seconds of a file, about")
@click.option("--overlap", type=Duration(), default=2.0, show_default=True, help="seconds that two share")
@click.option(
    "--pause", type=Duration(), default=2.0, show_default=True, help="before a lost stream is opened again"
)
def command(url: str, folder: Path, window: float, overlap: float, pause: float) -> int:
    """Cut the video at URL (rtsp://, http://, udp:// or a file) into files in FOLDER, until stopped.

    Nothing is encoded anew: a file begins at a keyframe, and is longer than --window where they are rare."""
    from worker.media.recording import record
    from worker.stop import StopListener

    if overlap >= window:
        raise UsageError(f"--overlap {overlap:g} must be shorter than --window {window:g}")
    with StopListener() as stop:

        def wait(seconds: float) -> bool:
            if seconds and not stop.current:
                select.select([stop], [], [], seconds)
            return stop.current is not None

        written = record(url, folder, window, overlap, pause, wait)
    click.echo(f"{folder}: {written} files", err=True)
    return 0
