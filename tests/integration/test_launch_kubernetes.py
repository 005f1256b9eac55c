"""`worker launch kubernetes` against a real API server and scheduler. The test plays the Job controller and
the kubelet, and starts what a pod would as a process."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes", reason="the extra kubernetes is not installed")

import yaml

from tests import kube
from tests.kube import MERGE, Cluster, until
from tests.queues import TASKS
from tests.servers import free_port
from tests.workers import answers, worker
from worker import cli
from worker.gpus.kube.api import ApiServer, Away
from worker.launch import watching
from worker.launch.kubernetes.launcher import Kubernetes
from worker.launch.launch import Receipts

ROOT = Path(__file__).resolve().parents[2]
SPACE = "/api/v1/namespaces/default"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
T4 = {"nvidia.com/gpu.product": "Tesla-T4"}

Verb = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with kube.cluster(tmp_path_factory.mktemp("kube")) as found:
        found.node("gpu-1", {"nvidia.com/gpu": 1}, **T4)
        yield found


@pytest.fixture
def verb(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Verb]:
    """`worker launch kubernetes VERB …` → exit code, and what it said. Its rights are those of its page."""
    for name in [one for one in os.environ if one.startswith("WORKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WORKER_TASKS", str(TASKS))
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(_account(cluster))))
    monkeypatch.setattr(watching, "LOOK_EVERY_S", 0.1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for number in range(3):
        (tmp_path / "texts" / f"{number}.text").write_text("words" if number else "")
    _volume(cluster)

    def call(name: str, *words: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(["launch", "kubernetes", name, *words])
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int) or ended.value.code is None
        return ended.value.code or 0, said.out + said.err

    yield call
    at_once = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
    for path in (JOBS, f"{SPACE}/pods"):
        for one in cluster.ask("GET", path)["items"]:
            cluster.ask("DELETE", f"{path}/{one['metadata']['name']}", at_once)


def _volume(cluster: Cluster) -> None:
    """The claim `films`, and a volume that it is bound to, for there is no controller that would do it."""
    path = f"{SPACE}/persistentvolumeclaims"
    if cluster.ask("GET", f"{path}/films")["kind"] != "Status":
        return
    modes, size = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}, {"storage": "1Gi"}
    claim = {**modes, "resources": {"requests": size}, "volumeName": "films"}
    metadata = {"name": "films", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
    made = cluster.ask(
        "POST",
        path,
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim},
    )
    owner = {"name": "films", "namespace": "default", "uid": made["metadata"]["uid"]}
    volume = {**modes, "capacity": size, "claimRef": owner, "nfs": {"server": "nowhere", "path": "/"}}
    told = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "films"}, "spec": volume}
    cluster.ask("POST", "/api/v1/persistentvolumes", told)
    cluster.ask("PATCH", f"{path}/films/status", {"status": {"phase": "Bound"}}, MERGE)


def _account(cluster: Cluster) -> str:
    """With the Role that docs/kubernetes.md shows, and nothing else."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    role = yaml.safe_load(block)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "launcher"}}
    subject = {"kind": "ServiceAccount", "name": "launcher", "namespace": "default"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role["metadata"]["name"]}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "launcher"},
        "subjects": [subject],
        "roleRef": reference,
    }
    if cluster.ask("GET", f"{SPACE}/serviceaccounts/launcher").get("kind") == "Status":
        cluster.ask("POST", f"{SPACE}/serviceaccounts", account)
        cluster.ask("POST", f"{ROLES}/roles", role)
        cluster.ask("POST", f"{ROLES}/rolebindings", binding)
    told = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token: str = cluster.ask("POST", f"{SPACE}/serviceaccounts/launcher/token", told)["status"]["token"]
    return token


def asked(tmp_path: Path, hw: str = "cpu", **said: str) -> list[str]:
    options = {
        "hw": hw,
        "image": "registry/worker:1",
        "queue": f"{tmp_path}/queue",
        "name": "films",
        "task": "read-text",
        "claim": f"films:{tmp_path}",
        **said,
    }
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    return [*words, "--yes", f"{tmp_path}/texts"]


def jobs(cluster: Cluster) -> list[str]:
    return sorted(one["metadata"]["name"] for one in cluster.ask("GET", JOBS)["items"])


def controller(cluster: Cluster, name: str) -> list[str]:
    """Makes the pods of a Job."""
    job = cluster.ask("GET", f"{JOBS}/{name}")
    names = [f"{name}-{index}" for index in range(job["spec"]["completions"])]
    for pod in names:
        template = json.loads(json.dumps(job["spec"]["template"]))
        template["metadata"] |= {"name": pod}
        template["metadata"]["labels"]["job-name"] = name
        template["metadata"]["annotations"] = {"batch.kubernetes.io/job-completion-index": pod[-1]}
        cluster.start(template)
    return names


def kubelet(cluster: Cluster, tmp_path: Path, pod: str, evicted: Callable[[], bool] = lambda: False) -> int:
    """Works as the pod would, and tells how it ended. `evicted`: now its node is wanted by somebody else."""
    told = cluster.ask("GET", f"{SPACE}/pods/{pod}")
    (container,) = told["spec"]["containers"]
    env = {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("WORKER_")}
    process = worker(*container["args"], env=env, cwd=tmp_path)
    until(lambda: process.poll() is not None or evicted())
    process.send_signal(signal.SIGTERM)  # to one that has ended it is nothing
    process.wait(told["spec"]["terminationGracePeriodSeconds"])
    code = process.returncode
    state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}}
    ended = {"name": "worker", "state": state, "ready": False, "restartCount": 0, "image": "", "imageID": ""}
    status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [ended]}
    cluster.ask("PATCH", f"{SPACE}/pods/{pod}/status", {"status": status}, MERGE)
    return code


def over(cluster: Cluster, name: str, kind: str, reason: str = "", message: str = "") -> None:
    told = {"type": kind, "status": "True", "reason": reason, "message": message}
    cluster.ask("PATCH", f"{JOBS}/{name}/status", {"status": {"conditions": [told]}}, MERGE)


def stands(name: str = "films") -> str:
    return Kubernetes().standing(Receipts("kubernetes").need(name)).said


def test_from_files_to_answers_and_submitted_twice(cluster: Cluster, verb: Verb, tmp_path: Path) -> None:
    code, said = verb("submit", *asked(tmp_path, workers="2"))
    assert code == 0, said
    assert "3 new items" in said
    assert (
        "leaves out spec.completionMode, spec.backoffLimitPerIndex, spec.podFailurePolicy" in said
    )  # it is of 1.20
    assert jobs(cluster) == ["films-1"]
    assert stands() == "no pod yet"
    code, said = verb("submit", *asked(tmp_path, workers="2"))
    assert (code, jobs(cluster)) == (0, ["films-1"]), said
    assert "3 were there already" in said
    assert "films-1 works already" in said
    code, said = verb("submit", *asked(tmp_path, workers="3"))
    assert (code, jobs(cluster)) == (2, ["films-1"])
    assert "works already, with other settings" in said

    pods = controller(cluster, "films-1")
    assert [kubelet(cluster, tmp_path, pod) for pod in pods] == [1, 1]  # one text is empty
    over(cluster, "films-1", "Failed", "FailedIndexes")
    assert stands() == "2 workers ended, all is done, some items failed"
    code, said = verb("watch", "films", "--fetch")
    assert code == 1, said
    results = json.loads((tmp_path / "run" / "films-results" / "final_results.json").read_text())["results"]
    assert sorted(one["status"] for one in results) == ["failed", "ok", "ok"]
    # all is done: the same once more starts nothing
    code, said = verb("submit", *asked(tmp_path, workers="2"))
    assert (code, jobs(cluster)) == (0, ["films-1"]), said


def test_who_waits_for_a_card_is_told_so_by_the_scheduler_itself(
    cluster: Cluster, verb: Verb, tmp_path: Path
) -> None:
    assert verb("submit", *asked(tmp_path, "t4", gpus="4"))[0] == 0
    controller(cluster, "films-1")
    until(lambda: "Insufficient nvidia.com/gpu" in stands())
    assert stands().startswith("1 waiting (")
    assert verb("delete", "films", "--yes")[0] == 0
    cluster.delete("films-1-0")
    assert verb("submit", *asked(tmp_path, "a100"))[0] == 0
    controller(cluster, "films-1")
    until(lambda: "node(s) didn't match" in stands())
    cluster.delete("films-1-0")
    verb("delete", "films", "--yes")
    assert verb("submit", *asked(tmp_path, "t4"))[0] == 0
    (pod,) = controller(cluster, "films-1")
    assert cluster.bound(pod) == "gpu-1"


def test_who_is_evicted_hands_its_work_to_who_comes_after(
    cluster: Cluster, verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    haste = tmp_path / "haste"
    monkeypatch.setenv("SLEEPY_HASTE", str(haste))
    *words, _ = asked(tmp_path, task="sleepy")
    code, said = verb("submit", *words, "--set", "seconds=0.2", *map(str, range(60)))
    assert (code, "60 new items" in said) == (0, True), said
    (pod,) = controller(cluster, "films-1")
    queue = tmp_path / "queue"
    assert kubelet(cluster, tmp_path, pod, lambda: any((queue / "done").glob("*"))) == 75
    assert 0 < len(answers(queue)) < 60
    assert stands() == "between two pods"
    cluster.delete(pod)
    controller(cluster, "films-1")
    haste.touch()
    assert kubelet(cluster, tmp_path, pod) == 0
    over(cluster, "films-1", "Complete")
    code, said = verb("watch", "films", "--fetch")
    assert code == 0, said
    assert sorted(map(int, answers(queue))) == list(range(60))


def test_cancelled_and_submitted_again_it_is_another_job(
    cluster: Cluster, verb: Verb, tmp_path: Path
) -> None:
    assert verb("submit", *asked(tmp_path))[0] == 0
    code, said = verb("cancel", "films")
    assert (code, "told to stop" in said) == (0, True), said
    assert cluster.ask("GET", f"{JOBS}/films-1")["spec"]["parallelism"] == 0
    assert stands() == "cancelled"
    assert "nobody works on it" in verb("cancel", "films")[1]
    code, said = verb("watch", "films")
    assert (code, "work is left" in said) == (75, True), said
    assert verb("submit", *asked(tmp_path, workers="2"))[0] == 0
    assert jobs(cluster) == ["films-1", "films-2"]
    assert cluster.ask("GET", f"{JOBS}/films-2")["spec"]["completions"] == 2


def test_what_the_time_limit_ended_is_submitted_again_but_not_for_ever(
    cluster: Cluster, verb: Verb, tmp_path: Path
) -> None:
    assert verb("submit", *asked(tmp_path, time_limit="1h"))[0] == 0
    over(cluster, "films-1", "Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    code, said = verb("watch", "films", "--tries", "0")
    assert (code, jobs(cluster)) == (75, ["films-1"]), said
    assert "its time limit is over" in said


def test_it_is_started_once_more_on_the_same_queue(cluster: Cluster, verb: Verb, tmp_path: Path) -> None:
    assert verb("submit", *asked(tmp_path))[0] == 0
    over(cluster, "films-1", "Failed", "DeadlineExceeded")
    receipt = Kubernetes().again(Receipts("kubernetes").need("films"), print)
    assert (jobs(cluster), list(receipt.jobs)) == (["films-1", "films-2"], ["films-1", "films-2"])
    assert Kubernetes().again(receipt, print) == receipt  # that one works


def test_what_keeps_the_cluster_from_making_pods_is_told(
    cluster: Cluster, verb: Verb, tmp_path: Path
) -> None:
    assert verb("submit", *asked(tmp_path))[0] == 0
    why = 'pods "films-1-0" is forbidden: exceeded quota: cards'
    about = {"kind": "Job", "name": "films-1", "namespace": "default"}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "films"}, "involvedObject": about}
    told = {**event, "type": "Warning", "reason": "FailedCreate", "message": why}
    cluster.ask("POST", f"{SPACE}/events", told)
    assert stands() == f"no pod yet ({why})"


@pytest.mark.parametrize("sent", [False, True])
def test_a_submission_that_the_cluster_leaves_at_any_moment_goes_on(
    cluster: Cluster, verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    """`sent`: the question was heard, and its answer lost."""
    plain, left = ApiServer._ask, 0

    def ask(api: ApiServer, *words: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not sent:
            raise Away("nobody answers")
        answer = plain(api, *words, **more)
        if left == 0:
            raise Away("the answer was lost")
        return answer

    monkeypatch.setattr(ApiServer, "_ask", ask)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))  # of somebody whom nothing is refused
    words = asked(tmp_path, service_account="launcher")
    for moment in range(1, 20):
        left = moment
        code, said = verb("submit", *words, "--name", f"films{moment}")
        if code == 0:
            break
        assert code == 75, said
        left = 0
        assert verb("submit", *words, "--name", f"films{moment}")[0] == 0
        receipt = Receipts("kubernetes").need(f"films{moment}")
        assert (list(receipt.jobs), list(receipt.made)) == ([f"films{moment}-1"], [f"job/films{moment}-1"])
    assert moment == 5  # which Jobs there are, the claim, the account, the Job; and then nothing went wrong
    assert len(jobs(cluster)) == moment


def test_a_submission_that_forgot_what_it_made_finds_it_again(
    cluster: Cluster, verb: Verb, tmp_path: Path
) -> None:
    assert verb("submit", *asked(tmp_path))[0] == 0
    file = tmp_path / "run" / "launches" / "kubernetes" / "films.json"
    file.unlink()
    assert verb("submit", *asked(tmp_path))[0] == 0
    assert jobs(cluster) == ["films-1"]
    assert json.loads(file.read_text())["made"] == ["job/films-1"]


def test_what_it_did_not_make_is_neither_taken_nor_deleted(
    cluster: Cluster, verb: Verb, tmp_path: Path
) -> None:
    container = {"name": "main", "image": "none"}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    for name in ("films-1", "other-1"):
        foreign = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}}
        cluster.ask("POST", JOBS, {**foreign, "spec": {"template": template}})
    code, said = verb("submit", *asked(tmp_path))
    assert (code, "not of this launch: choose another --name" in said) == (2, True), said
    code, said = verb("delete", "films", "--yes")
    assert "somebody else's by now" in said
    assert jobs(cluster) == ["films-1", "other-1"]
    code, said = verb("submit", *asked(tmp_path, name="mine"))
    assert verb("delete", "mine", "--yes")[0] == 0
    assert jobs(cluster) == ["films-1", "other-1"]
    assert (tmp_path / "queue" / "run.json").exists()


def test_what_its_pods_would_wait_for_in_vain_is_refused_before_anything_is_made(
    cluster: Cluster, verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))  # of somebody who may ask for Secrets
    code, said = verb("submit", *asked(tmp_path, secret="queue"))
    assert (code, "kubectl create secret generic queue" in said) == (2, True), said
    code, said = verb("submit", *asked(tmp_path, claim=f"none:{tmp_path}"))
    assert (code, "--claim none: no such persistentvolumeclaim" in said) == (2, True), said
    code, said = verb("submit", *asked(tmp_path, context="elsewhere"))
    assert (code, "see KUBECONFIG and --context" in said) == (2, True), said
    assert not jobs(cluster)
    assert not (tmp_path / "queue").exists()
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(_account(cluster))))
    code, said = verb("submit", *asked(tmp_path, namespace="nowhere"))
    assert (code, "the API server forbids it" in said) == (3, True), said
    assert "docs/kubernetes.md" in said


def test_files_are_brought_beside_a_queue_in_a_blob_store(
    cluster: Cluster, verb: Verb, tmp_path: Path, azurite: Any
) -> None:
    queue = f"{azurite.fresh()}/some/queue"
    words = [one for one in asked(tmp_path, queue=queue, identity="client") if one != f"films:{tmp_path}"]
    words.remove("--claim")
    for new in ("3 new items", "3 were there already"):
        code, said = verb("submit", *words)
        assert code == 0, said
        assert new in said
    account = cluster.ask("GET", f"{SPACE}/serviceaccounts/films")
    assert account["metadata"]["annotations"] == {"azure.workload.identity/client-id": "client"}
    (pod,) = controller(cluster, "films-1")
    assert kubelet(cluster, tmp_path, pod) == 1
    code, said = verb("fetch", "films", "--out", "answers")
    results = json.loads((tmp_path / "answers" / "final_results.json").read_text())["results"]
    assert [one["input"] for one in results] == [f"{number}.text" for number in range(3)]
    code, said = verb("delete", "films", "--yes")
    assert cluster.ask("GET", f"{SPACE}/serviceaccounts/films")["kind"] == "Status"
    assert not jobs(cluster)
    file = tmp_path / "run" / "launches" / "kubernetes" / "films.json"
    assert not file.exists()


def test_an_api_server_that_is_away_leaves_all_as_it_is(
    cluster: Cluster, verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verb("submit", *asked(tmp_path))[0] == 0
    config = cluster.kubeconfig(_account(cluster))
    config.write_text(config.read_text().replace(cluster.host, f"https://127.0.0.1:{free_port()}"))
    monkeypatch.setenv("KUBECONFIG", str(config))
    code, said = verb("cancel", "films")
    assert (code, "nothing is lost, run the same command again" in said) == (75, True), said
    assert said.count("\n") == 1
