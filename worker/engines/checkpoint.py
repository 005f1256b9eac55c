"""A model's folder, as it was fetched or saved: what it is known by everywhere, and whether it is whole.

Nothing heavy is imported here: enqueue needs it too."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from worker.engines import weights
from worker.errors import UsageError

TREE = "tree:"
CONFIG = "config.json"
_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
"""makes transformers load another model than this folder's"""
_READ = frozenset({".json", ".py", ".txt", ".model", ".jinja", ".tiktoken", weights.SUFFIX})
"""endings of what loading may read; others (pictures, READMEs, weights in other formats) are no part of it,
unless the model brings code, which may read anything"""
_CODE = frozenset({".py", ".pyc", ".so", ".pyd"})
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})


def tree(folder: Path) -> str:
    """A folder's content, cheaply: every file in full but for weights, of which `weights.mark` is taken."""
    digest = hashlib.sha256()
    everything = bool(code(folder))
    for name, file in sorted(_files(folder)):
        if not everything and file.suffix not in _READ:
            continue
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        digest.update(_mark(file).encode())
    return TREE + digest.hexdigest()[:32]


def _mark(file: Path) -> str:
    if file.suffix == weights.SUFFIX:
        return weights.mark(file)
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def code(folder: Path) -> list[str]:
    """What could be run of it, by its names below the folder."""
    return sorted(name for name, file in _files(folder) if file.suffix in _CODE)


def beside(folder: Path) -> list[str]:
    """What loading may read besides weights, by its names below the folder; of a model that brings code, that
    too."""
    return sorted(
        name
        for name, file in _files(folder)
        if file.suffix in _READ | {".py"} and file.suffix != weights.SUFFIX
    )


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """With their names below the folder. What is hidden is a downloader's own; links are followed, as whoever
    reads the folder follows them."""
    for place, folders, files in os.walk(folder, followlinks=True):
        above = {*Path(place).resolve().parents, Path(place).resolve()}
        folders[:] = [
            one
            for one in folders
            if not one.startswith(".") and one != "__pycache__" and Path(place, one).resolve() not in above
        ]
        for one in files:
            if not one.startswith("."):
                file = Path(place, one)
                yield file.relative_to(folder).as_posix(), file


def config(folder: Path) -> Mapping[str, Any]:
    try:
        told = json.loads((folder / CONFIG).read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {CONFIG}: name the folder that a model was saved into") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / CONFIG} cannot be read: {error}") from None
    if not isinstance(told, dict):
        raise UsageError(f"{folder / CONFIG} is no model's configuration")
    return told


def is_tied(told: Mapping[str, Any]) -> bool:
    """Of a configuration: its embedding is its last layer too."""
    text = told.get("text_config") or {}
    return bool(told.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))


def quantised(told: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of a configuration: how; None: its numbers are whole."""
    return told.get("quantization_config") or told.get("compression_config") or None


def files(folder: Path) -> list[Path]:
    """Those that hold the weights, all of them there."""
    names = [_WHOLE]
    if (index := folder / _INDEX).exists() and not (folder / _WHOLE).exists():
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError):
            raise UsageError(f"{index} cannot be read: copy or fetch it again") from None
    if outside := [name for name in names if Path(name).name != name]:
        raise UsageError(f"{index} names {outside[0]}, which is not in it")
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return [folder / name for name in names]
    if missing == [_WHOLE] and (pickles := [one for one in folder.glob("*") if one.suffix in _PICKLES]):
        raise UsageError(
            f"{folder} has its weights only as pickles ({min(pickles).name}), which run code when they are "
            f"read: save it as safetensors first (model.save_pretrained(…, safe_serialization=True))"
        )
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    raise UsageError(f"{folder} has no {missing[0]}{more}: copy or fetch it again")


def check(folder: Path) -> None:
    """Refuses, in one line, what could not be loaded."""
    if (folder / _ADAPTER).exists():
        raise UsageError(
            f"{folder} is an adapter: merge it into its model first, and name the folder of that"
        )
    if other := config(folder).get("transformers_weights"):
        raise UsageError(
            f"{folder / CONFIG} names other weights ({other}): save the model as one of safetensors"
        )
    for file in files(folder):
        weights.header(file)
    if not config(folder).get("auto_map"):  # then no code of its own is run, which could read the others
        return
    if pickles := sorted(name for name, file in _files(folder) if file.suffix in _PICKLES):
        raise UsageError(
            f"{folder} brings code, and pickles that it could read ({', '.join(pickles)}), which run code of "
            "their own: take them out; safetensors are all that is loaded"
        )
