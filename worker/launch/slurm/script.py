"""env/slurm/worker.sbatch, filled in for one launch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from worker.launch.endings import stop_after
from worker.launch.launch import Launch
from worker.launch.slurm.host import quoted
from worker.launch.slurm.inputs import THERE
from worker.launch.slurm.place import Place

FILE = "worker.sbatch"
TEMPLATE = f"env/slurm/{FILE}"
MARGIN_S = 300.0
"""before its time is up a worker hands its work back by itself"""
WARNED_S = 120.0
"""by SLURM, if it has not by then"""
PLAIN = re.compile(r"[\w@%+=:,./-]", re.ASCII)


def render(launch: Launch, where: Place, template: str) -> str:
    """What a person may say replaces what stands in the template; nothing below its first command changes."""
    options = _options(launch)
    known = {option.partition("=")[0] for option in options}
    lines = template.splitlines()
    end = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    head = [line for line in lines[:end] if _option_of(line) not in known]
    while head and not head[-1].strip():
        head.pop()
    said = [f"#SBATCH {option}" for option in options]
    exported = [f"export {name}={quoted(value)}" for name, value in settings(launch, where).items()]
    return "\n".join([*head, *said, "", *exported, "", *lines[end:]]) + "\n"


def settings(launch: Launch, where: Place) -> dict[str, str]:
    """What the worker is told."""
    told = {
        **launch.profile.environment,
        **where.environment,
        "WORKER_CHECKOUT": where.checkout,
        "WORKER_VENV": where.venv if where.venv.startswith(("/", "~")) else f"{where.checkout}/{where.venv}",
        "WORKER_QUEUE": where.queue,
    }
    if launch.image:
        told["WORKER_IMAGE"] = launch.image
        told["WORKER_BINDS"] = ",".join(_folders(launch, where))
    if launch.time_limit_s:
        told["WORKER_STOP_AFTER"] = f"{stop_after(launch.time_limit_s, MARGIN_S):.0f}s"
    return told | dict(launch.environment)


def _folders(launch: Launch, where: Place) -> Sequence[str]:
    """That hold the inputs: an image sees no others."""
    if launch.setting("host"):
        there = [path.removeprefix(THERE) for path in launch.inputs if path.startswith(THERE)]
        return [where.inputs, *there]
    return [str(Path(path).absolute()) for path in launch.inputs if "://" not in path]


def _options(launch: Launch) -> list[str]:
    card = launch.setting("gpu_type", "")
    cards = f"gpu:{card}:{launch.gpus}" if card else f"gpu:{launch.gpus}"
    said: Mapping[str, object] = {
        "--job-name": launch.name,
        "--output": "log/%x-%A_%a.log" if launch.workers > 1 else "log/%x-%j.log",
        "--array": f"1-{launch.workers}" if launch.workers > 1 else None,
        "--gres": cards if launch.gpus else None,
        "--partition": launch.setting("partition"),
        "--account": launch.setting("account"),
        "--qos": launch.setting("qos"),
        "--constraint": launch.setting("constraint"),
        "--nodes": launch.setting("nodes"),
        "--cpus-per-task": launch.setting("cpus"),
        "--mem": launch.setting("memory"),
        "--signal": f"B:USR1@{min(WARNED_S, launch.time_limit_s / 15):.0f}" if launch.time_limit_s else None,
        "--time": math.ceil(launch.time_limit_s / 60) if launch.time_limit_s else None,
    }
    return [f"{option}={_word(str(value))}" for option, value in said.items() if value]


def _word(text: str) -> str:
    """For a line of #SBATCH, where a backslash counts within quotes too."""
    return "".join(one if PLAIN.match(one) or ord(one) > 127 else f"\\{one}" for one in text)


def _option_of(line: str) -> str:
    found = re.match(r"#SBATCH\s+(--[a-z-]+)", line)
    return found[1] if found else ""


def names() -> Sequence[str]:
    """What of a checkout is needed there."""
    return ("worker", "env", "docker", "pyproject.toml", "README.md", "Makefile", "LICENSE")
