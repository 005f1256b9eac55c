"""Managers in a real cluster: two at once, killed again and again, with pods that come and go."""

from __future__ import annotations

import base64
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes", reason="the extra kubernetes is not installed")
pytest.importorskip("uvicorn", reason="the extra gpus is not installed")

import httpx
import yaml

from tests import kube
from tests.kube import Cluster, filled, pod, until
from tests.servers import Door, free_port
from worker.gpus import reports
from worker.gpus.forms import TrainingGPUConfig
from worker.gpus.glance import Glance
from worker.gpus.kube import mirror, records
from worker.gpus.kube.book import decode
from worker.gpus.manager import GpuResourceManager
from worker.gpus.refusals import Refusal
from worker.gpus.serving import Kubernetes, open_manager

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "env" / "kubernetes" / "gpus.yaml"
GPU = "nvidia.com/gpu"
A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.memory": "81920"}
NODES = {"gpu-1": 8, "gpu-2": 8, "gpu-3": 4}
PLACES = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/gpus/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/gpus/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/gpus/rolebindings",
    "Deployment": "/apis/apps/v1/namespaces/gpus/deployments",
    "Service": "/api/v1/namespaces/gpus/services",
}
LEDGER = "/api/v1/namespaces/gpus/configmaps/gpu-ledger"

CLIENTS, SERVED, KILLS = 5, 60, 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with kube.cluster(tmp_path_factory.mktemp("kube")) as found:
        for told in yaml.safe_load_all(MANIFEST.read_text()):
            found.ask("POST", PLACES[told["kind"]], told)
        for name, count in NODES.items():
            found.node(name, {GPU: count}, **A100)
        yield found


def token(cluster: Cluster, account: str) -> str:
    told = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"{PLACES['ServiceAccount']}/{account}/token"
    return str(cluster.ask("POST", path, told)["status"]["token"])


@pytest.fixture
def account(cluster: Cluster) -> Path:
    """kubeconfig of the manifest's account, and what it may do is all that a manager may."""
    return cluster.kubeconfig(token(cluster, "gpu-manager"), "gpus")


@contextmanager
def manager_here(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GpuResourceManager]:
    monkeypatch.setenv("KUBECONFIG", str(config))
    manager = open_manager(None, None, None, Kubernetes())
    try:
        yield manager
    finally:
        manager.close()


def test_an_account_without_the_role_is_told_what_it_lacks(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "GRACE_S", 0.0)
    nobody = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
    cluster.ask("POST", PLACES["ServiceAccount"], nobody)
    with manager_here(cluster.kubeconfig(token(cluster, "nobody"), "gpus"), monkeypatch) as manager:
        with pytest.raises(Refusal) as refused:
            manager.wait_ready(60)
        assert "not ready" in str(refused.value)
        until(lambda: "forbids it" in manager.trouble)
        assert "env/kubernetes/gpus.yaml" in manager.trouble


def test_what_happens_to_nodes_is_seen_and_told_with_the_reason(
    cluster: Cluster, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def troubles() -> set[str]:
        return {card["trouble"] for card in reports.monitoring(manager.ask(Glance.of).result(30))["cards"]}

    def change(what: dict[str, Any], part: str = "") -> None:
        cluster.ask("PATCH", f"/api/v1/nodes/gpu-9{part}", what, kube.MERGE)

    cluster.node("gpu-9", {"nvidia.com/mig-1g.10gb": 3}, **A100)
    with manager_here(account, monkeypatch) as manager:
        manager.wait_ready(60)
        ask = TrainingGPUConfig(gpu_count=3, gpu_type="A100", memory_gb=10, node_name="gpu-9")
        until(lambda: manager.validate(ask).result(30))
        change({"spec": {"unschedulable": True}})
        until(lambda: "cordoned: kubectl uncordon gpu-9" in troubles())
        with pytest.raises(Refusal, match="never here"):
            manager.allocate(ask).result(30)
        change({"spec": {"unschedulable": None}})
        until(lambda: troubles() == {""})
        change({"status": {"allocatable": {"nvidia.com/mig-1g.10gb": "2"}}}, "/status")
        until(lambda: "the device plugin offers 2 of 3 nvidia.com/mig-1g.10gb" in troubles())
        cluster.ask("DELETE", "/api/v1/nodes/gpu-9")
        until(lambda: manager.ask(reports.status).result(30)["total_nodes"] == len(NODES))


def test_an_api_server_that_was_away_costs_nothing(
    cluster: Cluster, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PATIENCE_S", 0.5)
    door = Door(int(cluster.host.rpartition(":")[2]))
    account.write_text(account.read_text().replace(cluster.host, f"https://127.0.0.1:{door.port}"))
    with manager_here(account, monkeypatch) as manager:
        manager.wait_ready(60)
        made = manager.allocate(TrainingGPUConfig(gpu_count=2, node_name="gpu-3")).result(30)
        door.shut()
        with pytest.raises(Refusal, match="not ready: the API server does not answer"):
            manager.allocate(TrainingGPUConfig()).result(60)
        cluster.start(pod("while-away", GPU, 1, on="gpu-1"))
        door.open()

        def seen() -> bool:
            with suppress(Refusal):
                return "default/while-away" in str(reports.monitoring(manager.ask(Glance.of).result(30)))
            return False

        until(seen)
        assert manager.ask(lambda ledger: ledger.get(made.id)).result(30).cards == made.cards
        manager.release(made.id).result(30)
        cluster.delete("while-away")
    door.shut()


# two at once


class Street:
    """Clients go side by side; a stranger waits until nobody is between his answer and his pod's node.

    For between those two the scheduler knows nothing of what was answered."""

    def __init__(self) -> None:
        self._inside = 0
        self._wanted = False
        self._free = threading.Condition()

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._free:
            self._free.wait_for(lambda: not self._wanted)
            self._inside += 1
        try:
            yield
        finally:
            with self._free:
                self._inside -= 1
                self._free.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._free:
            self._wanted = True
            self._free.wait_for(lambda: not self._inside)
            try:
                yield
            finally:
                self._wanted = False
                self._free.notify_all()


class Manager:
    def __init__(self, folder: Path, config: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/v1/gpu"
        self._folder = folder
        folder.mkdir()
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), "KUBECONFIG": str(config)}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "worker", "gpus", "serve", "--kubernetes", "--port", str(self.port)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, env=self._env, stderr=log)

    def ready(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health", timeout=60).status_code == 200
        return False

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def sees(self, name: str) -> bool:
        with suppress(httpx.TransportError):
            return name in httpx.get(f"{self.url}/monitoring", timeout=60).text
        return False


class Storm:
    def __init__(self, cluster: Cluster, managers: list[Manager]) -> None:
        self.cluster = cluster
        self.managers = managers
        self.street = Street()
        self.ending = threading.Event()
        self.served = 0
        self.wrong: list[str] = []
        self.versions: Counter[str] = Counter()

    def guarded(self, what: Any, *about: Any) -> threading.Thread:
        def run() -> None:
            try:
                what(*about)
            except BaseException as error:
                self.wrong.append(repr(error))
                self.ending.set()
                raise

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def client(self, number: int) -> None:
        luck = random.Random(number)
        with httpx.Client(timeout=60) as client:
            turn = 0
            while not self.ending.is_set():
                turn += 1
                with self.street.shared():
                    made, pods = self.take(client, luck, f"{number}-{turn}")
                if made:
                    self.served += 1
                    self.give_back(client, luck, made, pods)

    def take(self, client: httpx.Client, luck: random.Random, key: str) -> tuple[str, list[str]]:
        count = luck.randint(1, 3)
        asked = {"gpu_count": count, "members": luck.choice([1, 1, 1, 2]), "gpu_type": "A100", "wait_s": 3}
        made = self.ask(client, luck, "POST", "allocate", {**asked, "lease_s": 8}, key)
        if made is None:
            return "", []
        config = made["gpu_config"]
        assert sum(one["count"] for one in config["pods"]) == count * asked["members"]
        if luck.random() < 0.3:
            return made["allocation_id"], []  # held, and not used
        names = [f"c{key}-{at}" for at in range(len(config["pods"]))]
        for name, one in zip(names, config["pods"], strict=True):
            self.cluster.start(filled(name, one["fragment"]))
        for name, one in zip(names, config["pods"], strict=True):
            assert self.cluster.bound(name) == one["node_name"], (name, one)
        return made["allocation_id"], names

    def give_back(self, client: httpx.Client, luck: random.Random, made: str, pods: list[str]) -> None:
        if luck.random() < 0.3:
            self.ask(client, luck, "POST", f"allocations/{made}/renew")
        if luck.random() < 0.08:  # it dies, and its pods run on
            threading.Timer(2, lambda: [self.cluster.delete(name) for name in pods]).start()
            return
        for name in pods:
            self.cluster.delete(name)
        if luck.random() < 0.95:
            self.ask(client, luck, "DELETE", f"allocations/{made}")

    def ask(
        self,
        client: httpx.Client,
        luck: random.Random,
        method: str,
        path: str,
        body: Any = None,
        key: str = "",
    ) -> dict[str, Any] | None:
        """Of any manager, until one answers."""
        headers = {"Idempotency-Key": key} if key else {}
        while True:
            url = luck.choice(self.managers).url
            with suppress(httpx.TransportError):
                answer = client.request(method, f"{url}/{path}", json=body, headers=headers)
                if answer.status_code != 503:
                    assert answer.status_code in (200, 404, 409), answer.text
                    told: dict[str, Any] = answer.json()
                    return told if answer.status_code == 200 else None
            time.sleep(0.05)

    def stranger(self) -> None:
        """Somebody who asks nobody, and takes what neither is held nor used."""
        luck, number = random.Random(99), 0
        while not self.ending.wait(0.3):
            number += 1
            name = f"stranger-{number}"
            with self.street.alone():
                free = [node for node, count in self.free().items() if count > 0]
                if not free:
                    continue
                self.cluster.start(pod(name, GPU, 1, on=luck.choice(free)))
                until(lambda name=name: all(one.sees(f"default/{name}") for one in self.managers))  # type: ignore[misc]
            self.ending.wait(0.5)
            self.cluster.delete(name)

    def free(self) -> Counter[str]:
        """By node, as a stranger counts: neither held, nor had by a pod whose allocation has ended."""
        book, _ = self.ledger()
        left = Counter(NODES)
        left.subtract(card.node for one in book.allocations.values() for card in one.cards)
        for told in self.cluster.ask("GET", "/api/v1/namespaces/default/pods")["items"]:
            if told["metadata"].get("labels", {}).get("gpu-batch-worker/allocation") not in book.allocations:
                limits = told["spec"]["containers"][0]["resources"]["limits"]
                left[told["spec"].get("nodeName", "")] -= int(limits[GPU])
        return left

    def ledger(self) -> Any:
        told = self.cluster.ask("GET", LEDGER)
        return decode(base64.b64decode(told["binaryData"]["ledger"]), 0.0), told["metadata"][
            "resourceVersion"
        ]

    def watcher(self) -> None:
        """Reads what is written, version after version, and counts."""
        while not self.ending.is_set():
            book, version = self.ledger()
            self.versions[version] += 1
            slots = Counter(card.uuid for one in book.allocations.values() for card in one.cards)
            assert not slots or max(slots.values()) == 1, slots
            for one in book.allocations.values():
                assert len(one.cards) == one.request.total, one
            held = Counter(card.node for one in book.allocations.values() for card in one.cards)
            assert all(held[node] <= count for node, count in NODES.items()), held
            time.sleep(0.01)


def test_two_managers_at_once_killed_again_and_again_never_give_more_than_there_is_and_lose_nothing(
    cluster: Cluster, account: Path, tmp_path: Path
) -> None:
    managers = [Manager(tmp_path / f"manager-{number}", account) for number in range(2)]
    storm = Storm(cluster, managers)
    threads: list[threading.Thread] = []
    try:
        until(lambda: all(one.ready() for one in managers))
        threads = [storm.guarded(storm.client, number) for number in range(CLIENTS)]
        threads += [storm.guarded(storm.stranger), storm.guarded(storm.watcher)]
        for number in range(KILLS):
            due = SERVED * (number + 1) // (KILLS + 1)
            until(lambda due=due: storm.served >= due or storm.ending.is_set(), 200)  # type: ignore[misc]
            managers[number % 2].kill()
            managers[number % 2].start()
        until(lambda: storm.served >= SERVED or storm.ending.is_set(), 200)
        storm.ending.set()
        for thread in threads:
            thread.join(120)
        assert not storm.wrong
        assert len(storm.versions) > SERVED

        def all_is_free() -> bool:
            with suppress(httpx.TransportError):
                told = httpx.get(f"{managers[0].url}/status", timeout=60).json()
                return (told.get("allocations"), told.get("available_gpus")) == (0, sum(NODES.values()))
            return False

        until(all_is_free, 60)
    finally:
        storm.ending.set()
        for thread in threads:
            thread.join(120)
        for one in managers:
            one.kill()
