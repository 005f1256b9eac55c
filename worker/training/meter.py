"""How a training goes, and how fast, as people are told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from worker.jobs.workspace import Workspace
from worker.training.record import Record
from worker.training.settings import Frequencies
from worker.training.world import World


class Meter(TrainerCallback):  # type: ignore[misc]
    """Before the keeper, so that a checkpoint holds what was told before it."""

    def __init__(
        self,
        workspace: Workspace,
        record: Record,
        every: Frequencies,
        flops: float,
        peak: float | None,
        world: World,
    ) -> None:
        self._workspace = workspace
        self._record = record
        self._every = every
        self._flops = flops
        self._peak = peak
        """FLOP/s of the device; None: nobody knows"""
        self._world = world
        self._since = time.perf_counter()
        self._seconds, self._waited, self._steps = 0.0, 0.0, 0
        """`_waited`: until the samples of a step were there"""
        self._figures: dict[str, float] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._since = time.perf_counter()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._waited += time.perf_counter() - self._since

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._seconds += time.perf_counter() - self._since
        self._steps += 1
        if self._world.is_first:
            self._workspace.progress(state.global_step, state.max_steps, **self._figures)
        if state.global_step % self._every.perf_log_freq == 0:
            samples = args.train_batch_size * args.gradient_accumulation_steps * self._world.size
            self._tell(state.global_step, samples)
        self._since = time.perf_counter()

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        self._since = time.perf_counter()

    on_save = on_evaluate

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:  # noqa: ARG002
        if "loss" not in logs:
            return
        told = {
            "training/loss": logs["loss"],
            "training/lr": logs["learning_rate"],
            "training/grad_norm": logs.get("grad_norm", 0.0),
            "training/epoch": state.epoch,
        }
        self._figures |= {"loss": logs["loss"], "lr": logs["learning_rate"]}
        self._record.write(state.global_step, told)
        self._since = time.perf_counter()

    def _tell(self, step: int, samples: int) -> None:
        peak = self._peak and self._peak * self._world.size
        each, waited = self._seconds / self._steps, self._waited / self._seconds
        self._seconds, self._waited, self._steps = 0.0, 0.0, 0
        self._figures["data_wait"] = waited
        used = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        self._record.write(
            step,
            {
                "perf/mfu": self._flops * samples / each / peak if peak else "unknown",
                "perf/step_time": each,
                "perf/samples_per_second": samples / each,
                "perf/data_wait": waited,
                "perf/gpu_memory_gb": used / 1e9,
            },
        )
