"""`worker status`"""

from __future__ import annotations

import sys

import click

from worker.clock import LOOK_EVERY_S, Clock


@click.command()
@click.argument("queue")
@click.option("--watch", is_flag=True, help=f"look again every {LOOK_EVERY_S:g} s until everything is done")
@click.option("--json", is_flag=True, help="for machines; with --watch one line a look")
def command(queue: str, watch: bool, json: bool) -> None:
    """How far QUEUE is, who works on it, and how long it may still take."""
    from worker.cli.screen import Screen, json_line, lines
    from worker.queue.progress import Watcher
    from worker.queue.store import open_store

    clock = Clock()
    watcher = Watcher(open_store(queue, named=True), clock)
    screen = Screen(sys.stdout, in_place=watch and not json)
    while True:
        progress = watcher.look()
        screen.show([json_line(progress.as_json())] if json else lines(progress))
        if not watch or progress.is_over:
            return
        clock.sleep(LOOK_EVERY_S)
