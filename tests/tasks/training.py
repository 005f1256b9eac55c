"""A small real training, for tests of jobs: it ends with the same weights however often it is cut off."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from worker.items import Answer, Failure, Item
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Workspace
from worker.tasks.task import JobTask, Params, Stopped

STEP_S = "TRAINING_STEP_S"
"""in the environment: seconds that a step takes at least"""


class TrainingParams(Params):
    steps: int = 60
    every: int = 5
    """steps between two checkpoints"""


class Training(JobTask[TrainingParams]):
    """Adam, dropout, shuffled data: all that keeps a state."""

    name = "training"
    about = "fits a small network"
    params_type = TrainingParams
    takes = "values"

    def run(self, item: Item, workspace: Workspace, stop: StopFlag) -> Answer | Failure:
        import torch

        torch.set_num_threads(1)
        params = self.params_of(item)
        torch.manual_seed(int.from_bytes(hashlib.sha256(item.input.encode()).digest()[:4], "big"))
        inputs = torch.randn(256, 8)
        targets = torch.sin(inputs.sum(1, keepdim=True))
        model = torch.nn.Sequential(
            torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(32, 1)
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, params.steps)
        order: list[int] = []
        first = 0
        if found := workspace.resume():
            state: dict[str, Any] = torch.load(found.folder / "state.pt", weights_only=True)
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            scheduler.load_state_dict(state["scheduler"])
            torch.set_rng_state(state["random"])
            order = json.loads((found.folder / "data" / "order.json").read_text())
            first = found.step

        def save(step: int, score: float) -> None:
            with workspace.checkpoint(step, score) as folder:
                torch.save(
                    {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "scheduler": scheduler.state_dict(),
                        "random": torch.get_rng_state(),
                    },
                    folder / "state.pt",
                )
                (folder / "data").mkdir()
                (folder / "data" / "order.json").write_text(json.dumps(order))

        loss = torch.zeros(())
        for step in range(first + 1, params.steps + 1):
            if not order:
                order = torch.randperm(len(inputs)).tolist()
            batch, order = order[:32], order[32:]
            loss = torch.nn.functional.mse_loss(model(inputs[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            workspace.progress(step, params.steps, loss=loss.item())
            time.sleep(float(os.environ.get(STEP_S, "0")))
            if stop:
                save(step, -loss.item())
                raise Stopped
            if step % params.every == 0:
                save(step, -loss.item())
        weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
        file = workspace.folder / "weights.bin"
        file.write_bytes(weights)
        workspace.publish("weights.bin", file)
        return Answer({"loss": loss.item(), "weights": hashlib.sha256(weights).hexdigest()})


class Count(Params):
    steps: int = 20
    every: int = 1
    step_s: float = 0.0
    die_at: int = 0
    """the process is killed at this step, whenever it comes there; 0: never"""
    checkpoints: bool = True
    error_at: int = 0
    """it raises at this step, while the file `broken` is there"""
    broken: str = ""
    device: bool = False
    """that is an error of the device: the process is lost, and the file is gone"""


class Counting(JobTask[Count]):
    """Needs no library: adds up the numbers to `steps`."""

    is_lost = False
    name = "counting"
    about = "adds up numbers, one a step"
    params_type = Count
    takes = "values"

    def run(self, item: Item, workspace: Workspace, stop: StopFlag) -> Answer | Failure:
        params = self.params_of(item)
        total, first = 0, 0
        if found := workspace.resume():
            total, first = int((found.folder / "total").read_text()), found.step
        for step in range(first + 1, params.steps + 1):
            total += step
            workspace.progress(step, params.steps, total=float(total))
            if step == params.die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if step == params.error_at and Path(params.broken).exists():
                if not params.device:
                    raise RuntimeError(f"step {step} is broken")
                Path(params.broken).unlink()
                Counting.is_lost = True
            if self.is_lost:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            stop.wait(params.step_s)
            if params.checkpoints and (stop or step % params.every == 0):
                with workspace.checkpoint(step) as folder:
                    (folder / "total").write_text(str(total))
            if stop:
                raise Stopped
        return Answer({"total": total, "started_with": Path(item.input).name})
