"""What a launch does with a queue that this machine can reach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from worker.launch.launcher import Look

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.launch.launch import Launch
    from worker.launch.launcher import Say
    from worker.queue.progress import Progress, Watcher


def enqueue(launch: Launch, queue: str, inputs: Sequence[str], root: str | None, say: Say) -> int:
    """How many items are new. What was enqueued already is so no second time."""
    from worker.cli.enqueue import told
    from worker.enqueue import Wanted
    from worker.enqueue import enqueue as put
    from worker.queue.recipe import require
    from worker.queue.store import open_store

    store = open_store(queue, make=bool(launch.task and inputs), named=True)
    if not inputs:
        require(store)
        return 0
    recipe = {name.replace("-", "_"): value for name, value in launch.recipe.items()}
    wanted = Wanted(launch.task or None, settings=launch.params, **recipe)
    added = put(store, wanted, inputs, root)
    for one in added.refused:
        say(f"line {one.line} {one.why}" if one.line else f"an input was refused: it {one.why}")
    say(told(added, store.url))
    return added.added.new


def looked(progress: Progress) -> Look:
    from worker.cli.screen import lines

    return Look(lines(progress), progress.as_json(), progress.is_over, progress.failed)


class Looking:
    """At one queue, again and again: what cannot change is read once."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self._watcher: Watcher | None = None

    def look(self) -> Look:
        from worker.clock import Clock
        from worker.queue.progress import Watcher
        from worker.queue.store import open_store

        watcher = self._watcher or Watcher(open_store(self.queue, named=True), Clock())
        self._watcher = None  # what failed in the middle of a look is not looked with again
        progress = watcher.look()
        self._watcher = watcher
        return looked(progress)


def fetch(queue: str, out: Path, say: Say) -> bool:
    """True: all answers are there, and none failed."""
    from worker.cli.outcome import outcome
    from worker.queue.store import open_store
    from worker.report.collect import collect

    collected = collect(open_store(queue, named=True), out)
    say("\n".join(outcome(collected)))
    return collected.complete
