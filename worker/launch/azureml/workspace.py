"""Azure ML as a launch needs it: the only place that speaks with it."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from worker.errors import MachineError, UsageError
from worker.launch.azureml.refusals import explained
from worker.launch.azureml.states import Job
from worker.launch.order import NAME

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

SETTINGS = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_WORKSPACE_NAME")
RECENT = 500
"""jobs that are looked through for active ones"""
MANNERS: dict[str, Any] = {"enable_telemetry": False, "connection_timeout": 10, "read_timeout": 60}
"""of the library, which by itself waits 5 minutes for an answer, and that four times"""


def connect(environment: Mapping[str, str]) -> Workspace:
    if lacking := [name for name in SETTINGS if not environment.get(name)]:
        raise UsageError(
            f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set: they name the workspace"
        )
    warnings.filterwarnings("ignore", module=r"azure\.ai\.ml.*")
    # it would write the checkout's remote address into each job
    os.environ.setdefault("AZUREML_GIT_REPOSITORY_URI", NAME)
    _quiet()
    try:
        client = _client(*(environment[name] for name in SETTINGS))
    except ImportError as error:
        raise MachineError(
            f"worker launch azureml needs azure-ai-ml ({error}): in an environment of its own, "
            "python -m pip install --no-deps -r env/locks/azureml.txt"
        ) from None
    _quiet()  # its import sets levels of its own
    return Workspace(client)


def _quiet() -> None:
    """What matters is raised."""
    for name in ("azure", "azure.ai.ml", "azure.identity"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _client(subscription: str, group: str, workspace: str) -> MLClient:
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

    return MLClient(DefaultAzureCredential(), subscription, group, workspace, **MANNERS)


class Workspace:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._name = client.workspace_name
        with explained(f"workspace {self._name}"):
            self._told = client.workspaces.get(self._name)

    @property
    def region(self) -> str:
        return str(self._told.location)

    @property
    def account(self) -> str:
        """Its own storage account."""
        return str(self._told.storage_account or "").rpartition("/")[2]

    def make_compute(self, text: str) -> tuple[bool, str]:
        """→ whether this launch has made it, and what of one that was there is other than wanted."""
        from azure.ai.ml import load_compute

        wanted = load_compute(io.StringIO(text))
        there = self._compute(wanted.name)
        if there and not (there.provisioning_state == "Failed" and _is_ours(there.tags)):
            return _made(there, wanted.tags), self._compared(wanted, there)
        with explained(f"cluster {wanted.name} of {wanted.size} in {self.region}"):
            made = self._client.compute.begin_create_or_update(wanted).result()
            if getattr(made, "provisioning_state", "") == "Failed":
                raise UsageError(
                    f"cluster {wanted.name}: Azure could not make it ({made.provisioning_errors})"
                )
        return True, ""

    def principal_of(self, name: str) -> str:
        """Of a cluster's identity, as roles are given to it."""
        identity = getattr(self._compute(name), "identity", None)
        return str(getattr(identity, "principal_id", None) or "…")

    def _compared(self, wanted: Any, there: Any) -> str:
        """Another machine or price than was agreed to is refused; what is of less weight is said."""
        found = {"size": str(there.size or there.type), "tier": str(there.tier or "dedicated")}
        for what, remedy in (("size", "--size"), ("tier", "--dedicated or not")):
            asked = str(getattr(wanted, what))
            if found[what].lower().replace("_", "") != asked.lower().replace("_", ""):
                raise UsageError(
                    f"cluster {wanted.name} is there already with {what} {found[what]}, not {asked}"
                    f"; --compute names another one, or say {remedy} as it has it"
                )
        other = [
            f"{what} {has} instead of {asks}"
            for what, has, asks in (
                ("max_instances", there.max_instances, wanted.max_instances),
                (
                    "idle_time_before_scale_down",
                    there.idle_time_before_scale_down,
                    wanted.idle_time_before_scale_down,
                ),
                ("identity", _identity(there), _identity(wanted)),
            )
            if has != asks
        ]
        return (
            f"cluster {wanted.name} was there already and stays as it is: {', '.join(other)}" if other else ""
        )

    def make_environment(self, text: str) -> bool:
        """→ whether this launch has made it"""
        from azure.ai.ml import load_environment
        from azure.core.exceptions import ResourceNotFoundError

        wanted = load_environment(io.StringIO(text))
        with explained(f"environment {wanted.name}"):
            try:
                there = self._client.environments.get(wanted.name, wanted.version)
            except ResourceNotFoundError:
                self._client.environments.create_or_update(wanted)
                return True
        return _made(there, wanted.tags)

    def start(self, text: str) -> None:
        from azure.ai.ml import load_job

        job = load_job(io.StringIO(text))
        with explained(f"job {job.name}"):
            self._client.jobs.create_or_update(job)

    def job(self, name: str) -> Job | None:
        from azure.core.exceptions import ResourceNotFoundError

        with explained(f"job {name}"):
            try:
                told = self._client.jobs.get(name)
            except ResourceNotFoundError:
                return None
        tags = told.tags or {}
        ours = tags if _is_ours(tags) else {}
        status = _text(told.status)
        why = self._why(name) if status == "Failed" else ""
        return Job(name, status, why, ours.get("queue", ""), ours.get("launch", ""))

    def _why(self, name: str) -> str:
        """Only the history of runs knows; without it the queue says whether work is left."""
        try:
            error = self._client.jobs._runs_operations.get_run_details(name).error
            return str(error.error.message) if error and error.error else ""
        except Exception as error:  # not a public call: whatever becomes of it, the launch goes on
            logging.getLogger("worker.launch").info("no run details of %s (%s)", name, type(error).__name__)
            return ""

    def cancel(self, name: str) -> None:
        with explained(f"job {name}"):
            self._client.jobs.begin_cancel(name).result()

    def delete_compute(self, name: str, marked: Mapping[str, str]) -> str:
        """Empty, or why it stays."""
        there = self._compute(name)
        if there is None:
            return ""
        if not _made(there, marked):
            return "it was not made by this launch"
        with explained(f"cluster {name}"):
            for job in islice(self._client.jobs.list(), RECENT):
                on_it = str(job.compute or "").rpartition("/")[2] == name
                if on_it and Job(job.name, _text(job.status)).is_active:
                    return f"{job.name} works on it"
            self._client.compute.begin_delete(name).result()
        return ""

    def archive_environment(self, name: str, version: str) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        with explained(f"environment {name}"):
            try:
                self._client.environments.archive(name, version=version)
            except ResourceNotFoundError:
                return

    def _compute(self, name: str) -> Any:
        from azure.core.exceptions import ResourceNotFoundError

        with explained(f"cluster {name}"):
            try:
                return self._client.compute.get(name)
            except ResourceNotFoundError:
                return None


def _is_ours(tags: Mapping[str, str] | None) -> bool:
    return (tags or {}).get("made-by") == NAME


def _made(there: Any, marked: Mapping[str, str]) -> bool:
    return marked.items() <= (there.tags or {}).items()


def _text(value: object) -> str:
    """The library's enumerations print as their names."""
    return str(getattr(value, "value", value))


def _identity(compute: Any) -> str:
    return str(compute.identity.type) if compute.identity else "none"
