"""What a model's own code asks for by name (bert-base-uncased) comes from the model's folder, whose content
is pinned, or it does not come: neither from the hub's cache nor from another folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worker.engines import hub
from worker.engines.choice import Choice

_KINDS = "--include '*.json' --include '*.txt' --include '*.model'"
"""shapes and tokenizers: the weights are in the model's own files"""


@contextmanager
def only(choice: Choice) -> Iterator[None]:
    """Inside of this transformers finds files of this model's folder alone."""
    from transformers.utils import hub as transformers_hub

    usual = transformers_hub.cached_files

    def cached_files(path_or_repo_id: str | os.PathLike[str], filenames: Sequence[str], **how: Any) -> Any:
        return usual(str(place(choice, str(path_or_repo_id))), filenames, **how)

    transformers_hub.cached_files = cached_files
    try:
        yield
    finally:
        transformers_hub.cached_files = usual


def place(choice: Choice, asked: str) -> Path:
    """Where it lies. An OSError, which transformers hands on as it is, says what to fetch."""
    folder = choice.file or Path()
    if folder.resolve() in (there := Path(asked).resolve(), *there.parents) and there.is_dir():
        return Path(asked)
    inside = folder / Path(asked).name
    if inside.is_dir():
        return inside
    if hub.is_name(asked) or "/" not in asked:
        command = f"{hub.fetch(asked)} {_KINDS} --local-dir {inside}"
    else:
        command = f"copy it to {inside}"
    if hub.is_commit(str(choice.revision)):
        command = f"copy {folder} to a folder of your own, name that, and do there likewise: {command}"
    raise OSError(f"its code asks for {asked}, which is not in its folder, and so not pinned: {command}")
