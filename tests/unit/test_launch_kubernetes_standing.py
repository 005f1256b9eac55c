"""What a Job and its pods say, in plain words."""

from __future__ import annotations

from typing import Any

import pytest

from worker.launch.kubernetes.standing import CANCELLED, ended, standing

INDEX = "batch.kubernetes.io/job-completion-index"
NO_CARDS = (
    "0/5 nodes are available: 2 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
    "3 Insufficient nvidia.com/gpu. preemption: 0/5 nodes are available: 5 No preemption victims found."
)


def job(*conditions: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    told = [
        {"type": kind, "status": "True", "reason": reason, "message": message}
        for kind, reason, message in conditions
    ]
    annotations = {CANCELLED: "true"} if more.pop("cancelled", False) else {}
    metadata = {"name": "films-1", "annotations": annotations}
    return {"metadata": metadata, "spec": {"completions": 4, **more}, "status": {"conditions": told}}


def pod(index: int = 0, phase: str = "Running", **more: Any) -> dict[str, Any]:
    """`code`, `why`: how its container ended; `waits`: for what; `message`: of the scheduler."""
    state: dict[str, Any] = {}
    if "code" in more:
        phase = "Failed" if more["code"] else "Succeeded"
        state = {"terminated": {"exitCode": more["code"], "reason": more.get("why", "Error")}}
    if "waits" in more:
        phase, (reason, message) = "Pending", more["waits"]
        state = {"waiting": {"reason": reason, "message": message}}
    conditions = []
    if "message" in more:
        phase = "Pending"
        told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        conditions.append({**told, "message": more["message"]})
    if more.get("disrupted"):
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"})
    metadata = {"name": f"films-1-{index}", "annotations": {INDEX: str(index)}}
    metadata["creationTimestamp"] = more.get("made", "2026-11-22T05:00:00Z")
    if more.get("ending"):
        metadata["deletionTimestamp"] = "2026-11-22T05:10:00Z"
    status = {"phase": phase, "conditions": conditions, "containerStatuses": [{"state": state}]}
    if more.get("evicted"):
        status |= {"phase": "Failed", "reason": "Evicted", "containerStatuses": []}
    return {"metadata": metadata, "status": status}


@pytest.mark.parametrize(
    ("pods", "state", "said", "remedy"),
    [
        ([], "waiting", "no pod yet", ""),
        ([pod(0), pod(1)], "running", "2 running", ""),
        ([pod(0), pod(1, message=NO_CARDS)], "running", "Insufficient nvidia.com/gpu", "when cards are free"),
        (
            [pod(0, message="0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.")],
            "waiting",
            "1 waiting (2 node(s) didn't match Pod's node affinity/selector)",
            "--product",
        ),
        (
            [pod(0, message="0/1 nodes are available: 1 node(s) had untolerated taint {spot: true}.")],
            "waiting",
            "untolerated taint",
            "--tolerate spot",
        ),
        (
            [pod(0, message='persistentvolumeclaim "films" not found')],
            "waiting",
            'persistentvolumeclaim "films" not found',
            "--claim",
        ),
        (
            [pod(0, waits=("ImagePullBackOff", 'Back-off pulling image "r/w:1"'))],
            "waiting",
            'ImagePullBackOff: Back-off pulling image "r/w:1"',
            "--image",
        ),
        (
            [pod(0, waits=("CreateContainerConfigError", 'secret "queue" not found'))],
            "waiting",
            'secret "queue" not found',
            "kubectl create secret",
        ),
        ([pod(0, ending=True)], "waiting", "1 ending", ""),
        ([pod(0, code=0), pod(1)], "running", "1 running, 1 of 4 done", ""),
        ([pod(0, code=137, why="OOMKilled"), pod(1)], "running", "1 died (OOMKilled)", "--memory"),
        ([pod(0, evicted=True), pod(0, made="later")], "running", "1 died (Evicted)", "ran out of room"),
        # what nobody has to hear of: taken by somebody more important, stopped
        ([pod(0, code=137, disrupted=True), pod(1, code=75), pod(2)], "running", "1 running", ""),
        ([pod(0, code=75)], "waiting", "between two pods", ""),
    ],
)
def test_a_living_job_says_who_works_and_why_the_others_do_not(
    pods: list[dict[str, Any]], state: str, said: str, remedy: str
) -> None:
    found = standing(job(), pods)
    assert (found.state, said in found.said) == (state, True), found
    assert remedy in found.remedy
    assert bool(remedy) == bool(found.remedy)


def test_a_job_without_a_pod_says_what_the_cluster_refuses() -> None:
    why = 'pods "films-1-0-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=4'
    found = standing(job(), (), [{"type": "Normal", "message": "x"}, {"type": "Warning", "message": why}])
    assert why in found.said
    assert "quota" in found.remedy


@pytest.mark.parametrize(
    ("condition", "pods", "state", "said"),
    [
        (("Complete", "", ""), [], "done", "4 workers ended, all is done"),
        (("Failed", "FailedIndexes", ""), [pod(0, code=1), pod(1, code=0)], "done", "some items failed"),
        (("Failed", "FailedIndexes", ""), [pod(0, code=1), pod(1, code=3)], "failed", "does not fit"),
        (("Failed", "DeadlineExceeded", ""), [pod(0, code=75)], "again", "time limit"),
        (
            (
                "Failed",
                "PodFailurePolicy",
                "Container worker for pod a/films-1 failed with exit code 2 matching FailJob rule",
            ),
            [],
            "failed",
            "refused what it was told",
        ),
        # a cluster of before podFailurePolicy
        (("Failed", "BackoffLimitExceeded", ""), [pod(0, code=75), pod(1, code=0)], "again", "stopped"),
        (("Failed", "BackoffLimitExceeded", ""), [pod(0, code=1)], "done", "some items failed"),
        (
            ("Failed", "FailedIndexes", ""),
            [pod(0, code=137, why="OOMKilled", made=str(n)) for n in range(7)],
            "failed",
            "7 times OOMKilled",
        ),
        # its last word counts
        (
            ("Failed", "FailedIndexes", ""),
            [pod(0, code=1, made="2"), pod(0, code=137, made="1")],
            "done",
            "some items failed",
        ),
        (("Failed", "FailedIndexes", "no pod is left"), [], "failed", "no pod is left"),
    ],
)
def test_how_a_job_ended_is_told_from_its_condition_and_its_workers_codes(
    condition: tuple[str, str, str], pods: list[dict[str, Any]], state: str, said: str
) -> None:
    found = standing(job(condition), pods)
    assert (found.state, said in found.said) == (state, True), found
    assert ended(job(condition))


def test_a_cancelled_job_is_no_suspended_one() -> None:
    assert (
        standing(job(cancelled=True, suspend=True), [pod(0, ending=True)]).said == "cancelled, 1 still ending"
    )
    assert standing(job(cancelled=True), ()).state == "cancelled"
    assert standing(job(suspend=True), ()).state == "waiting"
    assert ended(job(cancelled=True))
    assert not ended(job(suspend=True))
    assert standing(None, ()).state == "gone"
