"""What a training is asked for, in a form that another process understands."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from worker.errors import UsageError
from worker.gpus import models
from worker.gpus.forms import TrainingGPUConfig

Framework = Literal["", "pytorch", "tensorflow"]

NAMED = ("mlp",)
"""as in algorithms.py, which imports more than a caller needs"""


@dataclass(frozen=True, slots=True)
class Order:
    algorithm: str
    framework: Framework
    wanted: TrainingGPUConfig
    parameters: Mapping[str, Any]
    rehearse: bool


def read_order(algorithm: str | Callable[..., Any], parameters: dict[str, Any], rehearse: bool) -> Order:
    name = algorithm if isinstance(algorithm, str) else name_of(algorithm)
    if name not in NAMED and ":" not in name:
        raise UsageError(
            f"no algorithm is called '{name}': there are {', '.join(NAMED)}, and module:function"
        )
    framework = parameters.get("framework", "pytorch" if name in NAMED else "")
    if framework not in ("", "pytorch", "tensorflow") or (name in NAMED and not framework):
        raise UsageError(f"framework is '{framework}': there are pytorch and tensorflow")
    asked = parameters.pop("gpu_config", {"enabled": False})
    wanted = models.filled(TrainingGPUConfig, asked, "gpu_config")
    if wanted.members > 1:
        raise UsageError("gpu_config.members: a training starts its processes on one node: ask for gpu_count")
    return Order(name, framework, wanted, _plain(parameters), rehearse)


def _plain(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(json.dumps(parameters, default=_path))
    except TypeError as error:
        raise UsageError(f"parameters go to another process as JSON: {error}; name a file instead") from error
    return found


def _path(value: object) -> str:
    if isinstance(value, Path):
        return str(value.absolute())
    raise TypeError(f"{type(value).__name__} is not JSON")


def name_of(function: Callable[..., Any]) -> str:
    """As another process can find it."""
    name, module = getattr(function, "__qualname__", ""), sys.modules.get(getattr(function, "__module__", ""))
    if module is None or not name.isidentifier() or getattr(module, name, None) is not function:
        raise UsageError(
            f"{function!r} cannot be found by another process: define it with def at the top of a module"
        )
    if module.__name__ != "__main__":
        return f"{module.__name__}:{name}"
    file = inspect.getsourcefile(function)
    if not file or not Path(file).is_file():
        raise UsageError(f"{name} was typed at a prompt: put it into a file, for another process loads it")
    return f"{Path(file).absolute()}:{name}"
