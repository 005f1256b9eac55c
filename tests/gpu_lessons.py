"""Trainings for the engine's tests: their processes import this file, so it imports little."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Progress = Callable[[Mapping[str, Any]], None]
PATIENCE_S = 120


def cards(parameters: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Says that it started, and ends once it is told to go on."""
    progress({"pid": os.getpid()})
    sys.stdout.write("said by a training\n")
    if file := parameters.get("until"):
        end = time.monotonic() + PATIENCE_S
        while not Path(file).exists() and time.monotonic() < end:
            time.sleep(0.02)
    return {"cards": os.environ["CUDA_VISIBLE_DEVICES"], "torch": "torch" in sys.modules}


def endless(parameters: Mapping[str, Any], progress: Progress) -> None:
    """With a child of its own, and deaf to SIGTERM where it is told to be."""
    if parameters.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({PATIENCE_S})"])
    progress({"pids": [os.getpid(), child.pid]})
    child.wait()


def failing(parameters: Mapping[str, Any], progress: Progress) -> Any:  # noqa: ARG001
    match parameters["how"]:
        case "raises":
            raise ValueError("no such optimiser")
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits":
            os._exit(5)
    return {"a set": {1}}


def tensorflow_as_it_is(parameters: Mapping[str, Any], progress: Progress) -> dict[str, Any]:  # noqa: ARG001
    import tensorflow as tf

    from worker.gpus import create_tensorflow_model_with_gpu, get_tensorflow_gpu_integration

    setup = get_tensorflow_gpu_integration().setup
    model = create_tensorflow_model_with_gpu("mlp", parameters["model"])
    return {
        "cards": os.environ["CUDA_VISIBLE_DEVICES"],
        "strategy": type(setup.strategy).__name__,
        "replicas": setup.strategy.num_replicas_in_sync,
        "devices": len(tf.config.list_logical_devices()),
        "policy": tf.keras.mixed_precision.global_policy().name,
        "layers": [(type(layer).__name__, layer.compute_dtype) for layer in model.layers],
    }


def tensorflow_too_late(parameters: Mapping[str, Any], progress: Progress) -> list[str]:
    """It computes, and asks for other devices then, and for other cards."""
    from worker.gpus import frameworks, get_tensorflow_gpu_integration

    tensorflow_as_it_is(parameters, progress)
    integration = get_tensorflow_gpu_integration()
    told, settings = integration.setup.told, integration.setup.settings
    two = settings.model_copy(update={"visible_devices": [0, 1]})
    other = told.model_copy(deep=True)
    other.gpu_config.enabled = True
    other.nodes = ["a"]
    other.gpu_config.environment = {"a": {"CUDA_VISIBLE_DEVICES": "7"}}
    said = []
    for what, how in ((told, two), (other, settings)):
        ready = frameworks.prepared(what, None).model_copy(update={"tensorflow": how})
        try:
            integration.setup_tensorflow_gpu(ready, rehearse=True)
        except Exception as error:
            said.append(str(error))
    return said
