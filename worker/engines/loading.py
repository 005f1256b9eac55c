"""From a checkpoint to a model on its device: the one place that chooses how, and says why."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from worker.engines import (
    architecture,
    attention,
    checkpoint,
    pinned,
    placing,
    precision,
    quantisation,
    weights,
)
from worker.engines.architecture import Architecture
from worker.engines.choice import Choice
from worker.engines.device import look
from worker.engines.placing import Place
from worker.errors import MachineError, UsageError
from worker.items import Json

log = logging.getLogger(__name__)

_NAMED = 3
"""so many of the tensors that are wrong are told"""


@dataclass(frozen=True, slots=True)
class Loaded:
    model: Any
    folder: Path
    """where its config and tokenizer lie"""
    trusted: bool
    """it brings code of its own, which its tokenizer may need too"""
    about: Mapping[str, Json]
    """precision, attention, quantisation, devices, each with its `_why`; load_s and weights_gb"""


def load(
    choice: Choice,
    device: str,
    *,
    architectures: str,
    quantise: quantisation.Wanted = "none",
    settings: Mapping[str, Json] | None = None,
    wanted_numbers: precision.Wanted | None = None,
    wanted_kernels: attention.Wanted | None = None,
    computed: precision.Precision | None = None,
) -> Loaded:
    """`architectures` names one of transformers' Auto classes: AutoModelForImageTextToText. `settings` go
    over its configuration, and those that it does not know to its own constructor. What is
    wanted here counts over WORKER_PRECISION and WORKER_ATTENTION. `computed`: in which numbers products are,
    if in others than its weights."""
    folder = choice.file
    if folder is None:
        raise UsageError(f"engine {choice.engine} needs --model, the folder that holds its weights")
    checkpoint.check(folder)
    told = checkpoint.config(folder)
    tensors = [one for file in checkpoint.files(folder) for one in weights.header(file).tensors]
    with pinned.only(choice):
        made = architecture.find(choice, folder, told, architectures, settings or {})

    devices = look(device)
    first = next(devices, None)
    if first is None:
        raise MachineError(f"--device {device}: torch sees none here; look at nvidia-smi and --gpus")
    wished = wanted_numbers or _wish("PRECISION", precision.Wanted)
    numbers, numbers_why = precision.choose(wished, first, _stored(tensors))
    kernels, kernels_why = "own", "its own code chooses"
    if made.attention is not None:
        wished = wanted_kernels or _wish("ATTENTION", attention.Wanted)
        kernels, kernels_why = attention.choose(
            wished, first, computed or numbers, made.attention, attention.works
        )
    kept, kept_why = quantisation.choose(quantise, told)
    need = quantisation.size(tensors, kept, numbers)
    form = numbers if kept == "none" else kept
    place = placing.choose(need, chain([first], devices), f"{made.name} in {form}")

    options = {
        "dtype": precision.TORCH[numbers],
        **place.options,
        **quantisation.options(kept, made.config, numbers),
    }
    if kernels != "own":
        options["attn_implementation"] = kernels
    began = time.monotonic()
    with pinned.only(choice):
        model = _loaded(made, folder, options, place, need)
    took = time.monotonic() - began
    size = sum(one.end - one.start for one in tensors)
    about: dict[str, Json] = {
        "precision": numbers,
        "precision_why": numbers_why,
        "attention": kernels,
        "attention_why": kernels_why,
        "quantisation": kept,
        "quantisation_why": kept_why,
        "devices": [f"{one.place} ({one.name})" for one in place.devices],
        "devices_why": place.why,
        "load_s": round(took, 2),
        "weights_gb": round(size / 1e9, 3),
    }
    log.info("%s", line_of(made.name, about))
    return Loaded(model, folder, made.trusted, about)


def line_of(name: str, about: Mapping[str, Json]) -> str:
    chosen = "; ".join(
        f"{about[one]} ({about[f'{one}_why']})" for one in ("precision", "attention", "quantisation")
    )
    fast = about["weights_gb"] / max(about["load_s"], 0.01)
    return (
        f"{name}: {about['weights_gb']:g} GB onto {', '.join(about['devices'])} in {about['load_s']:g} s "
        f"({fast:.2g} GB/s); {chosen}"
    )


def _loaded(made: Architecture, folder: Path, options: Mapping[str, Any], place: Place, need: int) -> Any:
    import torch

    try:
        model, told = made.auto.from_pretrained(
            folder,
            config=made.config,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below, with the others
            **made.settings,
            **options,
        )
    except torch.OutOfMemoryError:
        raise placing.too_large(made.name, need, place.devices) from None
    complain(made.name, told)
    if {"cpu", "disk"} & {str(one) for one in getattr(model, "hf_device_map", {}).values()} - {
        one.place for one in place.devices
    }:
        raise placing.too_large(made.name, need, place.devices)
    for name, one in chain(model.named_parameters(), model.named_buffers()):
        if one.is_meta:
            raise UsageError(f"{made.name}: loading leaves {name} without numbers")
    for name, one in model.named_parameters():
        if one.is_floating_point() and one.numel() and not _finite(one):
            raise UsageError(
                f"{made.name}: numbers of {name} are too large for {options['dtype']}, or none: try another "
                "WORKER_PRECISION"
            )
    return model.requires_grad_(False)


def _finite(numbers: Any) -> bool:
    """With no memory of its own; and it waits for what is still on its way."""
    least, most = numbers.aminmax()
    return bool(least.isfinite() & most.isfinite())


def complain(name: str, told: Mapping[str, Any]) -> None:
    """A model with a tensor that is missing or left over answers, and answers nonsense."""
    wrong = []
    for kind, said in (
        ("missing_keys", "missing"),
        ("unexpected_keys", "left over"),
        ("mismatched_keys", "of another shape"),
    ):
        keys = sorted(one if isinstance(one, str) else one[0] for one in told[kind])
        if keys:
            more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
            wrong.append(f"{len(keys)} {said} ({', '.join(keys[:_NAMED])}{more})")
    if wrong:
        raise UsageError(f"{name} does not fit its configuration: of its tensors {'; '.join(wrong)}")


def _stored(tensors: Iterable[weights.Tensor]) -> str:
    """What most of the numbers are stored as, packed ones aside."""
    kinds: Counter[str] = Counter()
    for one in tensors:
        if one.is_float:
            kinds[one.kind] += one.count
    return kinds.most_common(1)[0][0] if kinds else "nothing"


def _wish(name: str, values: Any) -> Any:
    wish = os.environ.get(f"WORKER_{name}") or "auto"
    if wish not in get_args(values):
        raise UsageError(f"WORKER_{name}={wish}: it takes {', '.join(get_args(values))}")
    return wish
