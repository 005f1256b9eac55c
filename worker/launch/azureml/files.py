"""The files of a launch: the cluster, the image, and a job for each worker."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping

from worker.errors import UsageError
from worker.items import Json
from worker.launch import template
from worker.launch.asked import need_image
from worker.launch.azureml.sizes import size_of
from worker.launch.endings import stop_after
from worker.launch.here import CHECKOUT
from worker.launch.launch import Launch
from worker.launch.order import NAME

FOLDER = CHECKOUT / "env/azureml"
TIME_LIMIT_S = 12 * 3600
MARGIN_S = 600
"""of the time limit is left to hand the work back: pulling the image counts too"""
IDENTITIES = {"managed": "managed", "user": "user_identity"}
WORKSPACES_OWN = "account-of-the-workspace"
"""`render` asks nobody which one that is"""
QUEUE = re.compile(r"az://(?P<container>[a-z0-9](?:-?[a-z0-9]){2,62})(?:/[\w.~-]+)+/?")
COMPUTE = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{0,30}[a-zA-Z0-9]")
ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
BINDING = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def check(launch: Launch) -> None:
    need_image(launch)
    size_of(launch.profile, launch.gpus, str(launch.setting("size", "")))
    if not QUEUE.fullmatch(queue_of(launch)):
        raise UsageError(
            f"--queue {queue_of(launch).partition('?')[0]}: write az://container/folder, without a key; the "
            "workers are let in by their identity"
        )
    if not COMPUTE.fullmatch(compute_of(launch)):
        raise UsageError(f"--compute {compute_of(launch)}: letters, digits and hyphens, 32 at most")
    account = account_of(launch)
    if account and not ACCOUNT.fullmatch(account):
        raise UsageError(f"--account {account}: lower case letters and digits, 3 to 24")


def render(launch: Launch) -> dict[str, str]:
    return {
        "compute.yml": compute(launch),
        "environment.yml": environment(launch),
        "job.yml": job(launch, 1),
    }


def compute(launch: Launch) -> str:
    values = {
        "name": compute_of(launch),
        "size": size_of(launch.profile, launch.gpus, str(launch.setting("size", ""))),
        "tier": "dedicated" if launch.setting("dedicated") else "low_priority",
        "max_instances": launch.workers,
        "tags": mark(launch),
    }
    return _filled("compute.yml", values)


def environment(launch: Launch) -> str:
    name, version = environment_of(launch)
    values = {"name": name, "version": version, "image": launch.image, "tags": mark(launch)}
    return _filled("environment.yml", values)


def job(launch: Launch, number: int) -> str:
    inputs = {"queue": queue_of(launch), "stop_after": f"{stop_after(time_limit(launch), MARGIN_S):.0f}s"}
    values = {
        **inputs,
        "name": job_name(launch, number),
        "compute": f"azureml:{compute_of(launch)}",
        "environment": "azureml:{}:{}".format(*environment_of(launch)),
        "environment_variables": {
            **launch.profile.environment,
            "AZURE_STORAGE_ACCOUNT_NAME": account_of(launch) or WORKSPACES_OWN,
            **launch.environment,
        },
        "timeout": round(time_limit(launch)),
        "identity": {"type": IDENTITIES[str(launch.setting("identity", "managed"))]},
        "tags": tags(launch),
    }
    text = _filled("job.yml", values)
    _check_bindings(text, inputs)
    return text


def tags(launch: Launch) -> Mapping[str, str]:
    """By these `submit`, again or on another machine, knows a job as its own."""
    return {**mark(launch), "queue": queue_of(launch)}


def mark(launch: Launch) -> Mapping[str, str]:
    """By these `delete` knows what the launch has made, and `submit` what it had made when it was cut off."""
    return {"made-by": NAME, "launch": launch.name}


def job_name(launch: Launch, number: int) -> str:
    return f"{launch.name}-{number}"


def compute_of(launch: Launch) -> str:
    """Shared by all launches on such machines."""
    gpus = f"-x{launch.gpus}" if launch.gpus > 1 else ""
    tier = "-full" if launch.setting("dedicated") else ""
    return (
        str(launch.setting("compute"))
        if launch.setting("compute")
        else f"{NAME}-{launch.profile.hw}{gpus}{tier}"
    )


def environment_of(launch: Launch) -> tuple[str, str]:
    """A version cannot be changed, so it is named by the image."""
    return f"{NAME}-{launch.profile.stack}", hashlib.sha256(launch.image.encode()).hexdigest()[:12]


def queue_of(launch: Launch) -> str:
    return launch.queue.rstrip("/") or f"az://{re.sub('-+', '-', f'worker-{launch.name}')}/queue"


def container_of(queue: str) -> str:
    return queue.removeprefix("az://").partition("/")[0]


def inputs_of(queue: str) -> str:
    """Where the files of this machine go that are to be worked on."""
    return f"{queue}-inputs"


def account_of(launch: Launch) -> str:
    """Empty: the workspace's own."""
    return str(launch.setting("account") or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", ""))


def time_limit(launch: Launch) -> float:
    return launch.time_limit_s or TIME_LIMIT_S


def _filled(name: str, values: Mapping[str, Json]) -> str:
    text = template.read(FOLDER / name)
    for key, value in values.items():
        text = template.put(text, key, {key: value})
    return text


def _check_bindings(job: str, inputs: Mapping[str, Json]) -> None:
    """Azure finds a misspelt name only once the machines are paid for."""
    known = {f"inputs.{name}" for name in inputs}
    for name in BINDING.findall(job):
        if name not in known:
            raise UsageError(
                f"${{{{{name}}}}} in the job's command names nothing: there are {', '.join(sorted(known))}"
            )
