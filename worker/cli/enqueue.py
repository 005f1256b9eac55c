"""worker enqueue"""

from __future__ import annotations

from collections.abc import Mapping

import click

from worker.cli import tell_error
from worker.cli.options import recipe_options, settings_of
from worker.enqueue import Enqueued, Wanted, enqueue
from worker.harmless import harmless
from worker.queue.store import open_store

ENDINGS_MOST = 5


@click.command("enqueue")
@click.argument("queue")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@recipe_options(required=False)
@click.option(
    "--root", metavar="DIR", help="what the inputs' names are relative to; default: their common folder"
)
def command(
    queue: str,
    paths: tuple[str, ...],
    task: str | None,
    engine: str | None,
    model: str | None,
    revision: str | None,
    screen: str | None,
    screen_model: str | None,
    lang: str | None,
    settings: tuple[str, ...],
    root: str | None,
) -> int:
    """Add files, folders, globs, URLs or lists (.txt, .jsonl, -) to QUEUE.

    The first call freezes the recipe: the task, its parameters, the model."""
    store = open_store(queue, make=task is not None, named=True)
    wanted = Wanted(task, engine, model, revision, settings_of(settings, lang), screen, screen_model)
    enqueued = enqueue(store, wanted, paths, root)
    tell(enqueued, store.url)
    return 1 if enqueued.refused else 0


def tell(enqueued: Enqueued, queue: str) -> None:
    for one in enqueued.refused:
        tell_error(f"line {one.line} {one.why}" if one.line else f"an input was refused: it {one.why}")
    click.echo(told(enqueued, queue), err=True)


def told(enqueued: Enqueued, queue: str) -> str:
    added = enqueued.added
    known = f", {added.known} were there already" if added.known else ""
    refused = f", {len(enqueued.refused)} refused" if enqueued.refused else ""
    superseded = f", {enqueued.superseded} supersede an older content" if enqueued.superseded else ""
    again = f", {enqueued.again} asked for again" if enqueued.again else ""
    skipped = f"; {_skipped(enqueued.skipped)}" if enqueued.skipped else ""
    new = f"{added.new} new items in {len(added.shards)} shards"
    return f"{queue}: {new}{known}{superseded}{again}{refused}{skipped}"


def _skipped(counts: Mapping[str, int]) -> str:
    """12 files skipped (.txt, .md)"""
    endings = sorted(counts, key=lambda ending: (-counts[ending], ending))
    more = [f"{len(endings) - ENDINGS_MOST} other endings"] if len(endings) > ENDINGS_MOST else []
    files = "1 file" if sum(counts.values()) == 1 else f"{sum(counts.values()):,} files"
    return f"{files} skipped ({harmless(', '.join(endings[:ENDINGS_MOST] + more))})"
