"""What a Job and its pods say of a launch, in plain words. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.launch.endings import AGAIN, DONE, FINAL, MACHINE, USAGE
from worker.launch.launcher import Standing

if TYPE_CHECKING:
    Object = Mapping[str, Any]

CANCELLED = "gpu-batch-worker/cancelled"
"""annotation: a person said so"""
INDEX = "batch.kubernetes.io/job-completion-index"

REMEDIES = (
    (r"Insufficient \S*cpu|Insufficient memory", "--cpu and --memory say what each worker asks for"),
    (r"Insufficient \S+/\S+", "it starts when cards are free; fewer --workers or --gpus need less"),
    (
        r"node affinity|node selector|nodes? didn't match",
        "no free node has this card's label: kubectl get nodes -L nvidia.com/gpu.product, then --product",
    ),
    (r"untolerated taint \{([^:}]+)", r"--tolerate \1"),
    (r"persistentvolumeclaim|PersistentVolumeClaim", "kubectl get persistentvolumeclaims; see --claim"),
    (
        r"ImagePull|InvalidImageName|pull image",
        "can the nodes pull it? --image; a private registry's key: imagePullSecrets of the service account",
    ),
    (
        r"CreateContainerConfigError",
        "kubectl create secret generic NAME --from-literal=KEY=VALUE; see --secret",
    ),
    (r"exceeded quota", "the namespace's quota: fewer --workers, --cpu or --memory, or another --namespace"),
    (r"OOMKilled", "more --memory, or a smaller --env WORKER_BATCH=N"),
    (r"Evicted", "its node ran out of room; see kubectl describe pod"),
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One pod."""

    index: str
    state: str
    """running, waiting, ending, ended"""
    why: str = ""
    code: int | None = None
    """with which its worker ended"""
    disrupted: bool = False
    made: str = ""


def standing(job: Object | None, pods: Sequence[Object], events: Sequence[Object] = ()) -> Standing:
    """`events`: of the Job, asked for where it has no pods."""
    if job is None:
        return Standing(
            "gone", "the cluster knows it no longer", "worker launch kubernetes submit starts it anew"
        )
    seen = sorted((_see(one) for one in pods), key=lambda one: one.made)
    conditions = {
        one["type"]: one for one in job.get("status", {}).get("conditions") or () if one["status"] == "True"
    }
    if "Complete" in conditions:
        return Standing("done", f"{_number(job)} ended, all is done")
    if "Failed" in conditions:
        return _failed(job, conditions["Failed"], seen)
    if CANCELLED in (job["metadata"].get("annotations") or {}):
        left = sum(one.state in ("running", "ending") for one in seen)
        return Standing("cancelled", "cancelled" + (f", {left} still ending" if left else ""))
    if job["spec"].get("suspend"):
        return Standing(
            "waiting", "suspended: somebody else admits it", "a queue of Jobs (Kueue)? ask who runs it"
        )
    return _alive(job, seen, events)


def ended(job: Object) -> bool:
    """It starts no pod any more."""
    told = job.get("status", {}).get("conditions") or ()
    over = any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in told)
    return over or CANCELLED in (job["metadata"].get("annotations") or {})


def _alive(job: Object, seen: Sequence[_Seen], events: Sequence[Object]) -> Standing:
    told = Counter(one.state for one in seen)
    reasons = Counter(one.why for one in seen if one.state == "waiting" and one.why)
    done = len({one.index for one in seen if one.code == DONE})
    said = [f"{told['running']} running"] if told["running"] else []
    if told["waiting"]:
        why = "; ".join(reason for reason, _ in reasons.most_common(2))
        said.append(f"{told['waiting']} waiting" + (f" ({why})" if why else ""))
    said += [f"{told['ending']} ending"] if told["ending"] else []
    said += [f"{done} of {job['spec'].get('completions', 1)} done"] if done else []
    deaths = Counter(_death(one) for one in seen if _counts(one))
    said += [f"{number} died ({why}) and come again" for why, number in deaths.items()]
    if not seen:
        refused = next((one["message"] for one in reversed(events) if one.get("type") == "Warning"), "")
        said = [f"no pod yet ({refused})" if refused else "no pod yet"]
        reasons[refused] += 1
    remedy = _remedy([*reasons, *deaths])
    return Standing(
        "running" if told["running"] else "waiting", ", ".join(said) or "between two pods", remedy
    )


def _failed(job: Object, condition: Object, seen: Sequence[_Seen]) -> Standing:
    reason, message = condition.get("reason", ""), condition.get("message", "")
    logs = f"kubectl logs job/{job['metadata']['name']} says why"
    codes = _last_codes(seen)
    if reason == "DeadlineExceeded":
        return Standing(
            "again", "its time limit is over, and work may be left", "--time-limit gives it longer"
        )
    told = re.search(r"exit code (\d+)", message)
    if reason == "PodFailurePolicy" and told and int(told[1]) == USAGE:
        return Standing("failed", "a worker refused what it was told (exit code 2)", logs)
    if codes and codes <= {*FINAL}:
        return Standing("done", f"{_number(job)} ended, all is done, some items failed")
    if AGAIN in codes and codes <= {*FINAL, AGAIN}:
        return Standing("again", f"{_number(job)} were stopped before the end")
    if MACHINE in codes:
        return Standing(
            "failed", "a node does not fit (exit code 3)", f"{logs}; another --product or --node-selector"
        )
    deaths = Counter(_death(one) for one in seen if _counts(one))
    why = "; ".join(f"{number} times {death}" for death, number in deaths.items()) or f"{reason}: {message}"
    return Standing("failed", f"given up: {why}", _remedy(deaths) or logs)


def _see(pod: Object) -> _Seen:
    metadata, status = pod["metadata"], pod.get("status", {})
    phase = status.get("phase", "Pending")
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    containers = status.get("containerStatuses") or [{}]
    container: Object = containers[0].get("state", {})
    over: Object = container.get("terminated") or {}
    state, why = "waiting", ""
    if phase in ("Succeeded", "Failed"):
        state, why = "ended", status.get("reason") or over.get("reason", "")
    elif metadata.get("deletionTimestamp"):
        state = "ending"
    elif phase == "Running":
        state = "running"
    elif conditions.get("PodScheduled", {}).get("status") == "False":
        why = _short(
            conditions["PodScheduled"].get("message") or conditions["PodScheduled"].get("reason", "")
        )
    elif waiting := container.get("waiting"):
        more = waiting.get("message", "")
        why = f"{waiting['reason']}: {more}" if more else waiting["reason"]
    code = over.get("exitCode", DONE if phase == "Succeeded" else None) if state == "ended" else None
    disrupted = conditions.get("DisruptionTarget", {}).get("status") == "True"
    named = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    index = named.get(INDEX, metadata["name"])
    return _Seen(index, state, why[:200], code, disrupted, metadata.get("creationTimestamp") or "")


def _short(message: str) -> str:
    """`0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: …` → what is in the middle"""
    found = re.match(r"\d+/\d+ nodes are available: (.*?)\.?(\s+preemption: .*)?$", message, re.DOTALL)
    return found[1] if found else message


def _last_codes(seen: Iterable[_Seen]) -> set[int | None]:
    """With which each index ended the last time."""
    return set({one.index: one.code for one in seen if one.state == "ended"}.values())


def _counts(one: _Seen) -> bool:
    """A death that nobody wanted."""
    return one.state == "ended" and not one.disrupted and one.code not in (*FINAL, MACHINE, AGAIN)


def _death(one: _Seen) -> str:
    return one.why if one.why not in ("", "Error") else f"exit code {one.code}"


def _number(job: Object) -> str:
    number: int = job["spec"].get("completions", 1)
    return f"{number} worker" + "s" * (number != 1)


def _remedy(reasons: Iterable[str]) -> str:
    for reason in reasons:
        for form, remedy in REMEDIES:
            if found := re.search(form, reason):
                return str(found.expand(remedy))
    return ""
