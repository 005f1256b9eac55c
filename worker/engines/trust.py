"""Python code that comes with a model: it runs only if the machine's owner allowed that very content."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.engines import checkpoint
from worker.engines.device import cache_folder
from worker.errors import MachineError, UsageError

if TYPE_CHECKING:
    from worker.engines.choice import Choice

VARIABLE = "WORKER_ALLOW_CODE"
OPTION = "--allow-code"


def parse(text: str) -> frozenset[str]:
    """NAME@REVISION, several separated by commas."""
    named = [one.strip() for one in text.split(",") if one.strip()]
    for one in named:
        if not re.fullmatch(r"[^@]+@(tree:[0-9a-f]{32}|[0-9a-f]{40})", one):
            raise UsageError(
                f"{OPTION} {one}: write NAME@REVISION, the revision as the recipe has it "
                "(tree:… or a commit's 40 hex digits)"
            )
    return frozenset(named)


def require(choice: Choice, config: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> None:
    """May the code of this model be run? The revision is that of files that were found to be those."""
    named = f"{choice.model}@{choice.revision}"
    if elsewhere := sorted(where for where in _classes(config) if "--" in where):
        raise MachineError(
            f"{named} takes its code from another repository ({elsewhere[0]}), which is not pinned: copy "
            "the model and that code into one folder"
        )
    if named not in parse(environment.get(VARIABLE, "")):
        files = ", ".join(checkpoint.code(choice.file or Path()))
        raise MachineError(
            f"{named} runs python code of its own ({files}): look at it, and if you trust it say "
            f"{OPTION} {named} or {VARIABLE}={named}"
        )


@contextmanager
def alone() -> Iterator[None]:
    """transformers copies code to one place of the machine, and imports it there: one process at a time."""
    lock = cache_folder() / "code.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _classes(config: Mapping[str, Any]) -> list[str]:
    """Where each class comes from: [repository--]module.Class"""
    found: list[str] = []
    for where in config.get("auto_map", {}).values():
        found += [one for one in (where if isinstance(where, list) else [where]) if one]
    return found
