"""What each lock is resolved from."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from worker.hardware.stacks import CPU, HOPPER, STACKS, Stack

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
HEAD = "# written by python -m env.locks, from worker/hardware/stacks.py and pyproject.toml\n"
# an image runs what a plain .venv runs
SAME = ("-c core.txt", "-c detector.txt", "-c openai.txt")
TENSORFLOW = "tensorflow"
"""an environment of its own, with what its tests need: `make test-tensorflow`"""
AZUREML = "azureml"
"""alike, for its telemetry wants another release than the tools of developers: `make test-azureml`"""
LLMCOMPRESSOR = "llmcompressor"
"""alike, for it wants another transformers: `make test-quantise`"""


def texts() -> dict[str, str]:
    """By the name of the lock."""
    found = {stack.name: _text(_worker(stack), SAME) for stack in STACKS.values()}
    for stack in STACKS.values():
        if stack.quantise:
            # its libraries hold back numpy and pillow, so it is not as a .venv is
            found[f"quantise-{stack.name}"] = _text([*_project(), *_torch(stack), *_pins(stack.quantise)], ())
    found[TENSORFLOW] = _text(_tensorflow(), (*SAME, "-c gpus.txt", "-c dev.txt"))
    found[AZUREML] = _text([*_project(), *_extra(AZUREML), *_tests()], SAME)
    # without torchvision, which must be of the same make as torch, and is asked for by none of it
    torch = {"torch": str(HOPPER.torch)}
    found[LLMCOMPRESSOR] = _text([*_project(), *_pins(torch | {**HOPPER.quantise}), *_tests()], ())
    return found


def stack_of(lock: str) -> Stack:
    return CPU if lock in (TENSORFLOW, AZUREML, LLMCOMPRESSOR) else STACKS[lock.removeprefix("quantise-")]


def _worker(stack: Stack) -> list[str]:
    models = () if stack is CPU else ("vlm", "training", "wandb")
    told = {one for name in models for one in _extra(name, without=("torch", *stack.packages))}
    return [
        *_project(),
        *_extra("detector"),
        *_extra("openai"),
        *told,
        *_torch(stack),
        *_pins(stack.packages),
    ]


def _tensorflow() -> list[str]:
    # without the kernels of GPUs, which are most of its bytes
    framework = [one.replace("tensorflow", "tensorflow-cpu") for one in _extra(TENSORFLOW)]
    return [*_project(), *_extra("gpus"), *framework, *_tests()]


def _tests() -> list[str]:
    return [one for one in _told()["dev"] if one.startswith(("hypothesis", "pytest"))]


def _torch(stack: Stack) -> list[str]:
    return [f"torch=={stack.torch}", f"torchvision=={stack.torchvision}"] if stack.torch else []


def _pins(packages: Mapping[str, str]) -> list[str]:
    return [f"{name}=={version}" for name, version in packages.items()]


@cache
def _told() -> dict[str, list[str]]:
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def _project() -> list[str]:
    return _told()[""]


def _extra(name: str, without: Iterable[str] = ()) -> list[str]:
    return [one for one in _told()[name] if one.partition(">")[0] not in without]


def _text(wanted: Iterable[str], constraints: Iterable[str]) -> str:
    return HEAD + "".join(f"{line}\n" for line in (*constraints, *sorted(wanted)))
