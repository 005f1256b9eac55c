"""What a person asks of a cluster, besides what is asked of every place; refused where it cannot go well."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.launch.asked import need_image
from worker.launch.kubernetes import products
from worker.launch.order import GLOB

if TYPE_CHECKING:
    from worker.launch.launch import Launch

ANY = "any"
CORES, GIB = 3, 12
"""for each card: a machine of four cores and 16 GB keeps something for itself"""
IDENTITIES = {
    "az": "azure.workload.identity/client-id",
    "s3": "eks.amazonaws.com/role-arn",
    "gs": "iam.gke.io/gcp-service-account",
}
"""what a service account is annotated with, by the queue's scheme"""
OURS = ("/cache", "/tmp", "/dev/shm", "/dev", "/proc", "/sys", "/")

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"([\w.-]+/)?\w([\w.-]{0,61}\w)?=(\w([\w.-]{0,61}\w)?)?")
_RESOURCE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[\w.-]+")
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")
_MEMORY = re.compile(r"\d+(\.\d+)?([KMGT]i?)?")


@dataclass(frozen=True, slots=True)
class Asked:
    context: str
    namespace: str
    """empty: the context's"""
    secrets: Sequence[str]
    service_account: str
    identity: str
    claims: Mapping[str, str]
    """folder, the same here and in the pods → PersistentVolumeClaim"""
    resource: str
    nodes: Mapping[str, Sequence[str]]
    """label → values, and a node has to have one of them; empty: any node that has the resource"""
    selectors: Mapping[str, str]
    tolerations: Sequence[Mapping[str, str]]
    """as a pod writes them"""
    cpu: str
    memory: str
    memory_limit: str
    user: tuple[int, int]
    template: str

    @property
    def cores(self) -> int:
        """Processes that prepare: whole ones, one at least."""
        found = _CPU.fullmatch(self.cpu)
        assert found
        return max(1, math.floor(float(found[1]) / (1000 if found[2] else 1)))


def asked(launch: Launch) -> Asked:
    claims = dict(_claim(one) for one in launch.setting("claims", ()))
    _refuse_unreachable(launch, claims)
    cards = max(1, launch.gpus)
    memory = _matching(_MEMORY, "--memory", launch.setting("memory", ""), "24Gi")
    resource = _matching(
        _RESOURCE, "--resource", launch.setting("resource", "") or "nvidia.com/gpu", "amd.com/gpu"
    )
    return Asked(
        context=launch.setting("context", ""),
        namespace=_matching(_NAME, "--namespace", launch.setting("namespace", ""), "vision"),
        secrets=[_matching(_NAME, "--secret", one, "queue") for one in launch.setting("secret", ())],
        service_account=_matching(
            _NAME, "--service-account", launch.setting("service_account", ""), "worker"
        ),
        identity=_identity(launch),
        claims=claims,
        resource=resource,
        nodes=_nodes(launch, resource),
        selectors=dict(_selector(one) for one in launch.setting("selectors", ())),
        tolerations=_tolerations(launch, resource),
        cpu=_matching(_CPU, "--cpu", launch.setting("cpu", ""), "8") or str(CORES * cards),
        memory=memory or f"{GIB * cards}Gi",
        memory_limit=memory,
        user=_user(launch.setting("user", "")),
        template=launch.setting("template", ""),
    )


def place(launch: Launch) -> str:
    """Of the queue; a folder has the same name in the pods as here."""
    return launch.queue if is_url(launch.queue) else _whole(launch.queue)


def is_url(path: str) -> bool:
    return "://" in path


def _refuse_unreachable(launch: Launch, claims: Mapping[str, str]) -> None:
    need_image(launch)
    if launch.gpus and not launch.profile.has_gpu:
        raise UsageError(
            f"--gpus {launch.gpus} with --hw {launch.profile.hw}, which has none: leave --gpus out"
        )
    if not launch.gpus and launch.profile.has_gpu:
        raise UsageError(f"--gpus 0 with --hw {launch.profile.hw}: --hw cpu is for workers without a card")
    where = "az://container/prefix, s3://bucket/prefix, gs://bucket/prefix, or a folder with --claim NAME:DIR"
    if not launch.queue:
        raise UsageError(f"--queue is needed, where the pods reach it: {where}")
    if is_url(launch.queue):
        scheme = launch.queue.partition("://")[0]
        if scheme not in IDENTITIES:
            raise UsageError(f"--queue {scheme}://…: the pods do not reach it; name {where}")
        return
    for path in (launch.queue, *filter(_lies_here, launch.inputs)):
        if not any(_is_below(_whole(path), folder) for folder in claims):
            raise UsageError(
                f"{path} is a folder of this machine, and the pods do not see it: "
                "--claim NAME:DIR says which PersistentVolumeClaim it is on, and where that lies here; "
                "or take a queue in a blob store"
            )


def _lies_here(path: str) -> bool:
    """And is no value: those of some tasks are words, or numbers."""
    return not is_url(path) and (Path(path).exists() or ("/" in path and bool(GLOB & set(path))))


def _claim(said: str) -> tuple[str, str]:
    name, colon, folder = said.partition(":")
    clean = os.path.normpath(folder)
    if not colon or not _NAME.fullmatch(name) or not folder.startswith("/") or clean in OURS:
        raise UsageError(f"--claim {said}: write NAME:/DIR, a PersistentVolumeClaim and where it lies here")
    return clean, name


def _identity(launch: Launch) -> str:
    said: str = launch.setting("identity", "")
    if said and not is_url(launch.queue):
        raise UsageError(f"--identity {said}: a queue in a folder asks no cloud who we are")
    if said and launch.setting("service_account", ""):
        raise UsageError("--identity makes a service account, --service-account names one: only one of them")
    return said


def _nodes(launch: Launch, resource: str) -> Mapping[str, Sequence[str]]:
    said: Sequence[str] = launch.setting("products", ())
    if not launch.gpus or ANY in said:
        return {}
    if said:
        from worker.gpus.kube.objects import PRODUCTS
        from worker.gpus.wanted import RESOURCES

        maker = RESOURCES.get(resource.casefold(), "nvidia")
        return {PRODUCTS[maker][0]: list(said)}
    # of a slice or of another maker's card the profile knows no name
    return products.labels_of(launch.profile.hw) if resource == "nvidia.com/gpu" else {}


def _tolerations(launch: Launch, resource: str) -> list[Mapping[str, str]]:
    own: Mapping[str, str] = {"key": resource, "operator": "Exists"}
    found = [own] if launch.gpus else []
    if said := launch.setting("tolerated", ()):
        from worker.gpus.kube.tolerations import parse  # late: with all of the GPU manager

        found += [told for one in said if (told := parse(one).told()) != own]
    return found


def _selector(said: str) -> tuple[str, str]:
    key, _, value = _matching(_LABEL, "--node-selector", said, "pool=gpu").partition("=")
    return key, value


def _user(said: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?::(\d+))?", said or "1000:1000")
    if not found or int(found[1]) == 0:
        raise UsageError(f"--user {said}: write UID:GID, and not root's")
    return int(found[1]), int(found[2] or found[1])


def _matching(form: re.Pattern[str], option: str, said: str, example: str) -> str:
    if said and not form.fullmatch(said):
        raise UsageError(f"{option} {said}: write it like {example}")
    return said


def _whole(path: str) -> str:
    return os.path.normpath(Path(path).absolute())


def _is_below(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)
