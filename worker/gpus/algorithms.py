"""Trainings that are known by name."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from worker.errors import UsageError
from worker.gpus import batches, models
from worker.gpus.on_pytorch import PyTorchGPUIntegration, get_pytorch_gpu_integration
from worker.gpus.on_tensorflow import TensorFlowGPUIntegration, get_tensorflow_gpu_integration

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[Mapping[str, Any]], None]

log = logging.getLogger(__name__)


class MlpTraining(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    framework: str = "pytorch"
    model: dict[str, Any]
    data: Annotated[Path, Field(description="an .npz with x, and y: whole numbers are classes")]
    steps: Annotated[int, Field(ge=1)] = 100
    batch_size: Annotated[int, Field(ge=0, description="samples of a step; 0: as many as fit")] = 0
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    seed: int = 0
    progress_every: Annotated[int, Field(ge=1)] = 10
    out: Annotated[Path | None, Field(description="an .npz for the weights")] = None


INTEGRATIONS: Mapping[str, Callable[[], PyTorchGPUIntegration | TensorFlowGPUIntegration]] = {
    "pytorch": get_pytorch_gpu_integration,
    "tensorflow": get_tensorflow_gpu_integration,
}


def mlp(parameters: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    import numpy as np

    asked = models.filled(MlpTraining, parameters, "mlp")
    shape = models.read("mlp", asked.model)
    inputs, targets = _read(asked.data, shape)
    classes = targets.dtype.kind in "iu"
    integration = INTEGRATIONS[asked.framework]()
    learner = integration.learner("mlp", asked.model, asked.learning_rate, classes=classes, seed=asked.seed)
    room, alike = integration.room(), learner.replicas
    most = batches.best_batch(shape.fixed_bytes, shape.sample_bytes, room) * alike
    of_replica = math.ceil((asked.batch_size or min(most, len(inputs))) / alike)
    each = batches.fit(of_replica, shape.fixed_bytes, shape.sample_bytes, room)
    of_step = of_replica * alike
    draw = np.random.default_rng(asked.seed)
    losses = []
    for step in range(1, asked.steps + 1):
        chosen = draw.integers(len(inputs), size=of_step)
        losses.append(learner.step(inputs[chosen], targets[chosen], each.batch))
        if not math.isfinite(losses[-1]):
            raise ArithmeticError(f"the loss of step {step} is {losses[-1]}: take a smaller learning_rate")
        if step % asked.progress_every == 0 or step == asked.steps:
            progress({"step": step, "steps": asked.steps, "loss": losses[-1]})
    if asked.out and _is_first(integration):
        _write(asked.out, learner.weights())
    return {
        "steps": asked.steps,
        "first_loss": losses[0],
        "loss": losses[-1],
        "replicas": alike,
        "batch_size": of_step,
        "samples_at_once": each.batch,
        "accumulation": each.accumulation,
    }


def _read(data: Path, shape: models.Mlp) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    import numpy as np

    try:
        with np.load(data, allow_pickle=False) as file:
            inputs, targets = np.asarray(file["x"], np.float32), file["y"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{data}: an .npz with x and y is needed: {error}") from error
    classes = targets.dtype.kind in "iu"
    targets = targets.astype(np.int64 if classes else np.float32)
    wanted = (len(inputs),) if classes else (len(inputs), shape.output_dim)
    if inputs.shape[1:] != (shape.input_dim,) or targets.shape != wanted or not len(inputs):
        raise UsageError(
            f"{data}: x is {inputs.shape} and y {targets.shape}, and this model wants "
            f"(samples, {shape.input_dim}) and {wanted}"
        )
    if classes and not 0 <= targets.min() <= targets.max() < shape.output_dim:
        raise UsageError(f"{data}: classes from 0 to {shape.output_dim - 1} are needed, for output_dim")
    return inputs, targets


def _is_first(integration: PyTorchGPUIntegration | TensorFlowGPUIntegration) -> bool:
    return isinstance(integration, TensorFlowGPUIntegration) or integration.setup.rank == 0


def _write(file: Path, weights: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Whole or not at all."""
    import numpy as np

    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f".{file.name}.half")
    with half.open("wb") as stream:
        np.savez(stream, **weights)  # type: ignore[arg-type]
    half.replace(file)


ALGORITHMS: Mapping[str, Callable[[Mapping[str, Any], Progress], Any]] = {"mlp": mlp}
