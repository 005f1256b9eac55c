"""`worker retry`"""

from __future__ import annotations

import click


@click.command()
@click.argument("queue")
@click.argument("items", nargs=-1, metavar="[ITEM]...")
@click.option("--failed", is_flag=True, help="all that failed; the default where no item is named")
@click.option("--fresh", is_flag=True, help="jobs begin anew, and not at their newest checkpoint")
def command(queue: str, items: tuple[str, ...], failed: bool, fresh: bool) -> None:
    """Ask again for items of QUEUE that failed, or for each ITEM: its id, or its input as the report has it.

    A retry that fails never replaces an answer. A job that was cut off goes on from its newest checkpoint."""
    from worker.jobs.again import go_on
    from worker.queue import intake, recipe
    from worker.queue.store import open_store
    from worker.queue.tally import Tally, pick

    if failed and items:
        raise click.UsageError("give --failed or items, not both")
    store = open_store(queue)
    run = recipe.require(store)
    look = Tally(store, lambda result: result.kind).look()
    wanted = pick(look, items)
    again = go_on(store, wanted, look.answers, fresh=fresh)
    count = intake.retry(store, run.sizes, again)
    checkpoints = (
        f", {n:,} of them from their checkpoints" if (n := sum(bool(i.after) for i in again)) else ""
    )
    said = f"{count:,} items asked for again{checkpoints}; go on with worker run {store.url}"
    click.echo(said if count else "nothing to retry")
