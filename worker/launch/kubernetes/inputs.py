"""What is worked on, where the pods reach it: enqueued before any of them is paid for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.launch import queue
from worker.launch.kubernetes.asked import is_url, place
from worker.launch.order import GLOB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.launch.launch import Launch
    from worker.launch.launcher import Say


def bring(launch: Launch, say: Say) -> None:
    where = place(launch)
    local = [path for path in launch.inputs if not is_url(path)]
    if not is_url(where) or not local or _takes_values(launch, where):
        queue.enqueue(launch, where, launch.inputs, None, say)
        return
    from worker.launch.transfer import upload

    beside = _beside(where)
    places = _places(beside, local)
    for path, at in places.items():
        is_folder = Path(path).is_dir()
        upload(Path(path), at if is_folder else at.rpartition("/")[0], say)
    brought = [places.get(path, path) for path in launch.inputs]
    root = beside if len(local) == len(brought) else None
    queue.enqueue(launch, where, brought, root, say)


def _takes_values(launch: Launch, where: str) -> bool:
    from worker.queue.recipe import require
    from worker.queue.store import open_store
    from worker.tasks import registry

    return registry.find(launch.task or require(open_store(where, named=True)).recipe.task).takes == "values"


def _beside(where: str) -> str:
    """az://films/queue → az://films/queue-inputs"""
    scheme, _, path = where.rstrip("/").partition("://")
    if "/" not in path:
        raise UsageError(
            f"--queue {where} is all of it, and what is worked on lies beside the queue: "
            f"name a folder in it, {scheme}://{path}/queue"
        )
    return f"{scheme}://{path}-inputs"


def _places(beside: str, paths: Sequence[str]) -> dict[str, str]:
    """Where each file or folder goes: below its own name."""
    from worker.sources import LISTS

    found: dict[str, str] = {}
    for path in paths:
        if path == "-" or (GLOB & set(path) and not Path(path).exists()) or path.endswith(LISTS):
            raise UsageError(f"{path}: name the folder or files that it means, for they are brought along")
        if not Path(path).exists():
            raise UsageError(f"{path}: no such file or folder")
        name = Path(path).resolve().name
        if f"{beside}/{name}" in found.values():
            raise UsageError(f"{path}: another one is called {name} too: rename one")
        found[path] = f"{beside}/{name}"
    return found
