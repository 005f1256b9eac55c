"""The models that a plan knows by name. Their configurations and counts lie beside this file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from worker.engines import checkpoint, hub, quantisation
from worker.engines.choice import Choice
from worker.errors import UsageError
from worker.items import Json
from worker.planning import counting, shape
from worker.planning.shape import Parameters, Shape

ALSO = {"videochat2-hd-stage4-mistral-7b-hf": "videochat2-hd"}
"""what the hub calls them where that says less"""
FOLDER = Path(__file__).with_name("models")


def names() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.json"))


def read(name: str) -> Mapping[str, Json]:
    told: Mapping[str, Json] = json.loads((FOLDER / f"{name}.json").read_bytes())
    return told


def named(model: str) -> Shape | None:
    """By a name that is known, without a look at any folder."""
    name = _known(model)
    if name is None:
        return None
    told = read(name)
    parameters = Parameters(**told["parameters"])
    stored = "awq" if "awq" in model.lower() else "none"
    return shape.of(name, told["config"], parameters, stored=stored, source=told["source"])


def find(model: str) -> Shape:
    """By the name of a model that is known, by one of the hub's that was fetched here, or by its folder."""
    if (folder := Path(model)).is_dir():
        return of_folder(folder)
    if found := named(model):
        return found
    commit = hub.commit(model, "main") if hub.is_name(model) else None
    if commit and (snapshot := hub.snapshot(model, commit)):
        return of_folder(snapshot, model)
    near = difflib.get_close_matches(model.rpartition("/")[2], names(), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names())}"
    raise UsageError(f"--model {model}: no such folder, and no model that plans know; {hint}")


def smaller(shape: Shape) -> Shape | None:
    """The largest of its family that is smaller."""
    size = shape.parameters.total
    below = [one for one in map(find, names()) if one.family == shape.family and one.parameters.total < size]
    return max(below, key=lambda one: one.parameters.total, default=None)


def of_folder(folder: Path, name: str | None = None) -> Shape:
    config = checkpoint.config(folder)
    shape.require_family(str(folder), config)
    stored, _ = quantisation.choose("none", config)
    try:
        parameters = counting.of_folder(folder)
    except UsageError:
        parameters = counting.of_config(config)  # the weights may still have to be fetched
    return shape.of(name or folder.name, config, parameters, stored=stored, source=f"{folder}/config.json")


@cache
def of_choice(choice: Choice) -> Shape:
    """Of an engine's model, whose folder is here."""
    assert choice.file
    name = choice.model or choice.file.name
    if choice.engine == "videochat2":
        return replace(find("videochat2-hd"), name=name, parameters=counting.of_folder(choice.file))
    return of_folder(choice.file, name)


def _known(model: str) -> str | None:
    """`Qwen/Qwen3-VL-32B-Instruct`, `qwen3-vl-32b`: case, owner and what it was tuned for say nothing."""
    plain = model.rpartition("/")[2].lower().replace("_", "-")
    plain = ALSO.get(plain, plain)
    found = [name for name in names() if plain == name or plain.startswith(f"{name}-")]
    return max(found, key=len, default=None)
