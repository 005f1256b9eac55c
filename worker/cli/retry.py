"""`worker retry`"""

from __future__ import annotations

import click


@click.command()
@click.argument("queue")
@click.argument("items", nargs=-1, metavar="[ITEM]...")
@click.option("--failed", is_flag=True, help="all that failed; the default where no item is named")
def command(queue: str, items: tuple[str, ...], failed: bool) -> None:
    """Ask again for items of QUEUE that failed, or for each ITEM: its id, or its input as the report has it.

    A retry that fails never replaces an answer."""
    from worker.queue import intake, recipe
    from worker.queue.store import open_store
    from worker.queue.tally import Tally, pick

    if failed and items:
        raise click.UsageError("give --failed or items, not both")
    store = open_store(queue)
    run = recipe.require(store)
    wanted = pick(Tally(store, lambda _: None).look(), items)
    count = intake.retry(store, run.sizes, wanted)
    click.echo(
        f"{count:,} items asked for again; go on with worker run {store.url}" if count else "nothing to retry"
    )
