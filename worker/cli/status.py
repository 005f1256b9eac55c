"""`worker status`"""

from __future__ import annotations

import sys
from contextlib import suppress

import click

EVERY_S = 2.0


@click.command()
@click.argument("queue")
@click.option("--watch", is_flag=True, help=f"look again every {EVERY_S:g} s until everything is done")
@click.option("--json", is_flag=True, help="for machines; with --watch one line a look")
def command(queue: str, watch: bool, json: bool) -> None:
    """How far QUEUE is, who works on it, and how long it may still take."""
    from worker.cli.screen import Screen, lines
    from worker.clock import Clock
    from worker.queue.progress import Watcher
    from worker.queue.store import open_store
    from worker.queue.text import dumps
    from worker.redact import redact_json

    clock = Clock()
    watcher = Watcher(open_store(queue), clock)
    screen = Screen(sys.stdout, in_place=watch and not json)
    while True:
        progress = watcher.look()
        screen.show([_escaped(dumps(redact_json(progress.as_json())))] if json else lines(progress))
        if not watch or progress.is_over:
            return
        clock.sleep(EVERY_S)


def _escaped(line: str) -> str:
    """As JSON has it, where stdout has fewer letters: Python's own way to say an emoji is no JSON."""
    import json

    with suppress(UnicodeEncodeError):
        line.encode(sys.stdout.encoding or "utf-8")
        return line
    return json.dumps(json.loads(line))
