"""A request that names a task becomes one for the cards that its plan asks for."""

from __future__ import annotations

from collections.abc import Sequence

from worker.gpus import memory
from worker.gpus.forms import PlanTold, TrainingGPUConfig
from worker.gpus.memory import Named
from worker.gpus.shares import Sort


def settle(asked: TrainingGPUConfig, sorts: Sequence[Sort]) -> tuple[TrainingGPUConfig, PlanTold]:
    """`sorts`: of the cards that suit it. Refused if none of them will ever do."""
    count = asked.gpu_count if "gpu_count" in asked.model_fields_set else None
    found = memory.fit(Named(asked.task, asked.model, asked.params), asked.memory_strategy, sorts, count)
    said = PlanTold(
        task=asked.task,
        gpu_count=found.count,
        memory_gb=found.memory_gb,
        needed_gb=round(found.need_gb, 2),
        share=found.share,
        batch=found.batch,
        gradient_accumulation_steps=found.accumulation,
        message=found.said,
    )
    stated = asked.gpu_memory_fraction if "gpu_memory_fraction" in asked.model_fields_set else found.share
    settled = {
        "gpu_count": found.count,
        "memory_gb": max(asked.memory_gb, found.memory_gb),
        "gpu_memory_fraction": stated,
    }
    return asked.model_copy(update=settled), said
