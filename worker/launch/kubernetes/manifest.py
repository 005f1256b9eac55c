"""The template, filled in: what `render` shows and `submit` hands over."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.errors import MachineError, UsageError
from worker.launch.kubernetes.asked import IDENTITIES, Asked, place

if TYPE_CHECKING:
    from worker.launch.launch import Launch

    Object = dict[str, Any]

CONTAINER = "worker"
CARD = "nvidia.com/gpu"
"""whose taint the template tolerates"""
GRACE_S, AFTER_GRACE_S = 50, 10
"""what a worker has to hand back its work, and what Kubernetes waits longer than that"""
USES_IDENTITY = "azure.workload.identity/use"
ASKED = "gpu-batch-worker/asked"
"""annotation: two Jobs with the same are alike"""


def labels(name: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "gpu-batch-worker",
        "app.kubernetes.io/managed-by": "worker-launch",
        "app.kubernetes.io/instance": name,
    }


def read(file: Path) -> Object:
    yaml = _yaml()
    try:
        told: Object = yaml.safe_load(file.read_text())
        is_ours = told["kind"] == "Job" and bool(_worker(told))
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): name another --template") from None
    except (yaml.YAMLError, LookupError, TypeError, UnicodeDecodeError):
        is_ours = False
    if not is_ours:
        raise UsageError(
            f"{file} is no Job with a container called {CONTAINER}: begin with env/kubernetes/worker.yaml"
        )
    return told


def text(objects: list[Object]) -> str:
    yaml = _yaml()
    return "---\n".join(yaml.safe_dump(one, sort_keys=False, width=110) for one in objects)


def objects(template: Object, launch: Launch, asked: Asked, generation: int = 1) -> list[Object]:
    """In the order in which they are made; the Job is the last one."""
    account = [_account(launch, asked)] if asked.identity else []
    return [*account, job(template, launch, asked, generation)]


def job(template: Object, launch: Launch, asked: Asked, generation: int = 1) -> Object:
    told = copy.deepcopy(template)
    metadata, spec = told["metadata"], told["spec"]
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels(launch.name)}
    spec |= {"parallelism": launch.workers, "completions": launch.workers}
    if launch.time_limit_s:
        spec["activeDeadlineSeconds"] = int(launch.time_limit_s)
    _fill_pod(spec["template"], launch, asked)
    _fill_container(_worker(told), launch, asked, spec["template"]["spec"])
    said = json.dumps(told["spec"], sort_keys=True)
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        ASKED: hashlib.sha256(said.encode()).hexdigest()[:16],
    }
    metadata["name"] = f"{launch.name}-{generation}"
    return told


def grace_s(launch: Launch) -> int:
    """Of a worker, as `--env WORKER_GRACE=2m` says it."""
    said = launch.environment.get("WORKER_GRACE")
    if said is None:
        return GRACE_S
    from worker.cli.options import Duration

    return int(Duration().convert(said, None, None))


def _account(launch: Launch, asked: Asked) -> Object:
    scheme = launch.queue.partition("://")[0]
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": launch.name,
            "labels": labels(launch.name),
            "annotations": {IDENTITIES[scheme]: asked.identity},
        },
    }


def _fill_pod(pod: Object, launch: Launch, asked: Asked) -> None:
    account = launch.name if asked.identity else asked.service_account
    told = {**(pod.setdefault("metadata", {}).get("labels") or {}), **labels(launch.name)}
    if account and launch.queue.startswith("az://"):
        told[USES_IDENTITY] = "true"
    pod["metadata"]["labels"] = told
    spec = pod["spec"]
    spec["terminationGracePeriodSeconds"] = grace_s(launch) + AFTER_GRACE_S
    uid, gid = asked.user
    spec.setdefault("securityContext", {}).update(runAsUser=uid, runAsGroup=gid, fsGroup=gid)
    _put(spec, "serviceAccountName", account or spec.get("serviceAccountName"))
    _put(spec, "nodeSelector", {**(spec.get("nodeSelector") or {}), **asked.selectors})
    others = [one for one in spec.get("tolerations") or () if one.get("key") != CARD]
    _put(spec, "tolerations", [*asked.tolerations, *others])
    affinity = spec.get("affinity") or {}
    node = dict(affinity.get("nodeAffinity") or {})
    terms = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}
        for key, values in asked.nodes.items()
    ]
    _put(node, "requiredDuringSchedulingIgnoredDuringExecution", terms and {"nodeSelectorTerms": terms})
    affinity = {name: value for name, value in affinity.items() if name != "nodeAffinity"}
    _put(spec, "affinity", {**affinity, **({"nodeAffinity": node} if node else {})})


def _fill_container(worker: Object, launch: Launch, asked: Asked, pod: Object) -> None:
    worker["image"] = launch.image
    worker["args"] = ["run", place(launch)]
    others = [one for one in worker.get("env") or () if not one["name"].startswith("WORKER_")]
    said = _environment(launch, asked)
    worker["env"] = [
        *({"name": name, "value": value} for name, value in said.items()),
        *(one for one in others if one["name"] not in said),
    ]
    _put(worker, "envFrom", [{"secretRef": {"name": name}} for name in asked.secrets])
    cards = {asked.resource: launch.gpus} if launch.gpus else {}
    most = {"memory": asked.memory_limit} if asked.memory_limit else {}
    worker["resources"] = {"requests": {"cpu": asked.cpu, "memory": asked.memory}}
    _put(worker["resources"], "limits", {**cards, **most})
    for number, (folder, name) in enumerate(asked.claims.items()):
        volume = f"claim-{number}"
        claim = {"name": volume, "persistentVolumeClaim": {"claimName": name}}
        pod.setdefault("volumes", []).append(claim)
        worker.setdefault("volumeMounts", []).append({"name": volume, "mountPath": folder})


def _environment(launch: Launch, asked: Asked) -> dict[str, str]:
    ours = {"WORKER_CHILDREN": str(asked.cores), "WORKER_GRACE": str(GRACE_S)}
    if launch.time_limit_s:
        # from the worker's own start: one that came late is told to end by the deadline itself
        ours["WORKER_STOP_AFTER"] = f"{_stop_after(launch):.0f}"
    return {**launch.profile.environment, **ours, **launch.environment}


def _stop_after(launch: Launch) -> float:
    return max(launch.time_limit_s - grace_s(launch), launch.time_limit_s / 2)


def _worker(told: Mapping[str, Any]) -> Object:
    containers = told["spec"]["template"]["spec"]["containers"]
    found: list[Object] = [one for one in containers if one["name"] == CONTAINER]
    return found[0]


def _put(told: Object, key: str, value: Any) -> None:
    """What is empty is left out."""
    if value:
        told[key] = value
    else:
        told.pop(key, None)


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise MachineError(
            "PyYAML is not installed: pip install --no-deps -r env/locks/kubernetes.txt"
        ) from None
    return yaml
