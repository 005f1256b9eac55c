"""What a launch does with a queue that this machine can reach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from worker.launch.launcher import Look

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.launch.launch import Launch
    from worker.launch.launcher import Say


def enqueue(launch: Launch, queue: str, inputs: Sequence[str], root: str | None, say: Say) -> int:
    """How many items are new. What was enqueued already is so no second time."""
    from worker.enqueue import Wanted
    from worker.enqueue import enqueue as put
    from worker.queue.store import open_store

    recipe = {name.replace("-", "_"): value for name, value in launch.recipe.items()}
    wanted = Wanted(launch.task or None, settings=launch.params, **recipe)
    added = put(open_store(queue, make=bool(launch.task), named=True), wanted, inputs, root)
    for one in added.refused:
        say(f"line {one.line} {one.why}" if one.line else f"an input was refused: it {one.why}")
    say(f"{queue}: {added.added.new} new items, {added.added.known} were there already")
    return added.added.new


def look(queue: str) -> Look:
    from worker.cli.screen import lines
    from worker.clock import Clock
    from worker.queue.progress import Watcher
    from worker.queue.store import open_store

    progress = Watcher(open_store(queue, named=True), Clock()).look()
    return Look(lines(progress), progress.as_json(), progress.is_over, progress.failed)


def fetch(queue: str, out: Path, say: Say) -> bool:
    """True: all answers are there, and none failed."""
    from worker.cli.outcome import outcome
    from worker.queue.store import open_store
    from worker.report.collect import collect

    collected = collect(open_store(queue, named=True), out)
    say("\n".join(outcome(collected)))
    return collected.complete
