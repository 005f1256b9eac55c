"""What this machine has to start a worker with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Ask = Callable[..., tuple[int, str]]
    """a command → its exit code, and what it said"""

DATA_DISK = Path("/root/autodl-tmp")
"""of a container that AutoDL rents out; what lies elsewhere there fills a small system disk"""
CDI = (Path("/etc/cdi"), Path("/var/run/cdi"))
DRIVER = Path("/proc/driver/nvidia/version")
PYTHONS = ("python3", "python3.11", "python3.12", "python3.13")
OLDEST = (3, 11)
LIMIT_S = 60.0


@dataclass(frozen=True)
class Engine:
    """A Docker or a Podman that answers."""

    name: str
    gives_gpus: bool
    kind: str = "docker"
    """docker, rootless docker, or podman, which may be called docker"""

    @property
    def is_podman(self) -> bool:
        return self.kind == "podman"


@dataclass(frozen=True)
class Machine:
    engine: Engine | None = None
    why_none: str = ""
    """of an engine that is installed and does not answer"""
    buildah: bool = False
    driver: bool = False
    """NVIDIA's"""
    python: str = ""
    """one that is new enough"""
    data_disk: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    user: tuple[int, int] = (0, 0)
    folder: str = "/"
    """where we are"""


def look(ask: Ask = lambda *command: _answer(*command)) -> Machine:
    engine, why = _engine(ask)
    return Machine(
        engine,
        why,
        bool(shutil.which("buildah")),
        DRIVER.exists() or bool(shutil.which("nvidia-smi")),
        next((one for one in PYTHONS if _is_new(one, ask)), ""),
        str(data_disk() or ""),
        dict(os.environ),
        (os.getuid(), os.getgid()),
        str(Path.cwd()),
    )


def data_disk() -> Path | None:
    return DATA_DISK if DATA_DISK.is_dir() and os.access(DATA_DISK, os.W_OK) else None


def _engine(ask: Ask) -> tuple[Engine | None, str]:
    why = ""
    for name in ("docker", "podman"):
        if not shutil.which(name):
            continue
        code, said = ask(name, "info", "--format", "{{json .}}")
        if code == 0:
            kind = kind_of(said)
            return Engine(name, gives_gpus(kind, said), kind), ""
        remedy = "; sudo usermod -aG docker $USER, and log in again" * ("permission denied" in said.lower())
        why = why or f"{name} does not answer ({_last_line(said)}{remedy})"
    return None, why


def kind_of(said: str) -> str:
    about = _read(said)
    if "host" in about:
        return "podman"
    return "rootless docker" if "name=rootless" in (about.get("SecurityOptions") or ()) else "docker"


def gives_gpus(kind: str, said: str) -> bool:
    """By a runtime or a hook that knows NVIDIA's devices, or by a list of the devices themselves."""
    if any(file for folder in CDI if folder.is_dir() for file in folder.glob("nvidia*")):
        return True
    if kind == "podman":
        return False
    return "nvidia" in (_read(said).get("Runtimes") or {}) or bool(
        shutil.which("nvidia-container-runtime-hook")
    )


def _read(said: str) -> dict[str, Any]:
    try:
        about = json.loads(said)
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _is_new(python: str, ask: Ask) -> bool:
    if python == "python3" and sys.version_info >= OLDEST:
        return bool(shutil.which(python))
    code, said = ask(python, "--version") if shutil.which(python) else (1, "")
    found = re.match(r"Python (\d+)\.(\d+)", said)
    return code == 0 and found is not None and (int(found[1]), int(found[2])) >= OLDEST


def _answer(*command: str) -> tuple[int, str]:
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return ended.returncode, ended.stdout if ended.returncode == 0 else ended.stderr


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it says nothing")
