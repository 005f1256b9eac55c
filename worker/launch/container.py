"""A run inside of an image: what Docker and Podman are told.

Every path has the same name inside as outside, in full: the folder that we are in is not there. So a queue
that was begun in an image goes on without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from worker.errors import MachineError, UsageError
from worker.launch.machine import Engine, Machine
from worker.launch.order import GLOB, NAME, Order, Step

PASSED_ON = (
    "WORKER_",
    "AZURE_",
    "AZURITE_",
    "AWS_",
    "GOOGLE_",
    "HF_",
    "TRANSFORMERS_",
    "NCCL_",
    "CUDA_",
    "OPENAI_",
)
"""a worker's settings and its keys, by name: values would stand in the list of processes"""
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
OURS = ("HF_HOME", "HF_HUB_CACHE", "WORKER_CACHE")
"""these name places outside"""
FILES = (
    "WORKER_MODEL",
    "WORKER_SCREEN_MODEL",
    "WORKER_TASKS",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_FEDERATED_TOKEN_FILE",
)
"""variables that may name a file or folder here"""
CACHE = "/cache"
HUB = f"{CACHE}/huggingface/hub"
"""home of the images' user, and where the hub's models lie in it"""
SHARED_MEMORY = "8g"
"""of Docker's 64 MB a loader's processes and NCCL die; what is not used costs nothing"""
STOP_S = 60
"""before `docker stop` kills: more than a worker's grace"""
BUILD_ARGUMENTS = ("PIP_INDEX_URL", "TORCH_INDEX", *PROXIES)


@dataclass(frozen=True)
class Mounts:
    written: tuple[str, ...]
    read: tuple[str, ...]


def build(order: Order, builder: str, environment: Mapping[str, str]) -> Step:
    arguments = [word for name in BUILD_ARGUMENTS if name in environment for word in ("--build-arg", name)]
    # else Podman's and buildah's images have no health check
    form = () if builder == "docker" else ("--format", "docker")
    command = (builder, "build", *form, "--file", order.dockerfile, "--target", order.target, *arguments)
    return Step((*command, "--tag", order.image_name, "."), f"Building {order.image_name}")


def builder_of(machine: Machine) -> str:
    if machine.engine:
        return machine.engine.name
    if machine.buildah:
        return "buildah"
    why = machine.why_none or "neither docker, podman nor buildah is here"
    raise MachineError(f"{why}: to build an image takes one of them; make run works without")


def without_engine(order: Order, machine: Machine) -> MachineError:
    why = machine.why_none or "neither docker nor podman is here"
    return MachineError(f"IMAGE={order.image}: {why}; leave IMAGE out to work without a container")


def push(order: Order, machine: Machine) -> list[Step]:
    if not order.image:
        raise UsageError("make push needs a name: make push HW=a800 IMAGE=registry/name:tag")
    builder = builder_of(machine)
    return [
        build(order, builder, machine.environment),
        Step((builder, "push", order.image), f"Pushing {order.image}"),
    ]


def refuse_without_gpu(order: Order, engine: Engine) -> None:
    if not order.profile.has_gpu or engine.gives_gpus:
        return
    remedy = (
        "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
        if engine.is_podman
        else "nvidia-ctk runtime configure --runtime=docker && systemctl restart docker"
    )
    raise MachineError(
        f"{engine.name} cannot give a container the GPU: install nvidia-container-toolkit, then {remedy}"
    )


def there(order: Order, engine: Engine) -> tuple[str, ...]:
    """Asks whether the image is here."""
    return (engine.name, "image", "inspect", order.image_name)


def fetch(order: Order, machine: Machine, engine: Engine) -> Step:
    """Of an image that is not here."""
    if order.image:
        return Step((engine.name, "pull", order.image), f"Pulling {order.image}")
    return build(order, engine.name, machine.environment)


def absolute(order: Order, folder: str, is_here: Callable[[str], bool]) -> Order:
    def whole(path: str) -> str:
        return within(folder, path) if path and "://" not in path else path

    return replace(
        order,
        queue=whole(order.queue),
        out=whole(order.out),
        inputs=tuple(map(whole, order.inputs)),
        model=whole(order.model) if is_here(order.model) else order.model,
    )


def mounts(made: Iterable[str], wanted: Iterable[str], is_file: Callable[[str], bool]) -> Mounts:
    """The fewest folders that hold all: what is made can be written, and nothing else of where it lies."""
    written = _outermost(path for path in made if "://" not in path)
    local = [path for path in wanted if "://" not in path]
    read = _outermost(_parent(path) if is_file(path) else _unpatterned(path) for path in local)
    return Mounts(written, tuple(path for path in read if path not in written))


def run(
    order: Order, machine: Machine, engine: Engine, mounted: Mounts, cache: Mapping[str, str], program: str
) -> tuple[str, ...]:
    """What stands before the arguments of `program`. `cache`: folders here, and where they are inside."""
    command = [engine.name, "run", "--rm", "--entrypoint", program, "--stop-timeout", str(STOP_S)]
    command += ["--shm-size", SHARED_MEMORY, *_user(engine, machine)]
    if order.profile.has_gpu:
        command += ["--device", "nvidia.com/gpu=all"] if engine.is_podman else ["--gpus", "all"]
    for path in mounted.written:
        command += ["--volume", f"{path}:{path}"]
    for path in mounted.read:
        command += ["--volume", f"{path}:{path}:ro"]
    for here, inside in cache.items():
        command += ["--volume", f"{here}:{inside}"]
    for name in sorted({*order.profile.environment, *machine.environment}):
        if (name.startswith(PASSED_ON) or name in PROXIES) and name not in OURS:
            command += ["--env", name]
    return (*command, order.image_name)


def caches(environment: Mapping[str, str]) -> dict[str, str]:
    """Models and what was learnt are the same inside as outside, and stay when the container goes."""
    home = environment.get("HOME", "/root")
    cache = environment.get("XDG_CACHE_HOME") or f"{home}/.cache"
    found = {f"{cache}/{NAME}": CACHE}
    if given := environment.get("HF_HOME"):
        found[given] = f"{CACHE}/huggingface"
    if given := environment.get("HF_HUB_CACHE"):
        found[given] = HUB
    elif not environment.get("HF_HOME"):
        found[f"{cache}/huggingface/hub"] = HUB
    found[environment.get("WORKER_CACHE") or f"{home}/.cache/worker"] = f"{CACHE}/.cache/worker"
    return {path.replace("~", home, 1) if path.startswith("~/") else path: at for path, at in found.items()}


def points(cache: Mapping[str, str]) -> list[str]:
    """Where one lies within another: an engine would make these folders itself, as root."""
    outer = next(here for here, inside in cache.items() if inside == CACHE)
    return [f"{outer}{inside[len(CACHE) :]}" for inside in cache.values()]


def _user(engine: Engine, machine: Machine) -> tuple[str, ...]:
    """OUT belongs to who asked for it."""
    if engine.is_podman and machine.user[0]:
        # without root it has numbers of its own; labels of a home are not to be changed
        return ("--userns", "keep-id", "--security-opt", "label=disable")
    if engine.is_podman or engine.kind == "rootless docker":
        return ("--user", "0:0")  # where a Docker without root has its caller
    return ("--user", "{}:{}".format(*machine.user))


def within(folder: str, path: str) -> str:
    return os.path.normpath(PurePosixPath(folder, path))


def _parent(path: str) -> str:
    """But never all there is."""
    parent = str(PurePosixPath(path).parent)
    return path if parent == "/" else parent


def _unpatterned(path: str) -> str:
    """The folder below which a pattern looks."""
    parts = PurePosixPath(path).parts
    plain = next((n for n, part in enumerate(parts) if GLOB & set(part)), len(parts))
    return str(PurePosixPath(*parts[:plain]))


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not _is_below(path, kept):
            kept.append(path)
    return tuple(kept)


def _is_below(path: str, others: Iterable[str]) -> bool:
    return any(path == other or path.startswith(other.rstrip("/") + "/") for other in others)
