"""The model that a training begins with: as a person names it, and as every machine knows it."""

from __future__ import annotations

from pathlib import Path

from worker.engines import checkpoint
from worker.errors import ItemError
from worker.training.adapters import Base


def require_whole(folder: Path) -> None:
    """Adapters learn beside the numbers that they will be merged into."""
    checkpoint.check(folder)
    if checkpoint.quantised(checkpoint.config(folder)):
        raise ItemError(
            "no-model",
            f"{folder.name} is quantised already: name the full-precision one that it was made from",
        )


def known(name: str, folder: Path) -> Base:
    """`name`: as it was told, where `folder` was found for it."""
    if folder.parent.name == "snapshots":
        return Base(name, folder.name, str(folder))
    return Base(folder.name, checkpoint.tree(folder), str(folder))
