"""The template, filled in: what `render` shows and `submit` hands over."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.errors import UsageError
from worker.items import Json
from worker.launch import template
from worker.launch.endings import stop_after
from worker.launch.kubernetes.asked import IDENTITIES, Asked, place

if TYPE_CHECKING:
    from worker.launch.launch import Launch

    Object = dict[str, Any]

INSTANCE = "app.kubernetes.io/instance"
GRACE_S, AFTER_GRACE_S = 50, 10
"""what a worker has to hand back its work, and what Kubernetes waits longer than that"""
USES_IDENTITY = "azure.workload.identity/use"
"""label of a pod"""
ASKED = "gpu-batch-worker/asked"
"""annotation: two Jobs with the same are alike"""


def labels(name: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "gpu-batch-worker",
        "app.kubernetes.io/managed-by": "worker-launch",
        INSTANCE: name,
    }


def text(shipped: str, launch: Launch, asked: Asked, generation: int = 1) -> str:
    """What is made, in this order; the Job is the last one."""
    job = _job(shipped, launch, asked, generation)
    if not asked.identity:
        return job
    return "\n".join([*template.entries(_account(launch, asked)), "---", job])


def objects(text: str) -> list[Object]:
    """As the API server is told."""
    import yaml  # late: its client brings it, and render has no need of it

    try:
        told = list(yaml.safe_load_all(text))
        if told[-1]["kind"] == "Job":
            return told
    except (yaml.YAMLError, LookupError, TypeError):
        pass
    raise UsageError("the template is no Job in YAML: begin with env/kubernetes/worker.yaml")


def grace_s(launch: Launch) -> int:
    """Of a worker, as `--env WORKER_GRACE=2m` says it."""
    said = launch.environment.get("WORKER_GRACE")
    if said is None:
        return GRACE_S
    from worker.cli.options import Duration

    return int(Duration().convert(said, None, None))


def _job(shipped: str, launch: Launch, asked: Asked, generation: int) -> str:
    told = shipped
    for key, values in _values(launch, asked).items():
        told = template.put(told, key, values)
    claims = [(f"claim-{number}", folder, name) for number, (folder, name) in enumerate(asked.claims.items())]
    told = template.add(
        told, "volumeMounts", [{"name": volume, "mountPath": folder} for volume, folder, _ in claims]
    )
    told = template.add(
        told,
        "volumes",
        [{"name": volume, "persistentVolumeClaim": {"claimName": name}} for volume, _, name in claims],
    )
    seal = hashlib.sha256(told.encode()).hexdigest()[:16]
    name = f"{launch.name}-{generation}"
    return template.put(told, "name", {"name": name, "annotations": {ASKED: seal}})


def _values(launch: Launch, asked: Asked) -> Mapping[str, Mapping[str, Json]]:
    """Key of the template → what stands in its place."""
    account = launch.name if asked.identity else asked.service_account
    uses = {USES_IDENTITY: "true"} if account and launch.queue.startswith("az://") else {}
    cards = {asked.resource: launch.gpus} if launch.gpus else {}
    most = {"memory": asked.memory_limit} if asked.memory_limit else {}
    requests = {"cpu": asked.cpu, "memory": asked.memory}
    pod = {
        "terminationGracePeriodSeconds": grace_s(launch) + AFTER_GRACE_S,
        "serviceAccountName": account or None,
        "nodeSelector": asked.selectors,
    }
    return {
        INSTANCE: {INSTANCE: launch.name, **uses},
        "parallelism": {
            "parallelism": launch.workers,
            **({"activeDeadlineSeconds": int(launch.time_limit_s)} if launch.time_limit_s else {}),
        },
        "completions": {"completions": launch.workers},
        "terminationGracePeriodSeconds": pod,
        "runAsUser": {"runAsUser": asked.user[0]},
        "runAsGroup": {"runAsGroup": asked.user[1]},
        "fsGroup": {"fsGroup": asked.user[1]},
        "affinity": {"affinity": _affinity(asked.nodes)},
        "tolerations": {"tolerations": asked.tolerations},
        "image": {"image": launch.image},
        "args": {"args": ["run", _literal(place(launch))]},
        "env": {
            "env": [
                {"name": name, "value": _literal(value)}
                for name, value in _environment(launch, asked).items()
            ]
        },
        "envFrom": {"envFrom": [{"secretRef": {"name": name}} for name in asked.secrets]},
        "resources": {"resources": {"requests": requests, "limits": {**cards, **most}}},
    }


def _literal(said: str) -> str:
    """Kubernetes fills in $(NAME), and makes one $ of two."""
    return said.replace("$", "$$")


def _affinity(nodes: Mapping[str, Sequence[str]]) -> Json:
    terms = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}
        for key, values in nodes.items()
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"nodeAffinity": required} if terms else {}


def _environment(launch: Launch, asked: Asked) -> dict[str, str]:
    ours = {"WORKER_CHILDREN": str(asked.cores), "WORKER_GRACE": str(GRACE_S), "TMPDIR": "/tmp"}
    if launch.time_limit_s:
        # from the worker's own start: one that came late is told to end by the deadline itself
        ours["WORKER_STOP_AFTER"] = f"{stop_after(launch.time_limit_s, grace_s(launch)):.0f}"
    return {**launch.profile.environment, **ours, **launch.environment}


def _account(launch: Launch, asked: Asked) -> Object:
    scheme = launch.queue.partition("://")[0]
    metadata = {
        "name": launch.name,
        "labels": labels(launch.name),
        "annotations": {IDENTITIES[scheme]: asked.identity},
    }
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
