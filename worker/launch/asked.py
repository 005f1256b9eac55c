"""What a person typed becomes a Launch, or is refused before anything is made."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.duration import spoken
from worker.errors import UsageError
from worker.items import Json
from worker.launch.launch import Launch, Receipt, is_name
from worker.launch.order import Profile, read_profile
from worker.redact import redact

NAMELESS = "work"
SHORTEST_S = 60
"""of a job"""
RECIPE = ("engine", "model", "revision", "screen", "screen-model")
SECRETS = ("KEY", "KEYS", "TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PWD", "SAS", "CREDENTIAL")
"""what a part of a variable's name ends in, if it is none of our business"""


def launch_of(checkout: Path, said: Mapping[str, Any], own: Mapping[str, Json]) -> Launch:
    """`said`: the options that all launchers have, by their names; `own`: those of this one alone."""
    profile = profile_of(checkout, said["hw"])
    name = said["name"] or name_of(said["queue"] or next(iter(said["paths"]), ""))
    if not is_name(name):
        raise UsageError(
            f"--name '{name}': lower case letters, digits and hyphens, a letter first, 40 at most"
        )
    recipe = {option: said[option.replace("-", "_")] or "" for option in RECIPE}
    params = [*said["settings"], *([f"lang={said['lang']}"] if said["lang"] else [])]
    texts = [one for one in own.values() if isinstance(one, str)]
    for one in (said["queue"], said["image"], *said["paths"], *recipe.values(), *params, *texts):
        refuse_secret(one)
    _refuse_unreadable({**said, **own})
    gpus = said["gpus"]
    launch = Launch(
        name,
        profile,
        queue=said["queue"],
        out=said["out"],
        inputs=list(said["paths"]),
        task=said["task"] or "",
        recipe={option: value for option, value in recipe.items() if value},
        params=params,
        environment=dict(map(assigned, said["environment"])),
        workers=said["workers"],
        gpus=(1 if profile.has_gpu else 0) if gpus is None else gpus,
        time_limit_s=said["time_limit"] or 0,
        image=said["image"],
        price=said["price"],
        settings=dict(own),
    )
    _refuse_idle(launch)
    return launch


def _refuse_idle(launch: Launch) -> None:
    if not launch.inputs and not launch.queue:
        raise UsageError("nothing to work on: name files or folders, or a --queue that holds its items")
    if launch.inputs and not launch.task and not launch.queue:
        raise UsageError("--task is missing: it says what is done with each input, see `worker tasks`")
    if 0 < launch.time_limit_s < SHORTEST_S:
        raise UsageError(f"--time-limit: a worker needs {spoken(SHORTEST_S)} at least")


def profile_of(checkout: Path, hw: str) -> Profile:
    if not any((checkout / "env").glob("*.env")):
        raise UsageError(
            "the machines' profiles (env/*.env) are not in the installed package: use the `worker launch` of "
            "a clone of the repository, which `make setup` puts into its .venv"
        )
    return read_profile(checkout, hw, os.environ)


def need_image(launch: Launch) -> None:
    """Where machines have nothing else of ours."""
    if not launch.image:
        raise UsageError(
            "--image is missing: the machines pull the worker's image from a registry; "
            f"make push HW={launch.profile.hw} IMAGE=registry/name:tag brings it there"
        )


def assigned(said: str) -> tuple[str, str]:
    """NAME=VALUE, which is written into files and receipts."""
    name, equals, value = said.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise UsageError(f"--env {redact(name)}: write NAME=VALUE")
    if redact(said) != said or any(part.endswith(SECRETS) for part in name.upper().split("_")):
        raise UsageError(
            f"--env {name} looks like a secret, and would be written down: keep it in the place's own store "
            "of secrets (docs/launch.md)"
        )
    return name, value


def refuse_secret(said: str) -> None:
    if redact(said) != said:
        raise UsageError(
            f"{redact(said)} holds a secret, and would be written down: leave it out, say it here by the "
            "environment (AZURE_STORAGE_SAS_TOKEN) and there by the place's store of secrets (docs/launch.md)"
        )


def _refuse_unreadable(said: Mapping[str, Any]) -> None:
    """What no file of YAML or JSON can hold."""
    lists = (value if isinstance(value, list | tuple) else [value] for value in said.values())
    for one in (one for values in lists for one in values if isinstance(one, str)):
        try:
            one.encode()
        except UnicodeEncodeError:
            shown = one.encode(errors="replace").decode()
            raise UsageError(f"{shown} is not UTF-8: give it another name") from None


def name_of(path: str) -> str:
    """my-clips of az://bucket/My clips/"""
    last = next((part for part in reversed(path.split("/")) if part), NAMELESS)
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-0123456789")[:40].strip("-") or NAMELESS


def refuse_other(launch: Launch, known: Receipt | None, *, is_named: bool) -> None:
    """Two folders may be called clips: a name that nobody chose does not make one launch of them."""
    if known and not is_named and _work(launch) != _work(known.launch):
        raise UsageError(
            f"another launch is called {launch.name} already ({_words(known.launch.inputs) or known.queue}): "
            f"--name this one; or say --name {launch.name}, if it shall go on with these"
        )


def _work(launch: Launch) -> tuple[str, Sequence[str], str]:
    return launch.task, list(launch.inputs), launch.queue


def _words(inputs: Sequence[str]) -> str:
    return " ".join(inputs[:3]) + (" …" if len(inputs) > 3 else "")
