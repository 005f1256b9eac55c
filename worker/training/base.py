"""The model that a training begins with: as a person names it, and as every machine knows it."""

from __future__ import annotations

from pathlib import Path

from worker.engines import checkpoint, hub
from worker.errors import ItemError
from worker.training.adapters import Base


def find(name: str, beside: Path) -> Path:
    """`name`: a folder, seen from `beside`, or a model of the hub that was fetched here."""
    if (folder := beside / name).is_dir():
        return folder
    commit = hub.commit(name, "main") if hub.is_name(name) else None
    if commit and (snapshot := hub.snapshot(name, commit)):
        return snapshot
    how = f": fetch it with {hub.fetch(name)}" if hub.is_name(name) else f", seen from {beside}"
    raise ItemError("no-model", f"the model {name} is not on this machine{how}")


def require_whole(folder: Path) -> None:
    """Adapters learn beside the numbers that they will be merged into."""
    checkpoint.check(folder)
    told = checkpoint.config(folder)
    if told.get("quantization_config") or told.get("compression_config"):
        raise ItemError(
            "no-model",
            f"{folder.name} is quantised already: name the full-precision one that it was made from",
        )


def known(name: str, folder: Path) -> Base:
    """`name`: as it was told, where `folder` was found for it."""
    if folder.parent.name == "snapshots":
        return Base(name, folder.name, str(folder))
    return Base(folder.name, checkpoint.tree(folder), str(folder))
