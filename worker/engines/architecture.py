"""Which of transformers' classes, or of a checkpoint's own, makes the model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.engines import trust
from worker.engines.choice import Choice
from worker.errors import MachineError, UsageError
from worker.items import Json

_ATTENTION = {"sdpa": "_supports_sdpa", "flash_attention_2": "_supports_flash_attn"}
"""what a model's class says of itself"""


@dataclass(frozen=True, slots=True)
class Architecture:
    name: str
    """the model's"""
    auto: Any
    """the class that loads it: one of transformers' Auto classes, or of its own code"""
    config: Any
    settings: Mapping[str, Json]
    """what its own constructor is given"""
    trusted: bool
    """it runs code of its own"""
    attention: frozenset[str] | None
    """the kinds that it knows; None: its own code chooses"""


def find(
    choice: Choice, folder: Path, told: Mapping[str, Any], architectures: str, settings: Mapping[str, Json]
) -> Architecture:
    transformers = _transformers(choice.engine)
    name, auto = str(choice.model), getattr(transformers, architectures)
    trusted = _needs_code(name, told)
    if trusted:
        trust.require(choice, told)
    with trust.alone() if trusted else nullcontext():
        config, unused = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=trusted, local_files_only=True, return_unused_kwargs=True, **settings
        )
        made = _own(name, config, architectures, folder) if trusted else _known(name, config, auto)
    knows = frozenset(kind for kind, flag in _ATTENTION.items() if getattr(made, flag, False))
    # asked for by its own class nothing is imported any more while it loads, which takes minutes
    return Architecture(
        name, made if trusted else auto, config, unused, trusted, None if trusted and not knows else knows
    )


def _known(name: str, config: Any, auto: Any) -> Any:
    if type(config) not in auto._model_mapping:
        raise UsageError(f"{name} is of the type {config.model_type!r}, and so none of {auto.__name__}")
    return auto._model_mapping[type(config)]


def _own(name: str, config: Any, architectures: str, folder: Path) -> Any:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    if architectures not in getattr(config, "auto_map", {}):
        raise UsageError(f"{name} has no {architectures} among its code")
    return get_class_from_dynamic_module(config.auto_map[architectures], folder, local_files_only=True)


def _transformers(engine: str) -> Any:
    # before it is imported, and before what it imports
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import accelerate  # noqa: F401
        import torch  # noqa: F401
        import transformers
        from huggingface_hub import constants
    except ImportError as error:
        raise MachineError(
            f"engine {engine} needs {error.name}: pip install 'gpu-batch-worker[vlm]'"
        ) from None
    constants.HF_HUB_OFFLINE = True  # it may have been imported already
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers


def _needs_code(name: str, told: Mapping[str, Any]) -> bool:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if told.get("model_type") in CONFIG_MAPPING_NAMES:
        return False
    if not told.get("auto_map"):
        raise UsageError(
            f"{name} is of the type {told.get('model_type')!r}, which transformers {transformers.__version__}"
            " does not know, and brings no code of its own"
        )
    return True
