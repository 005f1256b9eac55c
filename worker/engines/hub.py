"""Models of the hub, as far as they were fetched onto this machine. Nothing is asked over the network.

The cache's layout is the hub library's: models--OWNER--NAME/refs/REVISION holds a commit's hash, and
models--OWNER--NAME/snapshots/COMMIT the files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from worker.errors import ItemError


def is_name(model: str) -> bool:
    """owner/name"""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", model) is not None


def is_commit(revision: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def cache(environment: Mapping[str, str] = os.environ) -> Path:
    for variable, below in (("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")):
        if given := environment.get(variable):
            return Path(given).expanduser() / below
    return Path("~/.cache/huggingface/hub").expanduser()


def commit(name: str, revision: str) -> str | None:
    """The one that a branch or a tag stood at when it was fetched here."""
    if is_commit(revision):
        return revision
    try:
        found = (_folder(name) / "refs" / revision).read_text().strip()
    except (OSError, ValueError):
        return None
    return found if is_commit(found) else None


def snapshot(name: str, commit: str) -> Path | None:
    folder = _folder(name) / "snapshots" / commit
    return folder if folder.is_dir() else None


def fetch(name: str, revision: str | None = None) -> str:
    """The command that brings it here."""
    return f"hf download {name}" + (f" --revision {revision}" if revision else "")


def find(name: str, beside: Path, revision: str | None = None) -> Path:
    """`name`: a folder, seen from `beside`, or a model of the hub that was fetched here."""
    if (folder := beside / Path(name).expanduser()).is_dir():
        return folder
    found = commit(name, revision or "main") if is_name(name) else None
    if found and (fetched := snapshot(name, found)):
        return fetched
    how = f": fetch it with {fetch(name, revision)}" if is_name(name) else f", seen from {beside}"
    raise ItemError("no-model", f"the model {name} is not on this machine{how}, or name its folder")


def _folder(name: str) -> Path:
    return cache() / f"models--{name.replace('/', '--')}"
