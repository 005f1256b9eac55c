"""The work of `make chaos`: quick, slow and failing items in shards of 16, and jobs with checkpoints."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from worker.items import Answer, Failure, Item
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Workspace
from worker.tasks.task import JobTask, MapTask, Params, Stopped

SLOW = "CHAOS_SLOW"
"""seconds that a slow item takes: in the environment, for they must not change what is answered"""

TRAP = "trap"
CAUGHT = "caught"
"""files in the worker's temporary folder: who finds a trap at a last answer says so, and waits"""

STEPS = 20
"""of a job"""


def at_last(said: str) -> None:
    """With this answer the shard is complete, and the commit comes next."""
    folder = Path(os.environ.get("TMPDIR", "/nowhere"))
    while (folder / TRAP).exists():
        (folder / CAUGHT).write_text(said)
        time.sleep(0.01)


class Chaotic(MapTask[Params, Item]):
    name = "chaotic"
    about = "answers what its input asks for: quick, slow or bad"
    takes = "values"
    seconds_per_item = 0.3125  # by 16, where a list is not cut finer
    batch = 4

    def prepare(self, item: Item) -> Item:
        return item

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        return [self._one(item.input) for item in samples]

    def _one(self, said: str) -> Answer | Failure:
        if said.startswith("slow"):
            time.sleep(float(os.environ.get(SLOW, "0")))
        if said.startswith("last"):
            at_last(said)
        return Failure("bad", f"{said} was asked for") if said.startswith("bad") else Answer({"said": said})


class ChaoticJob(JobTask[Params]):
    """A chain of hashes: a step that is left out, done twice or done on another state changes its end."""

    name = "chaotic-job"
    about = "hashes step by step, with checkpoints"
    takes = "values"

    def run(self, item: Item, workspace: Workspace, stop: StopFlag) -> Answer | Failure:
        if item.input.startswith("bad"):
            return Failure("bad", f"{item.input} was asked for")
        chain, done = hashlib.sha256(item.input.encode()).hexdigest(), 0
        if found := workspace.resume():
            chain, done = (found.folder / "chain").read_text(), found.step
        for step in range(done + 1, STEPS + 1):
            chain = hashlib.sha256(f"{chain} {step}".encode()).hexdigest()
            workspace.progress(step, STEPS)
            stop.wait(float(os.environ.get(SLOW, "0")) / 5)
            if stop or step % 4 == 0:
                with workspace.checkpoint(step, score=-step) as folder:
                    (folder / "chain").write_text(chain)
            if stop:
                raise Stopped
        (workspace.folder / "chain").write_text(chain)
        workspace.publish("chain", workspace.folder / "chain")
        at_last(item.input)
        return Answer({"chain": chain})
