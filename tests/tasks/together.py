"""A job in several processes, small enough to be killed often: each adds its share of numbers to a sum."""

from __future__ import annotations

import time

from worker.items import Answer, Failure, Item
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Workspace
from worker.tasks.task import JobTask, Params, Stopped


class Sum(Params):
    steps: int = 40
    every: int = 5
    step_s: float = 0.0
    hungry: bool = False
    """its first batch fits once it was halved"""
    broken: int = -1
    """this rank raises at step 3"""


class Together(JobTask[Sum]):
    name = "together"
    about = "adds up numbers, all ranks at once"
    params_type = Sum
    takes = "values"
    spans = True

    def run(self, item: Item, workspace: Workspace, stop: StopFlag) -> Answer | Failure:
        import torch
        from torch import distributed

        params = self.params_of(item)
        several = distributed.is_initialized()
        rank, size = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
        total, first = 0, 0
        if found := workspace.resume():
            total, first = int((found.folder / "total").read_text()), found.step
        if params.hungry and not workspace.halved and not first and rank == size - 1:
            raise torch.OutOfMemoryError("the batch is too large")
        for step in range(first + 1, params.steps + 1):
            if rank == params.broken and step == 3:
                raise RuntimeError("it broke")
            share = torch.tensor([step if step % size == rank else 0, bool(stop)])
            if several:
                distributed.all_reduce(share)
            total += int(share[0])
            stopped = bool(share[1])
            workspace.progress(step, params.steps, total=float(total))
            time.sleep(params.step_s)
            if rank == 0 and (stopped or step % params.every == 0):
                with workspace.checkpoint(step, float(step)) as folder:
                    (folder / "total").write_text(str(total))
            if stopped:
                raise Stopped
        best = workspace.best(lambda name: name == "total")
        file = workspace.folder / "total.txt"
        file.write_text(str(total))
        workspace.publish("total.txt", file)
        return Answer({"total": total, "best": best.step if best else None})
