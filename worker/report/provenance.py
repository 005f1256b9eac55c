"""Where the answers come from: the recipe, the machines, the versions, the folders, the claims."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata

from worker.items import Json
from worker.queue.beat import Beat
from worker.queue.recipe import Run
from worker.redact import redact, redact_json

LIBRARIES = (
    "gpu-batch-worker",
    "torch",
    "transformers",
    "vllm",
    "av",
    "pillow",
    "numpy",
    "obstore",
    "pydantic",
)


def provenance(
    run: Run, queue: str, beats: Sequence[Beat], roots: Sequence[str], epochs: Mapping[str, int]
) -> dict[str, Json]:
    return {
        "queue": redact(queue),
        "fingerprint": run.fingerprint,
        "recipe": redact_json(run.recipe.model_dump()),
        "shard_size": run.shard_size,
        "workers": [{"id": beat.worker, "last_beat": beat.at, **beat.info} for beat in beats],
        "collected_by": versions(),
        "roots": [redact(root) for root in roots],
        "attempts": dict(sorted(epochs.items())),
    }


def versions() -> dict[str, str]:
    """Of this machine; what the workers ran stands in their beats."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found
